/**
 * A group whose members assign goes over to the broker's assignment, when the first member comes that cannot take part
 * in the former: as Kafka's online migration does it (KIP-848), without the way back. A group that is empty is free again.
 *
 * Its members keep their ids and what they work on, and learn of the change from their next heartbeat, if it concerns
 * them. Requests that wait are answered REBALANCE_IN_PROGRESS, so that their members join again.
 */
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { PartitionKey } from '@naru/base';
import { CONSUMER_PROTOCOL_TYPE } from './adapted-member.ts';
import { classicOf } from './classic-group.ts';
import { BARRIER_TIMER, joinKey, roundOfState, SYNC_TIMER, syncKey } from './classic-round.ts';
import type { ClassicRound } from './classic-round.ts';
import type { GroupDecision, TimerChange } from './commands.ts';
import { evolveGroup } from './group-state.ts';
import type { GroupState, MemberState } from './group-state.ts';
import type { ParkedAnswer } from './kafka-commands.ts';
import { cancelTimers, draftOf, draftRecords, draftTimers, sessionTimer } from './reconcile.ts';

interface Upgrade {
  /** The group as it is then: a copy. */
  readonly state: GroupState;
  readonly records: GroupDecision<never>['records'];
  readonly timers: readonly TimerChange[];
  readonly answers: readonly ParkedAnswer[];
}

/** Decides on the group after the upgrade, and puts both into one decision. A refusal leaves the group as it was. */
export function decideUpgraded<Reply extends object>(
  state: GroupState,
  round: ClassicRound | null,
  decide: (state: GroupState) => GroupDecision<Reply>,
): GroupDecision<Reply> {
  const upgrade = upgradeGroup(state, round);
  if ('code' in upgrade) return { records: [], reply: upgrade, timers: [] };
  const decision = decide(upgrade.state);
  if ('code' in decision.reply) return decision;
  return {
    records: [...upgrade.records, ...decision.records],
    reply: decision.reply,
    timers: [...upgrade.timers, ...decision.timers],
    round: null,
    answers: upgrade.answers,
  };
}

function upgradeGroup(state: GroupState, round: ClassicRound | null): Upgrade | Refusal {
  const refusal = state.members.size === 0 ? null : checkUpgrade(state);
  if (refusal !== null) return refusal;
  const draft = draftOf(state, state.groupId, state.createdAtMs ?? 0);
  const timers: TimerChange[] = [
    { key: BARRIER_TIMER, delayMs: null },
    { key: SYNC_TIMER, delayMs: null },
  ];
  const assigned = new Set([...state.members.values()].flatMap((member) => [...member.assigned.keys()]));
  draft.classic = null;
  draft.assignmentEpoch = draft.groupEpoch;
  for (const [memberId, member] of state.members) {
    if (member.memberEpoch === 0) {
      // Never answered: its client does not know that it is a member, and comes again.
      draft.members.delete(memberId);
      timers.push(...cancelTimers(memberId));
    } else {
      draft.members.set(memberId, adapted(member, assigned));
      timers.push(sessionTimer(member));
    }
  }
  timers.push(...draftTimers(undefined, draft));
  const records = draftRecords(state, draft);
  let after: GroupState | undefined = { ...state, members: new Map(state.members) };
  for (const record of records) after = evolveGroup(after, record);
  return { state: after!, records, timers, answers: answersOf(round ?? roundOfState(state)) };
}

function checkUpgrade({ groupId, classic, members }: GroupState): Refusal | null {
  const cannot = (why: string): Refusal =>
    refuse('INCONSISTENT_GROUP_PROTOCOL', `the members of group ${groupId} assign partitions themselves, and ${why}`);
  if (classic?.protocolType !== CONSUMER_PROTOCOL_TYPE) {
    return cannot(`their protocol type is ${JSON.stringify(classic?.protocolType)}, not "${CONSUMER_PROTOCOL_TYPE}"`);
  }
  const holders = new Set<PartitionKey>();
  for (const member of members.values()) {
    if (member.memberEpoch === 0) continue;
    if (!classicOf(member).readable) return cannot(`what ${member.memberId} works on cannot be read`);
    for (const partition of member.assigned.keys()) {
      if (holders.has(partition)) return cannot(`two of them hold ${partition}`);
      holders.add(partition);
    }
  }
  return null;
}

/**
 * Whatever it may be working on counts as told, so that it has to release what it is to lose; but what the leader gave
 * to another already is that one's.
 */
function adapted(member: MemberState, elsewhere: ReadonlySet<PartitionKey>): MemberState {
  const held = [...member.assigned.keys()];
  const classic = { ...classicOf(member), assignment: new Uint8Array() };
  return {
    ...member,
    joinEpoch: member.memberEpoch,
    target: held,
    revoking: new Map([...member.revoking].filter(([partition]) => !elsewhere.has(partition))),
    kafka: { told: held, topicPattern: null, classic },
  };
}

function answersOf({ barrier, syncing }: ClassicRound): ParkedAnswer[] {
  const reply = refuse('REBALANCE_IN_PROGRESS', 'the broker assigns to this group from now on: join again');
  const joins = [...(barrier?.waiting ?? [])].map((memberId) => ({ key: joinKey(memberId), reply }));
  return [...joins, ...[...syncing].map((memberId) => ({ key: syncKey(memberId), reply }))];
}
