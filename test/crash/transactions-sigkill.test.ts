/**
 * Writers of the SDK with transactions and without, exactly-once pipelines, and readers, while the broker, writers and members of
 * the pipeline's group are killed with SIGKILL, stand still for longer than their time-outs, leave and come; in the end every
 * history is checked: what was acknowledged or committed is there once and in order, what was aborted was read by nobody, no
 * transaction was read in part or too early, and the pipeline has made one output of every input.
 *
 * `NARU_TEST_SEED` repeats a run's plan; what it hits is the machine's doing.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { HistoryChecker, PipelineChecker, SeededRandom } from '@naru/testkit';
import { SHARED, TAIL } from './torture/readers.ts';
import type { Slot } from './torture/torture.ts';
import { Torture } from './torture/torture.ts';
import { closeAtEnd, judge, sized, torment } from './torture/torture-run.ts';
import { LANES } from './torture/values.ts';

const PIPELINES = ['sdk-pipeline', 'sdk-poll-pipeline'] as const;
const TRANSACTIONS = sized(120_000);
const ACTS = Math.max(10, sized(400));
const SLOTS: readonly Slot[] = [
  { role: 'sdk-writer', name: 'writer-1', lanes: 8 },
  { role: 'sdk-writer', name: 'writer-2', lanes: 8 },
  { role: 'sdk-pipeline', name: 'pipeline-1', lanes: 0 },
  { role: 'sdk-pipeline', name: 'pipeline-2', lanes: 0 },
  { role: 'sdk-poll-pipeline', name: 'pipeline-3', lanes: 0 },
];

test(`${TRANSACTIONS} transactions are whole and pipelines exact through ${ACTS} kills and rebalances`, async () => {
  const seed = Number(process.env['NARU_TEST_SEED'] ?? Date.now() % 1_000_000);
  const random = new SeededRandom(seed);
  const directory = await mkdtemp(join(tmpdir(), 'naru-torture-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  const history = new HistoryChecker([TAIL, SHARED]);
  const pipeline = new PipelineChecker(LANES);
  const torture = new Torture({
    directory,
    history,
    pipeline,
    random: random.fork(),
    slots: SLOTS,
    maxValues: 50,
    transactionTimeoutMs: 10_000,
  });
  closeAtEnd(torture, history, pipeline);
  await torture.start();
  await torture.populate();

  const plan = {
    killBroker: { share: 2, act: () => torture.killBroker() },
    freezeBroker: { share: 1, act: () => torture.freezeBroker() },
    killWriter: { share: 1, act: () => torture.killClient(['sdk-writer']) },
    killPipeline: { share: 2, act: () => torture.killClient(PIPELINES) },
    freezePipeline: { share: 1, act: () => torture.freezeClient(PIPELINES) },
    replacePipeline: { share: 1, act: () => torture.replaceClient(PIPELINES) },
    changeMembers: { share: 2, act: () => torture.changeMembers() },
  };
  await torment(torture, random, plan, { transactions: TRANSACTIONS, times: ACTS });
  await torture.finish();

  const report = judge('sigkill', seed, torture, history, pipeline);
  expect(report.history.violations).toEqual([]);
  expect(report.pipeline.violations).toEqual([]);
  expect(torture.recounted).toBe(report.history.read);
  expect(report.history.transactions.committed).toBeGreaterThan(TRANSACTIONS / 2);
  await torture.broker.stop();
});
