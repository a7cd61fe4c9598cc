/**
 * Offsets that wait in a group for the end of a transaction (Kafka's TxnOffsetCommit): what may wait, and what the end makes of it.
 *
 * Whether the transaction is open is its coordinator's to know. What waits is committed as if somebody outside had committed it
 * at the end: whoever has the partitions by then was checked when it was kept.
 */
import type { PartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import {
  checkCommit,
  checkCommitter,
  checkCount,
  checkHeld,
  newGroup,
  partitionLabel,
  utf8Length,
} from './commit-checks.ts';
import type {
  CommitCommand,
  CommitInTransactionGroupCommand,
  DecisionFor,
  EndTransactionGroupCommand,
  GroupContext,
  OffsetCommit,
  PartitionResult,
} from './commands.ts';
import { refused } from './decide-join.ts';
import { comparePartitions, type GroupRecord, type GroupState, type PendingOffset } from './group-state.ts';
import { checkCommitted } from './queue-resets.ts';

/** Of an entry, beside its metadata. */
const ENTRY_BYTES = 48;

export function decideCommitInTransaction(
  state: GroupState | undefined,
  command: CommitInTransactionGroupCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<CommitInTransactionGroupCommand> {
  const { groupId, producerId, producerEpoch, memberId, memberEpoch } = command;
  const { limits } = context;
  const tooMany = checkCount(command.offsets.length, limits);
  if (tooMany !== null) return refused(tooMany);
  const committer = memberId === '' ? null : checkCommitter(state, command);
  if (committer !== null && 'code' in committer) return refused(committer);
  const holder = state === undefined || state.classic !== null ? null : committer;
  const known = state?.pending.get(producerId);
  // What an earlier transaction left would have gone with its end.
  const kept = known !== undefined && known.producerEpoch === producerEpoch ? known.offsets : [];
  const offsets = new Map(kept.map((entry) => [entry.partition, entry]));
  const results = command.offsets.map((commit): PartitionResult => {
    const { partition, offset, metadata, leaderEpoch } = commit;
    const label = partitionLabel(partition, context);
    const refusal =
      checkCommitted(partition, label, context) ??
      (holder === null ? null : checkHeld(holder, memberEpoch, partition, label)) ??
      checkCommit(commit, limits, label);
    if (refusal === null) offsets.set(partition, { partition, offset, metadata, leaderEpoch });
    return { partition, refusal };
  });
  if (results.every(({ refusal }) => refusal !== null)) return { records: [], reply: { results }, timers: [] };
  if (pendingBytes(offsets.values()) > limits.maxPendingBytes) {
    const message = `a transaction keeps at most ${limits.maxPendingBytes} bytes of offsets in a group: commit it before that`;
    return refused(refuse('TRANSACTION_TOO_LARGE', message));
  }
  const sorted = [...offsets.values()].sort((a, b) => comparePartitions(a.partition, b.partition));
  const value = { producerEpoch, offsets: sorted };
  const records: GroupRecord[] = [...newGroup(state, groupId, nowMs), { kind: 'pending', groupId, producerId, value }];
  return { records, reply: { results }, timers: [] };
}

/** What the end of the transaction commits, as a commit; null when nothing waits. */
export function pendingAsCommit(
  state: GroupState | undefined,
  { groupId, producerId, commit }: EndTransactionGroupCommand,
): CommitCommand | null {
  const pending = commit ? state?.pending.get(producerId) : undefined;
  if (pending === undefined) return null;
  const offsets = pending.offsets.map((entry) => ({ ...entry, finished: null, endOffset: entry.offset }));
  return { type: 'commit', groupId, memberId: '', memberEpoch: -1, offsets };
}

/** Records that take what waits for partitions out of the group. */
export function withoutPending(
  state: GroupState | undefined,
  isGone: (partition: PartitionKey) => boolean,
): GroupRecord[] {
  const records: GroupRecord[] = [];
  for (const [producerId, pending] of state?.pending ?? []) {
    const offsets = pending.offsets.filter(({ partition }) => !isGone(partition));
    if (offsets.length === pending.offsets.length) continue;
    const value = offsets.length === 0 ? null : { ...pending, offsets };
    records.push({ kind: 'pending', groupId: (state as GroupState).groupId, producerId, value });
  }
  return records;
}

/**
 * Takes out of the group what waits for partitions that `command` commits: as in Kafka it is older than this commit, and is not to
 * come after it.
 */
export function withoutOlderPending(
  state: GroupState | undefined,
  { offsets }: CommitCommand,
  decision: DecisionFor<CommitCommand>,
): DecisionFor<CommitCommand> {
  const { reply, records } = decision;
  if (state === undefined || state.pending.size === 0 || 'code' in reply) return decision;
  const committed = new Set(
    reply.results.flatMap(({ partition, refusal }, index) => {
      const { onlyForward, offset } = offsets[index] as OffsetCommit;
      // Only outcomes: where the group is was not said anew.
      const stays = onlyForward === true && offset <= (state.offsets.get(partition)?.offset ?? -1);
      return refusal !== null || stays ? [] : [partition];
    }),
  );
  return { ...decision, records: [...records, ...withoutPending(state, (partition) => committed.has(partition))] };
}

/** Partitions for which an open transaction keeps an offset. */
export function unstablePartitions(state: GroupState | undefined): ReadonlySet<PartitionKey> {
  const found = new Set<PartitionKey>();
  for (const { offsets } of state?.pending.values() ?? []) for (const { partition } of offsets) found.add(partition);
  return found;
}

function pendingBytes(offsets: Iterable<PendingOffset>): number {
  let bytes = 0;
  for (const { metadata } of offsets) bytes += ENTRY_BYTES + utf8Length(metadata);
  return bytes;
}
