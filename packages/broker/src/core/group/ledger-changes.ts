/**
 * What a decision about a group adds to the ledger: one record for each partition in which something was finished or failed.
 *
 * Only the difference to what was finished before is told, so that a commit of thousands of events that all went well costs one
 * small record, and a group that commits what it has committed costs nothing.
 *
 * Pure. Owns no state: where the ledger has what (ledger-marks.ts) is the group's.
 */
import { splitPartitionKey, type PartitionKey } from '@naru/base';
import type { RecordInput } from '@naru/protocol/batch';
import type {
  CommitCommand,
  CommitReply,
  EventOutcome,
  GroupCommand,
  GroupContext,
  GroupDecision,
  OffsetCommit,
} from './commands.ts';
import type { CommittedOffset, GroupRecord, GroupState, OffsetRange } from './group-state.ts';
import type { QueueSettleReply } from '../queue/queue-commands.ts';
import { cutText, entriesOfHeld } from './ledger-held-entries.ts';
import {
  encodeLedgerKey,
  encodeLedgerRecord,
  type LedgerChange,
  type LedgerEntry,
  type LedgerRecord,
} from '../ledger/ledger-codec.ts';
import { noteLedgerEntry, type LedgerMarks } from '../ledger/ledger-marks.ts';
import { newlyFinished } from '../ledger/newly-finished.ts';
import { settlementChanges } from './ledger-settlements.ts';
import { pendingAsCommit } from './transaction-offsets.ts';

/** Of what is said of single events in one record; more is split into several. */
const MAX_ENTRY_BYTES = 128 * 1024;
/** Commands that take held events away without anything having become of them. */
const FORGETTING: ReadonlySet<GroupCommand['type']> = new Set([
  'commit',
  'reset-offsets',
  'delete-offsets',
  'delete-group',
  'delete-offsets-of-topic',
]);

/** The decision with what it adds to the ledger; itself when that is nothing, or the ledger is not used. */
export function withLedger<Reply extends object>(
  state: GroupState | undefined,
  command: GroupCommand,
  decision: GroupDecision<Reply>,
  context: GroupContext,
  nowMs: number,
): GroupDecision<Reply> {
  if (command.type === 'delete-group' || command.type === 'delete-offsets-of-topic') {
    return withoutMarks(state, command, decision);
  }
  // What is said of events may come without a record of the group's: a failure that the member retries itself.
  if (decision.records.length === 0 && command.type !== 'commit') return decision;
  if ((context.ledger?.() ?? null) === null || 'code' in decision.reply) return decision;
  return addToLedger(state, command.groupId, decision, changesOf(state, command, decision, nowMs), context, nowMs);
}

function changesOf<Reply extends object>(
  state: GroupState | undefined,
  command: GroupCommand,
  decision: GroupDecision<Reply>,
  nowMs: number,
): LedgerChange[] {
  if (command.type === 'commit') {
    return commitChanges(state, command, decision as unknown as GroupDecision<CommitReply>);
  }
  if (command.type === 'end-transaction') {
    const commit = pendingAsCommit(state, command);
    return commit === null ? [] : commitChanges(state, commit, decision as unknown as GroupDecision<CommitReply>);
  }
  if (command.type === 'queue-settle') {
    return settlementChanges(state, command, decision as unknown as GroupDecision<QueueSettleReply>, nowMs);
  }
  if (FORGETTING.has(command.type)) return [];
  return [...entriesOfHeld(state, decision.records)].map(([partition, entries]) => {
    const told = entries.filter(({ outcome }) => outcome !== 'processed').sort((a, b) => a.offset - b.offset);
    return { partition, memberId: '', finished: [], entries: told };
  });
}

/** Adds records to the ledger, and to the group what says where they are. */
export function addToLedger<Reply>(
  state: GroupState | undefined,
  groupId: string,
  decision: GroupDecision<Reply>,
  changes: readonly LedgerChange[],
  context: GroupContext,
  nowMs: number,
): GroupDecision<Reply> {
  const ledger = context.ledger?.() ?? null;
  const told = changes.filter(({ finished, entries }) => finished.length > 0 || entries.length > 0);
  if (ledger === null || told.length === 0) return decision;
  const appended = (decision.appends ?? []).reduce(
    (sum, { log, records }) => (log === 'ledger' ? sum + records.length : sum),
    0,
  );
  let offset = (context.ownLogEnd?.('ledger', groupId) ?? 0) + appended;
  const inputs: RecordInput[] = [];
  const marked = new Map<PartitionKey, LedgerMarks>();
  for (const { partition, ...change } of told) {
    const key = encodeLedgerKey(groupId, partition);
    for (const part of split(change)) {
      inputs.push({ key, value: encodeLedgerRecord(part), timestampMs: nowMs });
      const before = marked.get(partition) ?? state?.ledgers.get(partition);
      const marks = noteLedgerEntry(before, offset, touchedBy(part), nowMs, ledger.keepMs);
      if (marks !== null) marked.set(partition, marks);
      offset += 1;
    }
  }
  const records = [...marked].map(([partition, value]): GroupRecord => ({ kind: 'ledger', groupId, partition, value }));
  return {
    ...decision,
    records: records.length === 0 ? decision.records : [...decision.records, ...records],
    appends: [...(decision.appends ?? []), { log: 'ledger', records: inputs }],
  };
}

