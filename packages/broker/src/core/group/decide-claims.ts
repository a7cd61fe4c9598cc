/**
 * Claims of events by their own ids: who may handle one, and that it is done.
 *
 * A claim is one member's for a lease, and ends with it, with the member, or with the commit that says what became of the event.
 * Processed and skipped events are done for a window of time; held and dead-lettered ones are free to be claimed again. What is
 * done is in the same append as the commit.
 *
 * A member that claims what it has claimed gets it again, with a new lease: an answer may have been lost, and handling may take
 * long. A member that has two events of the same id in hand knows that itself.
 */
import { assert } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type {
  ClaimCommand,
  ClaimResult,
  CommitCommand,
  CommitReply,
  DecisionFor,
  EventOutcome,
  GroupCommand,
  GroupContext,
  GroupDecision,
  GroupLimits,
} from './commands.ts';
import { checkMember, refused } from './decide-join.ts';
import type { GroupRecord, GroupState } from './group-state.ts';
import { settledRecords } from './ledger-settlements.ts';
import type { QueueSettleCommand, QueueSettleReply } from '../queue/queue-commands.ts';
import { ClaimTable, ID_LENGTH, type ActiveClaim, type ClaimedIds, type DoneIds } from '../idempotency/claimed-ids.ts';

/** Buckets of one level that become one of the next. */
const MERGED_BUCKETS = 32;
/** Ids of a bucket at most; one with half as many is not merged any more. */
const MAX_BUCKET_IDS = 8_192;
/** Claims that one decision looks at, whether they are over. */
const SWEPT_CLAIMS = 64;
/** A merged bucket holds ids of this part of the window at most, since it goes as a whole. */
const WINDOW_PARTS = 8;
export const DEFAULT_LEASE_MS = 5 * 60_000;
export const MAX_LEASE_MS = 24 * 3_600_000;

