/** `naru dlq redrive` and `naru dlq purge`: prints what a run does as it does it, and how to go on when it is interrupted. */
import { delay, systemTimers } from '@naru/base';
import { DeadLetterService, type DeadLetter } from '@naru/protocol/proto';
import { CommandFailure } from '../command-failure.ts';
import { withBroker, type BrokerLink } from '../connection.ts';
import { INTERRUPTED_EXIT_CODE, listenForInterruption } from '../interruption.ts';
import type { SharedOptions } from '../options.ts';
import { DataOutput } from '../output/data-output.ts';
import { jsonLine } from '../output/json.ts';
import { printable } from '../output/printable.ts';
import { Progress } from '../output/progress.ts';
import { say, type Terminal } from '../terminal.ts';
import {
  BEGINNING,
  cursorText,
  runBulk,
  type BulkCursor,
  type BulkOptions,
  type BulkOutcome,
  type BulkStep,
} from './bulk-run.ts';
import { deadLetterJson, deadLetterLine } from './dead-letter-output.ts';
import { wireFilter, type FilterOptions } from './filter-options.ts';

export interface BulkCommandOptions extends SharedOptions, FilterOptions {
  readonly all?: true;
  readonly limit?: number;
  readonly resume?: BulkCursor;
  /** Of redrives. */
  readonly rate?: number;
  readonly dryRun?: true;
  /** Of purges. */
  readonly execute?: true;
}

/** What differs between the two. */
interface BulkWork {
  /** `redriven`, `purged`. */
  readonly did: string;
  readonly isDry: boolean;
  /** How a run that only said what it would do is made to do it. */
  readonly advice: string;
  readonly rate: number;
  readonly step: (broker: BrokerLink) => BulkOptions<DeadLetter>['step'];
}

export async function redrive(
  group: string,
  ids: readonly string[],
  options: BulkCommandOptions,
  terminal: Terminal,
): Promise<void> {
  const filter = wireFilter(group, ids, options);
  const isDry = options.dryRun === true;
  await run(options, terminal, {
    did: 'redriven',
    isDry,
    advice: 'without --dry-run it does it',
    rate: options.rate ?? Infinity,
    step: (broker) => async (at, limit) => {
      const request = { filter, limit, ...at, dryRun: isDry };
      const answer = await broker.call(DeadLetterService.method.redriveDeadLetters, request, broker.limit());
      const refused = answer.refused.map(({ id, error }) => ({
        id,
        code: error?.code ?? 'INTERNAL',
        message: error?.message ?? '',
      }));
      return { done: answer.redriven, refused, nextCursor: answer.nextCursor, untilMs: answer.untilMs };
    },
  });
}

export async function purge(
  group: string,
  ids: readonly string[],
  options: BulkCommandOptions,
  terminal: Terminal,
): Promise<void> {
  const filter = wireFilter(group, ids, options);
  const isDry = options.execute !== true;
  await run(options, terminal, {
    did: 'purged',
    isDry,
    advice: '--execute does it',
    rate: Infinity,
    step: (broker) => async (at, limit) => {
      const request = { filter, limit, ...at, dryRun: isDry };
      const answer = await broker.call(DeadLetterService.method.purgeDeadLetters, request, broker.limit());
      return { done: answer.purged, refused: [], nextCursor: answer.nextCursor, untilMs: answer.untilMs };
    },
  });
}

async function run(options: BulkCommandOptions, terminal: Terminal, work: BulkWork): Promise<void> {
  using interruption = listenForInterruption();
  const { signal } = interruption;
  const output = new DataOutput(terminal);
  const progress = new Progress(terminal, terminal.stdout.isTTY !== true);
  const from = options.resume ?? BEGINNING;
  let outcome: BulkOutcome = { done: 0, refused: 0, next: from };
  const report = async (step: BulkStep<DeadLetter>, now: BulkOutcome): Promise<boolean> => {
    outcome = now;
    progress.update(() => `${now.done} ${work.did}`);
    const isRead = await output.write(stepText(step, work, options));
    if (step.refused.length > 0) progress.clear();
    for (const { id, code, message } of step.refused) say(terminal, `refused: ${id}: ${printable(message)} (${code})`);
    return isRead;
  };
  try {
    await withBroker(terminal, options, (broker) =>
      runBulk({
        step: work.step(broker),
        from,
        limit: options.limit ?? Infinity,
        rate: work.isDry ? Infinity : work.rate,
        report,
        clock: terminal.clock,
        wait: (ms, until) => delay(systemTimers, ms, until).catch(() => {}),
        signal,
      }),
    );
  } catch (error) {
    progress.clear();
    // Without a step there is nothing to go on from.
    if (outcome.next !== from && outcome.next !== null) say(terminal, resumption(outcome.next));
    throw error;
  }
  progress.clear();
  say(terminal, summary(outcome, work));
  if (outcome.next !== null) say(terminal, resumption(outcome.next));
  if (outcome.next !== null && signal.aborted) throw new CommandFailure(INTERRUPTED_EXIT_CODE);
  if (outcome.refused > 0) throw new CommandFailure(1);
}

function stepText({ done, refused }: BulkStep<DeadLetter>, work: BulkWork, options: BulkCommandOptions): string {
  if (options.output !== 'json') return done.map(deadLetterLine).join('');
  const what = work.isDry ? `would be ${work.did}` : work.did;
  const lines = [
    ...done.map((letter) => jsonLine({ what, deadLetter: deadLetterJson(letter) })),
    ...refused.map(({ id, code, message }) => jsonLine({ what: 'refused', id, error: { code, message } })),
  ];
  return lines.join('');
}

function summary({ done, refused }: BulkOutcome, work: BulkWork): string {
  const count = `${done} ${done === 1 ? 'dead letter' : 'dead letters'}`;
  const others = refused === 0 ? '' : `, ${refused} refused`;
  if (!work.isDry) return `${work.did} ${count}${others}`;
  return `${count} would be ${work.did}${others}; nothing was changed: ${work.advice}`;
}

function resumption(next: BulkCursor): string {
  return `not everything was looked at; go on with the same options and --resume ${cursorText(next)}`;
}