function commitChanges(
  state: GroupState | undefined,
  { memberId, offsets }: CommitCommand,
  { records, reply }: GroupDecision<CommitReply>,
): LedgerChange[] {
  if ('code' in reply) return [];
  const changes: LedgerChange[] = [];
  for (const [index, commit] of offsets.entries()) {
    const result = reply.results[index];
    if (result === undefined || result.refusal !== null) continue;
    const change = commitChange(state?.offsets.get(commit.partition), commit, records);
    if (change.finished.length > 0 || change.entries.length > 0) {
      changes.push({ partition: commit.partition, memberId, ...change });
    }
  }
  return changes;
}

function commitChange(
  before: CommittedOffset | undefined,
  { partition, outcomes = [], beganAt = 0 }: OffsetCommit,
  records: readonly GroupRecord[],
): Pick<LedgerChange, 'finished' | 'entries'> {
  const entries = outcomes.map(entryOf).sort((a, b) => a.offset - b.offset);
  for (const record of records) {
    if (record.kind !== 'offset' || record.partition !== partition || record.value === null) continue;
    return { finished: newlyFinished(before, record.value, beganAt), entries };
  }
  return { finished: [], entries };
}

function entryOf({ kind: outcome, note, reason, error, ...rest }: EventOutcome): LedgerEntry {
  const { offset, attempts, durationMs, nextAttemptMs } = rest;
  return {
    offset,
    outcome,
    attempts,
    durationMs,
    nextAttemptMs,
    note: cutText(note),
    reason: cutText(reason),
    error: cutText(error),
  };
}

/** Parts that are small enough, each with what was finished in its own range of offsets. */
function* split(record: LedgerRecord): Generator<LedgerRecord> {
  let entries: LedgerEntry[] = [];
  let bytes = 0;
  let from = 0;
  for (const entry of record.entries) {
    const size = 32 + 3 * (entry.note.length + entry.reason.length + entry.error.length);
    if (bytes + size > MAX_ENTRY_BYTES && entries.length > 0) {
      yield { ...record, entries, finished: within(record.finished, from, entry.offset) };
      from = entry.offset;
      entries = [];
      bytes = 0;
    }
    entries.push(entry);
    bytes += size;
  }
  yield { ...record, entries, finished: from === 0 ? record.finished : within(record.finished, from, Infinity) };
}

function within(ranges: readonly OffsetRange[], from: number, to: number): OffsetRange[] {
  return ranges
    .map(([start, end]): OffsetRange => [Math.max(start, from), Math.min(end, to)])
    .filter(([start, end]) => start < end);
}

/** From the first offset that the record names to after the last. Entries are in the order of their offsets. */
function touchedBy({ finished, entries }: LedgerRecord): OffsetRange {
  const first = Math.min(finished[0]?.[0] ?? Infinity, entries[0]?.offset ?? Infinity);
  const last = Math.max(finished.at(-1)?.[1] ?? 0, (entries.at(-1)?.offset ?? -1) + 1);
  return [first, last];
}

function withoutMarks<Reply>(
  state: GroupState | undefined,
  command: Extract<GroupCommand, { type: 'delete-group' | 'delete-offsets-of-topic' }>,
  decision: GroupDecision<Reply>,
): GroupDecision<Reply> {
  if (state === undefined || (command.type === 'delete-group' && decision.records.length === 0)) return decision;
  const { groupId } = command;
  const gone = [...state.ledgers.keys()].filter(
    (partition) => command.type === 'delete-group' || splitPartitionKey(partition).topicId === command.topicId,
  );
  if (gone.length === 0) return decision;
  const records = gone.map((partition): GroupRecord => ({ kind: 'ledger', groupId, partition, value: null }));
  return { ...decision, records: [...records, ...decision.records] };
}
