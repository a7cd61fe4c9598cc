/** What torture tests have in common: sizes, the plan of what is done when, and the report. */
import { onTestFinished } from 'vitest';
import type { HistoryChecker, HistoryReport, PipelineChecker, PipelineReport, SeededRandom } from '@naru/testkit';
import type { Torture } from './torture.ts';
import { isInput } from './values.ts';

const IS_LONG = process.env['NARU_TEST_LONG'] === '1';
/** In all torture tests: issue F's numbers, and a hundredth of them in the normal run. */
const LONG_FACTOR = 100;
/** `NARU_TEST_TORTURE` makes the run another part of the long one, 0 to 1. */
const PART = Number(process.env['NARU_TEST_TORTURE'] ?? (IS_LONG ? 1 : 1 / LONG_FACTOR));

/** @param long how many in the long run */
export function sized(long: number): number {
  return Math.ceil(long * PART);
}

/** Ends everything with the test; when that has failed, it says first what everybody was at, and what is wrong or missing by then. */
export function closeAtEnd(torture: Torture, history: HistoryChecker, pipeline: PipelineChecker): void {
  onTestFinished(async ({ task }) => {
    if (task.result?.state === 'fail') {
      // oxlint-disable-next-line no-console -- a run that does not end has nothing else to go by
      console.log(await torture.describe());
      // What was under way counts as torn, or missing.
      judge('unfinished', 0, torture, history, pipeline);
    }
    await torture.close();
  });
}

/** Things done to clients and broker, with how often each comes in ten. */
export type Plan = Readonly<Record<string, { readonly share: number; readonly act: () => Promise<void> }>>;

/** Does things of the plan until writers have ended so many transactions, about evenly, `times` in all. */
export async function torment(
  torture: Torture,
  random: SeededRandom,
  plan: Plan,
  { transactions, times }: { readonly transactions: number; readonly times: number },
): Promise<void> {
  const kinds = Object.keys(plan).flatMap((name) => Array<string>(plan[name]?.share ?? 0).fill(name));
  const order = Array.from({ length: times }, (_, index) => kinds[index % kinds.length] as string);
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j] as string, order[i] as string];
  }
  for (const [index, name] of order.entries()) {
    const share = transactions / times;
    const wanted = Math.floor(index * share) + random.integer(Math.ceil(share));
    torture.phase = `waiting for ${wanted} transactions`;
    await torture.until(() => torture.transactions >= wanted);
    torture.phase = `${name}, at ${torture.transactions} transactions`;
    await plan[name]?.act();
  }
  torture.phase = `waiting for ${transactions} transactions`;
  await torture.until(() => torture.transactions >= transactions);
}

export interface TortureReport {
  readonly history: HistoryReport;
  readonly pipeline: PipelineReport;
}

/** Says what happened, which is chance. */
export function judge(
  name: string,
  seed: number,
  torture: Torture,
  history: HistoryChecker,
  pipeline: PipelineChecker,
): TortureReport {
  const report = history.check();
  const made = pipeline.check(inputsOf(history));
  const { violations, ...counts } = report;
  const { violations: wrong, ...outputs } = made;
  const { done, ended, recounted, notes } = torture;
  // oxlint-disable-next-line no-console -- what the kills hit is chance: the run says what it was
  console.log(JSON.stringify({ name, seed, ...done, notes, ended, recounted, ...counts, pipeline: outputs }));
  for (const { kind, message } of [...violations, ...wrong]) {
    // oxlint-disable-next-line no-console -- the assertion shows only the first ones
    console.log(`${kind}: ${message}`);
  }
  return { history: report, pipeline: made };
}

function* inputsOf(history: HistoryChecker): Iterable<number> {
  for (const value of history.readValues()) if (isInput(value)) yield value;
}
