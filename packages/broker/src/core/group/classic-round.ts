/**
 * The soft state of a group whose members assign partitions to themselves (Kafka's classic protocol), and a draft of
 * such a group that its deciders change.
 *
 * Membership is durable, in the group's state: every join, leave and assignment is recorded at once. What is not durable
 * is who waits for whom: the join barrier, the requests that wait, the ids that were given out. After a restart that is
 * unknown, and derived from the state: a group that was between two assignments joins again.
 *
 * Invariants: a member that waits has no session timer; whoever waits is answered when it is removed, when its wait ends,
 * or when the group goes over to the broker's assignment.
 */
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { GroupDecision, TimerChange } from './commands.ts';
import type { ClassicInfo, GroupState, MemberState } from './group-state.ts';
import type { Parked, ParkedAnswer } from './kafka-commands.ts';
import { cancelTimers, draftOf, draftRecords, sessionTimer } from './reconcile.ts';
import type { GroupDraft } from './reconcile.ts';

/** As Kafka names them, without Dead. */
export type ClassicPhase = 'empty' | 'preparing' | 'completing' | 'stable';

export interface ClassicRound {
  /** Set while members are to join again. */
  readonly barrier: JoinBarrier | null;
  /** Ids that were given out and with which nobody joined yet (KIP-394). */
  readonly expectedIds: ReadonlySet<string>;
  /** Members of this generation that have not asked for their assignment. */
  readonly unsynced: ReadonlySet<string>;
  /** Those whose request for it waits for the leader's. */
  readonly syncing: ReadonlySet<string>;
}

export interface JoinBarrier {
  /** Members that wait here, in the order in which they came. */
  readonly waiting: ReadonlySet<string>;
  /** Set for the first generation: it does not know whom to wait for, so it waits a while, longer while some come. */
  readonly initial: { readonly remainingMs: number; readonly grew: boolean } | null;
}

export const BARRIER_TIMER = 'barrier/';
export const SYNC_TIMER = 'sync/';

export function joinKey(memberId: string): string {
  return `join/${memberId}`;
}

export function syncKey(memberId: string): string {
  return `sync/${memberId}`;
}

export function classicPhase(state: GroupState, round: ClassicRound | null): ClassicPhase {
  if ((round ?? roundOfState(state)).barrier !== null) return 'preparing';
  if (state.members.size === 0) return 'empty';
  return state.assignmentEpoch < state.groupEpoch ? 'completing' : 'stable';
}

/** What is known of the round from the state alone. */
export function roundOfState(state: GroupState | undefined): ClassicRound {
  const none = { expectedIds: new Set<string>(), unsynced: new Set<string>(), syncing: new Set<string>() };
  if (state === undefined || state.members.size === 0) return { barrier: null, ...none };
  const settled =
    state.assignmentEpoch === state.groupEpoch &&
    // Epoch 0: it never got an answer to its first join.
    [...state.members.values()].every(({ memberEpoch }) => memberEpoch > 0 && memberEpoch === state.groupEpoch);
  return { barrier: settled ? null : { waiting: new Set(), initial: null }, ...none };
}

/** Changed by the deciders in classic-group.ts; {@link settleDraft} makes a decision of it. */
export interface ClassicDraft {
  readonly before: GroupState | undefined;
  readonly group: GroupDraft;
  waiting: Set<string> | null;
  initial: JoinBarrier['initial'];
  readonly expectedIds: Set<string>;
  unsynced: Set<string>;
  syncing: Set<string>;
  readonly answers: ParkedAnswer[];
  /** Answers to earlier requests of the member that asks, under whose key this one may wait. */
  readonly superseded: ParkedAnswer[];
  readonly timers: TimerChange[];
}

export function classicDraft(
  state: GroupState | undefined,
  round: ClassicRound | null,
  groupId: string,
  nowMs: number,
): ClassicDraft {
  const { barrier, expectedIds, unsynced, syncing } = round ?? roundOfState(state);
  return {
    before: state,
    group: draftOf(state, groupId, nowMs),
    waiting: barrier === null ? null : new Set(barrier.waiting),
    initial: barrier?.initial ?? null,
    expectedIds: new Set(expectedIds),
    unsynced: new Set(unsynced),
    syncing: new Set(syncing),
    answers: [],
    superseded: [],
    timers: [],
  };
}

