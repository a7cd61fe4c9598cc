/** Reads a group: views for members, operators and the runtime. Changes nothing. */
import type { PartitionKey } from '@naru/base';
import { describeQueue, type QueueDescription } from '../queue/queue-state.ts';
import { metadataOf } from './classic-group.ts';
import { classicPhase } from './classic-round.ts';
import type { ClassicRound } from './classic-round.ts';
import { comparePartitions, LEFT_STATIC_EPOCH } from './group-state.ts';
import type { CommittedOffset, GroupRecord, GroupState, MemberState } from './group-state.ts';
import { describeHeld, type HeldDescription } from './describe-held.ts';
import { DEFAULT_GROUP_LIMITS, type GroupContext, type MemberView } from './commands.ts';

/**
 * As in KIP-848, and for groups whose members assign as Kafka names it. `assigning` never lasts, since targets are
 * computed with the change that asks for them.
 */
export type GroupStateName =
  | 'empty'
  | 'assigning'
  | 'reconciling'
  | 'stable'
  | 'preparing-rebalance'
  | 'completing-rebalance';

/** How a member takes part: pushed its assignment, KIP-848's heartbeats, or Kafka's classic protocol. */
export type MemberProtocol = 'push' | 'consumer' | 'classic';

/** Who assigns: the members (`classic`) or the broker. */
export type GroupType = 'classic' | 'consumer';

export interface MemberDescription extends MemberView {
  readonly memberId: string;
  readonly instanceId: string | null;
  readonly clientId: string;
  readonly clientHost: string;
  readonly topics: readonly string[];
  /** Subscribes to the topics that match, too; null for none. */
  readonly topicPattern: string | null;
  readonly target: readonly PartitionKey[];
  readonly protocol: MemberProtocol;
  /** What the member said for the group's protocol; null unless it is classic. */
  readonly metadata: Uint8Array | null;
  /** As its leader gave it; null unless the members assign. */
  readonly assignment: Uint8Array | null;
}

export interface GroupDescription {
  readonly groupId: string;
  readonly type: GroupType;
  /** `consumer` when the broker assigns. */
  readonly protocolType: string;
  /** The chosen protocol, or the broker's assignor; empty when there is none. */
  readonly protocolName: string;
  /** Of a group whose members assign; empty when there is none. */
  readonly leaderId: string;
  readonly state: GroupStateName;
  readonly groupEpoch: number;
  readonly assignmentEpoch: number;
  /** Null only while a log is being replayed. */
  readonly createdAtMs: number | null;
  /** By member id. */
  readonly members: readonly MemberDescription[];
  /** By partition; the member is the one that holds it now, null when nobody does. */
  readonly offsets: readonly {
    readonly partition: PartitionKey;
    readonly committed: CommittedOffset;
    readonly memberId: string | null;
  }[];
  readonly held: HeldDescription;
  /** Of parallel topics, by partition. */
  readonly queues: readonly QueueDescription[];
}

/** What the member may hold now; undefined when the group does not know it. */
export function memberView(state: GroupState | undefined, memberId: string): MemberView | undefined {
  const member = state?.members.get(memberId);
  return member === undefined ? undefined : viewOf(member);
}

export function viewOf(member: MemberState): MemberView {
  return {
    memberEpoch: member.memberEpoch,
    assigned: [...member.assigned.keys()],
    revoking: [...member.revoking.keys()],
  };
}

export function groupStateName(state: GroupState, round: ClassicRound | null = null): GroupStateName {
  if (state.classic !== null) return CLASSIC_NAMES[classicPhase(state, round)];
  if (state.members.size === 0) return 'empty';
  if (state.groupEpoch > state.assignmentEpoch) return 'assigning';
  for (const member of state.members.values()) {
    if (!isReconciled(member, state.assignmentEpoch)) return 'reconciling';
  }
  return 'stable';
}

const CLASSIC_NAMES = {
  empty: 'empty',
  preparing: 'preparing-rebalance',
  completing: 'completing-rebalance',
  stable: 'stable',
} as const;

