/** What settling records of a parallel topic adds to the ledger, and which of what was said of single records took effect. */
import type { PartitionKey } from '@naru/base';
import type { GroupDecision } from './commands.ts';
import type { CommittedOffset, GroupRecord, GroupState, OffsetRange } from './group-state.ts';
import type { QueueSettleCommand, QueueSettleReply, RecordSettlement } from '../queue/queue-commands.ts';
import type { QueueState } from '../queue/queue-state.ts';
import { entriesOfHeld } from './ledger-held-entries.ts';
import type { LedgerChange, LedgerEntry } from '../ledger/ledger-codec.ts';
import { newlyFinished } from '../ledger/newly-finished.ts';

export interface SettledRecord {
  readonly partition: PartitionKey;
  readonly offset: number;
  readonly settlement: RecordSettlement;
}

export function settlementChanges(
  state: GroupState | undefined,
  command: QueueSettleCommand,
  decision: GroupDecision<QueueSettleReply>,
  nowMs: number,
): LedgerChange[] {
  const held = entriesOfHeld(state, decision.records);
  const noted = new Map<PartitionKey, LedgerEntry[]>();
  for (const { partition, offset, settlement } of settledRecords(state, command, decision, isNoteworthy)) {
    if (held.get(partition)?.some((entry) => entry.offset === offset)) continue;
    const failures = runAt(state?.queues.get(partition), offset)?.failures ?? 0;
    const { kind, durationMs, note, reason, error, delayMs } = settlement;
    const outcome = kind === 'accept' ? 'processed' : 'failed';
    const entry = { offset, outcome, attempts: failures + 1, durationMs, note, reason, error } as const;
    let entries = noted.get(partition);
    if (entries === undefined) noted.set(partition, (entries = []));
    entries.push({ ...entry, nextAttemptMs: outcome === 'failed' && delayMs > 0 ? nowMs + delayMs : 0 });
  }
  const changes: LedgerChange[] = [];
  for (const { partition, records } of command.partitions) {
    const finished = queueFinished(state?.queues.get(partition), queueAfter(decision.records, partition));
    const entries = [...(noted.get(partition) ?? []), ...(held.get(partition) ?? [])].sort(
      (a, b) => a.offset - b.offset,
    );
    if (records.length === 0 || (finished.length === 0 && entries.length === 0)) continue;
    changes.push({ partition, memberId: command.memberId, finished, entries });
  }
  return changes;
}

/** Records of a settlement that were given out and not refused, one by one. */
export function* settledRecords(
  state: GroupState | undefined,
  { partitions }: QueueSettleCommand,
  { reply }: GroupDecision<QueueSettleReply>,
  wanted: (settlement: RecordSettlement) => boolean,
): Generator<SettledRecord> {
  if ('code' in reply) return;
  for (const { partition, records } of partitions) {
    const refused = reply.refused.filter((refusal) => refusal.partition === partition);
    for (const settlement of records) {
      if (!wanted(settlement)) continue;
      for (const offset of givenOut(state?.queues.get(partition), settlement)) {
        if (refused.some(({ from, to }) => offset >= from && offset < to)) continue;
        yield { partition, offset, settlement };
      }
    }
  }
}

/** Offsets of the range that somebody has. The range itself may be of any length. */
function* givenOut(queue: QueueState | undefined, { from, to }: RecordSettlement): Generator<number> {
  for (const offset of queue?.heldLocks.keys() ?? []) if (offset >= from && offset < to) yield offset;
  for (const run of queue?.runs ?? []) {
    if (run.state !== 'acquired') continue;
    for (let offset = Math.max(run.from, from); offset < Math.min(run.to, to); offset++) yield offset;
  }
}

/** The run that holds the offset; undefined when none does. */
export function runAt(queue: QueueState | undefined, offset: number): QueueState['runs'][number] | undefined {
  return queue?.runs.find(({ from, to }) => offset >= from && offset < to);
}

/** That all went well is what ranges say. */
function isNoteworthy({ kind, note }: RecordSettlement): boolean {
  if (kind === 'accept') return note !== '';
  return kind === 'fail' || kind === 'reject';
}

function queueAfter(records: readonly GroupRecord[], partition: PartitionKey): QueueState | undefined {
  for (const record of records) {
    if (record.kind === 'queue' && record.partition === partition && record.value !== null) return record.value;
  }
  return undefined;
}

function queueFinished(before: QueueState | undefined, after: QueueState | undefined): OffsetRange[] {
  if (before === undefined || after === undefined) return [];
  return newlyFinished(asOffset(before), asOffset(after), before.startOffset);
}

function asOffset({ startOffset, runs }: QueueState): Pick<CommittedOffset, 'offset' | 'finished'> {
  const finished = runs.flatMap(({ from, to, state }): OffsetRange[] => (state === 'finished' ? [[from, to]] : []));
  return { offset: startOffset, finished };
}
