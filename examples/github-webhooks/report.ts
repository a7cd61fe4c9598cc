/** The summary at the end, and the verdict. */
import type { GroupAccount } from './delivery-account.ts';
import type { PoisonOutcome } from './poison.ts';
import { number } from './progress.ts';
import { traceLines } from './trace-lines.ts';

export interface GroupOutcome extends GroupAccount {
  readonly mostMembers: number;
  /** Events that the group's committed offsets leave over. */
  readonly lag: bigint;
  readonly summary: string;
}

export interface Outcome {
  readonly published: number;
  readonly keys: number;
  /** Acknowledged as durable. */
  readonly acknowledged: number;
  /** Given up by the publisher, and the first reason. */
  readonly failed: number;
  readonly firstFailure: string | undefined;
  /** Events that are in the log. */
  readonly stored: bigint;
  /** Bytes of the log. */
  readonly storedBytes: bigint;
  /** Events that are in the log at more than one place. */
  readonly duplicates: number;
  readonly groups: readonly GroupOutcome[];
  /** What became of the payload that broke a service; null when nobody knows. */
  readonly poison: PoisonOutcome | null;
  /** From the kill to serving again. */
  readonly restartMs: number;
  readonly publishMs: number;
  readonly totalMs: number;
}

const MIB = 1024 * 1024;
/** Keys that are named in the verdict. */
const MAX_NAMED_KEYS = 3;

/** What went wrong, a sentence each; nothing when all is well. */
export function problems(outcome: Outcome): string[] {
  const found: string[] = [];
  const { published, acknowledged, failed, firstFailure, stored, duplicates } = outcome;
  if (failed > 0) found.push(`${number(failed)} events could not be published: ${firstFailure}`);
  if (acknowledged + failed < published) {
    found.push(`${number(published - acknowledged - failed)} events were neither acknowledged nor given up`);
  }
  if (stored < BigInt(acknowledged)) {
    found.push(`${number(acknowledged)} events were acknowledged, but the log holds ${number(Number(stored))}`);
  }
  const surplus = Math.max(duplicates, Number(stored) - published);
  if (surplus > 0) found.push(`${number(surplus)} events are in the log more than once`);
  const unprocessed = outcome.poison?.trace.groups.filter(({ state }) => state !== 'processed');
  if (unprocessed === undefined) found.push('the dead letter was not redriven');
  for (const { group, state } of unprocessed ?? []) found.push(`the redriven dead letter is ${state} in ${group}`);
  for (const { group, handled, violations, lag } of outcome.groups) {
    if (handled < published) found.push(`${group} lost ${number(published - handled)} events`);
    if (violations.size > 0) {
      const keys = [...violations].slice(0, MAX_NAMED_KEYS).map(([key, count]) => `${key} (${count})`);
      found.push(
        `${group} got events out of order, by key: ${keys.join(', ')}${violations.size > keys.length ? '…' : ''}`,
      );
    }
    if (lag !== 0n) found.push(`${group} has left ${lag} events uncommitted`);
  }
  return found;
}

export function report(outcome: Outcome): string {
  const { published, keys, groups, restartMs, publishMs, totalMs } = outcome;
  const found = problems(outcome);
  const header = ['group', 'members', 'handled', 'lost', 'out of order', 'repeated'];
  const rows = groups.map(({ group, mostMembers, handled, violations, repeated }) => {
    const outOfOrder = [...violations.values()].reduce((sum, count) => sum + count, 0);
    return [
      group,
      String(mostMembers),
      number(handled),
      number(published - handled),
      number(outOfOrder),
      number(repeated),
    ];
  });
  const handled = groups.reduce((sum, group) => sum + group.handled + group.repeated, 0);
  const verdict =
    found.length === 0
      ? ['All is well: nothing lost, nothing out of order, nothing twice in the log.']
      : found.map((problem) => `WRONG: ${problem}`);
  return [
    '',
    `published     ${number(outcome.acknowledged)} events of ${keys} keys, acknowledged; in the log: ${number(Number(outcome.stored))}`,
    `duplicates    ${number(outcome.duplicates)} in the log`,
    `broker        killed with SIGKILL under load, serving again after ${(restartMs / 1000).toFixed(2)} s`,
    `throughput    published ${rate(published, publishMs)}, handled ${rate(handled, totalMs)}; log ${mebibytes(outcome.storedBytes)}`,
    `time          ${(totalMs / 1000).toFixed(1)} s`,
    '',
    ...table([header, ...rows]),
    '',
    'Repeated: delivered again because a member left or the broker died before the commit arrived. At-least-once',
    'delivery allows that; in each case the key goes back and comes up again in order, which is checked as well.',
    '',
    ...groups.map(({ group, summary }) => `${group.padEnd(16)}${summary}`),
    '',
    ...poisonLines(outcome.poison),
    ...verdict,
    '',
  ].join('\n');
}

function poisonLines(poison: PoisonOutcome | null): string[] {
  if (poison === null) return [];
  const { requestId, attempts, reason, parkedBehind, trace } = poison;
  return [
    `One payload broke the notifier: a dead letter after ${attempts} attempts (${reason}). ${parkedBehind} event of its key waited behind`,
    'it, until the notifier was repaired and the dead letter redriven. What became of it:',
    '',
    `  naru trace ${requestId}`,
    ...traceLines(trace).map((line) => `  ${line}`),
    '',
  ];
}

function rate(count: number, ms: number): string {
  return `${number(Math.round(count / (ms / 1000)))}/s`;
}

function mebibytes(bytes: bigint): string {
  return `${number(Math.round(Number(bytes) / MIB))} MiB`;
}

/** The first column to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('   '),
  );
  const rule = widths.map((width) => '─'.repeat(width)).join('───');
  return [lines[0] ?? '', rule, ...lines.slice(1)];
}