export function draftPhase({ waiting, group }: ClassicDraft): ClassicPhase {
  if (waiting !== null) return 'preparing';
  if (group.members.size === 0) return 'empty';
  return group.assignmentEpoch < group.groupEpoch ? 'completing' : 'stable';
}

/** Of a group that members have joined. */
export function classicInfo({ group }: ClassicDraft): ClassicInfo {
  return group.classic ?? { protocolType: '', protocolName: null, leaderId: null };
}

/** The member has a request that waits, so that it cannot send heartbeats. */
export function isWaiting(draft: ClassicDraft, memberId: string): boolean {
  return (draft.waiting?.has(memberId) ?? false) || draft.syncing.has(memberId);
}

/** The member asks again: what it asked before is answered, since its client no longer listens to that. */
export function supersede(draft: ClassicDraft, memberId: string): void {
  const again = refuse('REBALANCE_IN_PROGRESS', `member ${memberId} asked again`);
  if (draft.waiting?.delete(memberId) === true) draft.superseded.push({ key: joinKey(memberId), reply: again });
  if (draft.syncing.delete(memberId)) draft.superseded.push({ key: syncKey(memberId), reply: again });
}

/** Takes a member out, with all that waits for it. */
export function dropMember(draft: ClassicDraft, memberId: string, refusal: Refusal): void {
  draft.group.members.delete(memberId);
  draft.unsynced.delete(memberId);
  if (draft.waiting?.delete(memberId) === true) draft.answers.push({ key: joinKey(memberId), reply: refusal });
  if (draft.syncing.delete(memberId)) draft.answers.push({ key: syncKey(memberId), reply: refusal });
  draft.timers.push(...cancelTimers(memberId));
  const info = draft.group.classic;
  if (info !== null && info.leaderId === memberId) {
    const [first] = draft.group.members.keys();
    draft.group.classic = { ...info, leaderId: first ?? null };
  }
}

/** The longest that any member may take. */
export function roundTimeoutMs({ group }: ClassicDraft): number {
  return Math.max(...[...group.members.values()].map((member) => member.rebalanceTimeoutMs), 1);
}

/**
 * The decision that the draft stands for.
 *
 * @param ownKey under which the request that asks may wait; its answer, when there is one by now, is the reply
 */
export function settleDraft<Reply>(draft: ClassicDraft, reply: Reply | Refusal): GroupDecision<Reply>;
export function settleDraft<Reply>(draft: ClassicDraft, reply: null, ownKey: string): GroupDecision<Reply | Parked>;
export function settleDraft<Reply>(
  draft: ClassicDraft,
  reply: Reply | Refusal | null,
  ownKey?: string,
): GroupDecision<Reply | Parked> {
  const own = draft.answers.findLast(({ key }) => key === ownKey);
  const isNothing = draft.before === undefined && draft.group.members.size === 0;
  return {
    records: isNothing ? [] : draftRecords(draft.before, draft.group),
    reply: reply ?? (own === undefined ? { parked: ownKey! } : (own.reply as Reply)),
    timers: draft.timers,
    round: roundOfDraft(draft),
    answers: [...draft.superseded, ...draft.answers.filter((answer) => answer !== own)],
  };
}

function roundOfDraft({ waiting, initial, expectedIds, unsynced, syncing }: ClassicDraft): ClassicRound | null {
  if (waiting === null && expectedIds.size === 0 && unsynced.size === 0 && syncing.size === 0) return null;
  return { barrier: waiting === null ? null : { waiting, initial }, expectedIds, unsynced, syncing };
}

/** A member begins to wait, or is answered and has to be heard of again. */
export function pauseSession(draft: ClassicDraft, memberId: string): void {
  draft.timers.push({ key: `session/${memberId}`, delayMs: null });
}

export function resumeSession(draft: ClassicDraft, member: MemberState | undefined): void {
  if (member !== undefined) draft.timers.push(sessionTimer(member));
}