/** A static member that is away has nothing to do, whatever its target says. */
function isReconciled(member: MemberState, assignmentEpoch: number): boolean {
  if (member.memberEpoch === LEFT_STATIC_EPOCH) return true;
  return (
    member.memberEpoch === assignmentEpoch &&
    member.revoking.size === 0 &&
    member.assigned.size === member.target.length
  );
}

/** @param context default: nothing is declared, and the default limits hold */
export function describeGroup(
  state: GroupState,
  round: ClassicRound | null = null,
  context: Pick<GroupContext, 'topicConfig' | 'limits'> = { limits: DEFAULT_GROUP_LIMITS },
): GroupDescription {
  const owners = new Map<PartitionKey, string>();
  const members: MemberDescription[] = [];
  for (const member of [...state.members.values()].sort((a, b) => (a.memberId < b.memberId ? -1 : 1))) {
    const { memberId, instanceId, clientId, clientHost, topics, target } = member;
    const view = viewOf(member);
    const topicPattern = member.kafka?.topicPattern ?? null;
    const said = { memberId, instanceId, clientId, clientHost, topics, topicPattern };
    members.push({ ...said, target, ...view, ...kafkaPart(member, state) });
    for (const partition of [...view.assigned, ...view.revoking]) owners.set(partition, memberId);
  }
  return {
    groupId: state.groupId,
    ...protocolOf(state),
    state: groupStateName(state, round),
    groupEpoch: state.groupEpoch,
    assignmentEpoch: state.assignmentEpoch,
    createdAtMs: state.createdAtMs,
    members,
    offsets: [...state.offsets]
      .sort(([a], [b]) => comparePartitions(a, b))
      .map(([partition, committed]) => ({ partition, committed, memberId: owners.get(partition) ?? null })),
    held: describeHeld(state, context),
    queues: [...state.queues]
      .sort(([a], [b]) => comparePartitions(a, b))
      .map(([partition, queue]) => describeQueue(partition, queue)),
  };
}

/** The broker's assignor, under the name that Kafka has for one that balances over all topics. */
const BROKER_ASSIGNOR = 'uniform';

export function protocolOf({
  classic,
}: Pick<GroupState, 'classic'>): Pick<GroupDescription, 'type' | 'protocolType' | 'protocolName' | 'leaderId'> {
  if (classic === null) {
    return { type: 'consumer', protocolType: 'consumer', protocolName: BROKER_ASSIGNOR, leaderId: '' };
  }
  const { protocolType, protocolName, leaderId } = classic;
  return { type: 'classic', protocolType, protocolName: protocolName ?? '', leaderId: leaderId ?? '' };
}

function kafkaPart(
  member: MemberState,
  { classic }: GroupState,
): Pick<MemberDescription, 'protocol' | 'metadata' | 'assignment'> {
  const own = member.kafka?.classic ?? null;
  if (own === null) return { protocol: member.kafka === null ? 'push' : 'consumer', metadata: null, assignment: null };
  const protocolName = classic === null ? own.protocols[0]?.name : classic.protocolName;
  const metadata = metadataOf(member, protocolName ?? null);
  return { protocol: 'classic', metadata, assignment: classic === null ? null : own.assignment };
}

/** Committed offsets of `partitions`, in their order, undefined where there is none; of all when it is null. */
export function fetchOffsets(
  state: GroupState | undefined,
  partitions: readonly PartitionKey[] | null,
): Map<PartitionKey, CommittedOffset | undefined> {
  const wanted = partitions ?? [...(state?.offsets.keys() ?? [])].sort(comparePartitions);
  return new Map(wanted.map((partition) => [partition, state?.offsets.get(partition)]));
}

/** Members that `records` add, change or remove: those to whom the runtime has something to tell. */
export function changedMembers(records: readonly GroupRecord[]): string[] {
  return records.flatMap((record) => (record.kind === 'member' ? [record.memberId] : []));
}