export function decideClaim(
  state: GroupState | undefined,
  command: ClaimCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<ClaimCommand> {
  const { groupId, memberId, ids } = command;
  const { limits } = context;
  const member = checkMember(state, memberId, command.memberEpoch);
  if ('code' in member) return refused(member);
  assert(state !== undefined, 'a member has a group');
  const table = state.claimedIds ?? new ClaimTable();
  const wrong = checkClaim(command, table, limits);
  if (wrong !== null) return refused(wrong);
  const leaseUntilMs = nowMs + (command.leaseMs === 0 ? DEFAULT_LEASE_MS : command.leaseMs);
  const claimed = new Set<string>();
  const results = ids.map((id): ClaimResult => {
    if (table.isDone(id)) return { state: 'done', untilMs: 0 };
    const other = claimed.has(id) ? { memberId: '', leaseUntilMs } : liveClaim(state, id, nowMs);
    if (other !== undefined && other.memberId !== memberId) return { state: 'busy', untilMs: other.leaseUntilMs };
    claimed.add(id);
    return { state: 'claimed', untilMs: leaseUntilMs };
  });
  const draft = new Draft(state);
  sweep(state, draft, limits, nowMs);
  if (claimed.size > 0) draft.add({ kind: 'claim', memberId, joinEpoch: member.joinEpoch, leaseUntilMs, ids: claimed });
  const forgotten = forget(table, draft, limits);
  return { records: draft.records(groupId), reply: { results, forgotten }, timers: [] };
}

/** A commit's decision with what its outcomes say of claimed ids. */
export function withClaims<Reply extends object>(
  state: GroupState | undefined,
  command: GroupCommand,
  decision: GroupDecision<Reply>,
  context: GroupContext,
  nowMs: number,
): GroupDecision<Reply> {
  if (command.type === 'delete-group') return withoutClaims(state, command.groupId, decision);
  if ('code' in decision.reply) return decision;
  const settled =
    command.type === 'commit'
      ? settledByCommit(command, decision as unknown as GroupDecision<CommitReply>)
      : command.type === 'queue-settle'
        ? settledOneByOne(state, command, decision as unknown as GroupDecision<QueueSettleReply>)
        : [];
  const memberId = 'memberId' in command ? command.memberId : '';
  return settleClaims(state, command.groupId, decision, settled, memberId, context.limits, nowMs);
}

interface SettledId {
  readonly id: string;
  /** False: it may be claimed again. */
  readonly isDone: boolean;
}

function settledByCommit(command: CommitCommand, decision: GroupDecision<CommitReply>): SettledId[] {
  return acceptedOutcomes(command, decision).flatMap(({ kind, idempotencyId: id }) =>
    id.length !== ID_LENGTH || kind === 'failed' ? [] : [{ id, isDone: kind === 'processed' || kind === 'skipped' }],
  );
}

function settledOneByOne(
  state: GroupState | undefined,
  command: QueueSettleCommand,
  decision: GroupDecision<QueueSettleReply>,
): SettledId[] {
  const claimed = settledRecords(state, command, decision, ({ kind, idempotencyId }) => {
    return kind !== 'renew' && idempotencyId.length === ID_LENGTH;
  });
  return [...claimed].map(({ settlement: { kind, idempotencyId: id } }) => ({ id, isDone: kind === 'accept' }));
}

/** What became of claimed events: done, or free to be claimed again. */
export function settleClaims<Reply>(
  state: GroupState | undefined,
  groupId: string,
  decision: GroupDecision<Reply>,
  settled: readonly SettledId[],
  memberId: string,
  limits: GroupLimits,
  nowMs: number,
): GroupDecision<Reply> {
  if (settled.length === 0) return decision;
  const draft = new Draft(state);
  const table = state?.claimedIds ?? new ClaimTable();
  const done = new Set(settled.flatMap(({ id, isDone }) => (isDone && !table.isDone(id) ? [id] : [])));
  // Whoever had it before its lease ran out does not free it for whoever has it now.
  const isOwn = (id: string): boolean => table.claimOf(id)?.memberId === memberId;
  const free = new Set(settled.flatMap(({ id, isDone }) => (isDone || done.has(id) || !isOwn(id) ? [] : [id])));
  if (done.size > 0) {
    draft.add({ kind: 'done', oldestMs: nowMs, newestMs: nowMs, level: 0, ids: [...done] });
    merge(table, draft, limits.idempotencyWindowMs);
  }
  release(table, draft, done, free);
  return { ...decision, records: [...decision.records, ...draft.records(groupId)] };
}

/** Changes of buckets that are not evolved yet. */
class Draft {
  readonly changes = new Map<number, ClaimedIds | null>();
  readonly #table: ClaimTable | undefined;
  readonly #taken = new Set<number>();

  constructor(state: GroupState | undefined) {
    this.#table = state?.claimedIds ?? undefined;
  }

  add(value: ClaimedIds): void {
    const bucket = (this.#table ?? new ClaimTable()).free(this.#taken);
    this.#taken.add(bucket);
    this.changes.set(bucket, value);
  }

  /** New buckets first: what they take over from others is never without one. */
  records(groupId: string): GroupRecord[] {
    const all = [...this.changes].map(([bucket, value]): GroupRecord => ({
      kind: 'claimed-ids',
      groupId,
      bucket,
      value,
    }));
    return [...all.filter(({ value }) => value !== null), ...all.filter(({ value }) => value === null)];
  }
}

function checkClaim({ ids, leaseMs }: ClaimCommand, table: ClaimTable, limits: GroupLimits): Refusal | null {
  if (ids.length > limits.maxIdsPerClaim) {
    return refuse('INVALID_REQUEST', `${ids.length} ids in one claim: at most ${limits.maxIdsPerClaim} are allowed`);
  }
  if (!Number.isSafeInteger(leaseMs) || leaseMs < 0 || leaseMs > MAX_LEASE_MS) {
    return refuse('INVALID_REQUEST', `a lease is 0 to ${MAX_LEASE_MS} ms, not ${leaseMs}`);
  }
  if (ids.some((id) => id.length !== ID_LENGTH)) return refuse('INVALID_REQUEST', 'an id has to be hashed');
  if (table.claimCount + ids.length <= limits.maxActiveClaims) return null;
  return refuse(
    'OVERLOADED',
    `the group has ${table.claimCount} events claimed, and at most ${limits.maxActiveClaims}`,
  );
}

function liveClaim(state: GroupState, id: string, nowMs: number): ActiveClaim | undefined {
  const claim = state.claimedIds?.claimOf(id);
  return claim !== undefined && isLive(state, claim, nowMs) ? claim : undefined;
}

function isLive(state: GroupState, { memberId, joinEpoch, leaseUntilMs }: ActiveClaim, nowMs: number): boolean {
  return leaseUntilMs > nowMs && state.members.get(memberId)?.joinEpoch === joinEpoch;
}

/** Claims that are over, and done ids whose window has passed. */
function sweep(state: GroupState, draft: Draft, limits: GroupLimits, nowMs: number): void {
  const table = state.claimedIds ?? new ClaimTable();
  let looked = 0;
  for (const bucket of table.claimBuckets()) {
    if (looked++ >= SWEPT_CLAIMS) break;
    const claim = table.get(bucket) as ActiveClaim;
    if (claim.ids.size === 0 || !isLive(state, claim, nowMs)) draft.changes.set(bucket, null);
  }
  for (const bucket of table.doneBuckets()) {
    const { newestMs } = table.get(bucket) as DoneIds;
    if (newestMs + limits.idempotencyWindowMs <= nowMs) draft.changes.set(bucket, null);
  }
}

/** The oldest go early where there are too many. @returns how many ids */
function forget(table: ClaimTable, draft: Draft, { maxDoneIds }: GroupLimits): number {
  let left = table.doneCount;
  if (left <= maxDoneIds) return 0;
  const kept = doneBuckets(table, draft).sort(([, a], [, b]) => a.newestMs - b.newestMs);
  left = kept.reduce((sum, [, { ids }]) => sum + ids.length, 0);
  let forgotten = 0;
  for (const [bucket, { ids }] of kept) {
    if (left - forgotten <= maxDoneIds) break;
    draft.changes.set(bucket, null);
    forgotten += ids.length;
  }
  return forgotten;
}

/** Level by level, so that each id is written once for each level. */
function merge(table: ClaimTable, draft: Draft, windowMs: number): void {
  for (let level = 0; ; level++) {
    const small = doneBuckets(table, draft)
      .filter(([, bucket]) => bucket.level === level && bucket.ids.length < MAX_BUCKET_IDS / 2)
      .sort(([, a], [, b]) => a.oldestMs - b.oldestMs);
    if (small.length < MERGED_BUCKETS) return;
    for (const [bucket] of small) {
      if (table.has(bucket)) draft.changes.set(bucket, null);
      else draft.changes.delete(bucket);
    }
    for (const merged of mergedBuckets(
      small.map(([, bucket]) => bucket),
      level + 1,
      windowMs / WINDOW_PARTS,
    )) {
      draft.add(merged);
    }
  }
}

function* mergedBuckets(buckets: readonly DoneIds[], level: number, spanMs: number): Generator<DoneIds> {
  let ids: string[] = [];
  let [oldestMs, newestMs] = [0, 0];
  for (const bucket of buckets) {
    const isFull = ids.length + bucket.ids.length > MAX_BUCKET_IDS || bucket.newestMs - oldestMs > spanMs;
    if (ids.length > 0 && isFull) {
      yield { kind: 'done', oldestMs, newestMs, level, ids };
      ids = [];
    }
    if (ids.length === 0) [oldestMs, newestMs] = [bucket.oldestMs, bucket.newestMs];
    newestMs = Math.max(newestMs, bucket.newestMs);
    ids.push(...bucket.ids);
  }
  yield { kind: 'done', oldestMs, newestMs, level, ids };
}

/** As they will be. */
function doneBuckets(table: ClaimTable, draft: Draft): [number, DoneIds][] {
  const found: [number, DoneIds][] = [];
  for (const bucket of table.doneBuckets()) {
    if (!draft.changes.has(bucket)) found.push([bucket, table.get(bucket) as DoneIds]);
  }
  for (const [bucket, value] of draft.changes) if (value?.kind === 'done') found.push([bucket, value]);
  return found;
}

/** Claims without the ids that are free, and without those of which nothing is left. */
function release(table: ClaimTable, draft: Draft, done: ReadonlySet<string>, free: ReadonlySet<string>): void {
  const touched = new Map<number, number>();
  for (const id of [...done, ...free]) {
    const bucket = table.claimBucket(id);
    if (bucket !== undefined) touched.set(bucket, (touched.get(bucket) ?? 0) + 1);
  }
  for (const [bucket, count] of touched) {
    const claim = table.get(bucket) as ActiveClaim;
    if (count >= claim.ids.size) {
      draft.changes.set(bucket, null);
      continue;
    }
    const left = new Set([...claim.ids].filter((id) => !free.has(id)));
    // Those that are done leave by themselves.
    if (left.size < claim.ids.size) draft.changes.set(bucket, { ...claim, ids: left });
  }
}

function acceptedOutcomes(command: CommitCommand, { reply }: GroupDecision<CommitReply>): EventOutcome[] {
  if ('code' in reply) return [];
  return command.offsets.flatMap(({ outcomes = [] }, index) =>
    reply.results[index]?.refusal === null ? outcomes.filter(({ idempotencyId }) => idempotencyId !== '') : [],
  );
}

function withoutClaims<Reply>(
  state: GroupState | undefined,
  groupId: string,
  decision: GroupDecision<Reply>,
): GroupDecision<Reply> {
  const buckets = [...(state?.claimedIds?.keys() ?? [])];
  if (buckets.length === 0 || decision.records.length === 0) return decision;
  const records = buckets.map((bucket): GroupRecord => ({
    kind: 'claimed-ids',
    groupId,
    bucket,
    value: null,
  }));
  return { ...decision, records: [...records, ...decision.records] };
}
