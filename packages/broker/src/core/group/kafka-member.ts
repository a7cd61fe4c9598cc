/** What Kafka members of every kind have in common: who they are, what they say about themselves, what is wrong with it. */
import { refuse } from '@naru/protocol';
import type { Refusal } from '@naru/protocol';
import type { GroupContext, GroupLimits } from './commands.ts';
import { unknownMember } from './decide-join.ts';
import type { MemberState } from './group-state.ts';
import type { ClassicJoinCommand, KafkaHeartbeatCommand } from './kafka-commands.ts';
import { checkTopicPattern } from './topic-pattern.ts';

/** Protocols of one member. */
const MAX_PROTOCOLS = 100;
/** The broker's assignor balances and moves little under either name. */
const ASSIGNORS: readonly string[] = ['uniform', 'range'];

export function instanceOwner(members: ReadonlyMap<string, MemberState>, instanceId: string): MemberState | undefined {
  for (const member of members.values()) if (member.instanceId === instanceId) return member;
  return undefined;
}

/** The member that the two ids name; one whose instance id has gone to another is fenced (KIP-345). */
export function findMember(
  members: ReadonlyMap<string, MemberState>,
  memberId: string,
  instanceId: string | null,
): MemberState | Refusal {
  if (instanceId === null) return members.get(memberId) ?? unknownMember(memberId);
  const owner = instanceOwner(members, instanceId);
  if (owner === undefined) return unknownInstance(instanceId);
  return owner.memberId === memberId ? owner : fencedInstance(owner, owner.memberId);
}

export function fencedInstance({ instanceId }: MemberState, memberId: string): Refusal {
  return refuse('FENCED_INSTANCE_ID', `instance id ${instanceId} belongs to member ${memberId} now`);
}

export function unknownInstance(instanceId: string): Refusal {
  return refuse('UNKNOWN_MEMBER_ID', `the group has no member with instance id ${instanceId}`);
}

/** Time-outs beyond the limit are cut to it: applications set them to the largest number to say "never". */
export function kafkaSubscription(
  command: Pick<ClassicJoinCommand, 'clientId' | 'clientHost' | 'sessionTimeoutMs' | 'rebalanceTimeoutMs'>,
  topics: readonly string[],
  limits: GroupLimits,
): Pick<
  MemberState,
  'clientId' | 'clientHost' | 'topics' | 'sessionTimeoutMs' | 'rebalanceTimeoutMs' | 'maxPollIntervalMs'
> {
  const { clientId, clientHost } = command;
  const sessionTimeoutMs = command.sessionTimeoutMs === 0 ? limits.defaultSessionTimeoutMs : command.sessionTimeoutMs;
  const rebalanceTimeoutMs = command.rebalanceTimeoutMs > 0 ? command.rebalanceTimeoutMs : sessionTimeoutMs;
  return {
    clientId,
    clientHost,
    topics: [...new Set(topics)].sort(),
    sessionTimeoutMs,
    rebalanceTimeoutMs: Math.min(rebalanceTimeoutMs, limits.maxRebalanceTimeoutMs),
    maxPollIntervalMs: null,
  };
}

export function checkClassicJoin(command: ClassicJoinCommand, context: GroupContext): Refusal | null {
  const { limits } = context;
  const { protocolType, protocols, sessionTimeoutMs, subscription } = command;
  const ids = [command.memberId, command.newMemberId, command.instanceId ?? '', command.clientId, protocolType];
  const { minSessionTimeoutMs, maxSessionTimeoutMs } = limits;
  if (sessionTimeoutMs !== 0 && (sessionTimeoutMs < minSessionTimeoutMs || sessionTimeoutMs > maxSessionTimeoutMs)) {
    const message = `the session time-out must be ${minSessionTimeoutMs} to ${maxSessionTimeoutMs} ms, not ${sessionTimeoutMs}`;
    return refuse('INVALID_SESSION_TIMEOUT', message);
  }
  if (protocolType === '' || protocols.length === 0) {
    return refuse('INCONSISTENT_GROUP_PROTOCOL', 'a member names a protocol type and at least one protocol');
  }
  if (protocols.length > MAX_PROTOCOLS) {
    return refuse('INVALID_REQUEST', `a member has at most ${MAX_PROTOCOLS} protocols, not ${protocols.length}`);
  }
  return checkIds(ids, command.instanceId, limits) ?? checkTopicCount(subscription?.topics, limits);
}

export function checkKafkaHeartbeat(command: KafkaHeartbeatCommand, context: GroupContext): Refusal | null {
  const { limits } = context;
  const { memberId, memberEpoch, instanceId, topics, topicPattern, serverAssignor, owned } = command;
  const wrong = (what: string): Refusal => refuse('INVALID_REQUEST', what);
  if (!Number.isInteger(memberEpoch) || memberEpoch < -2) return wrong(`there is no member epoch ${memberEpoch}`);
  if (memberId === '' && memberEpoch !== 0) return wrong('a member that has joined gives its id');
  if (memberEpoch === -2 && instanceId === null) return wrong('only a static member leaves for a while');
  if (memberEpoch === 0) {
    if (command.rebalanceTimeoutMs === null) return wrong('a member that joins gives its rebalance time-out');
    if (owned !== null && owned.length > 0) return wrong('a member that joins holds no partitions');
    if (topics === null && (topicPattern ?? '') === '') return wrong('a member that joins subscribes to something');
  }
  if (serverAssignor !== null && !ASSIGNORS.includes(serverAssignor)) {
    const message = `there is no assignor ${JSON.stringify(serverAssignor)}; there are ${ASSIGNORS.join(' and ')}`;
    return refuse('UNSUPPORTED_ASSIGNOR', message);
  }
  const unusable = topicPattern === null || topicPattern === '' ? null : checkTopicPattern(topicPattern);
  if (unusable !== null) {
    const message = `the pattern ${JSON.stringify(topicPattern)} cannot be used: ${unusable}`;
    return refuse('INVALID_REGULAR_EXPRESSION', message);
  }
  const ids = [memberId, command.newMemberId, instanceId ?? '', command.clientId];
  return checkIds(ids, instanceId, limits) ?? checkTopicCount(topics, limits);
}

function checkIds(ids: readonly string[], instanceId: string | null, { maxIdLength }: GroupLimits): Refusal | null {
  if (instanceId === '') return refuse('INVALID_REQUEST', 'an instance id cannot be empty');
  const long = ids.find((id) => id.length > maxIdLength);
  if (long === undefined) return null;
  return refuse('INVALID_REQUEST', `an id has at most ${maxIdLength} characters, not ${long.length}`);
}

function checkTopicCount(topics: readonly string[] | null | undefined, { maxTopics }: GroupLimits): Refusal | null {
  if (topics === null || topics === undefined || topics.length <= maxTopics) return null;
  return refuse('INVALID_REQUEST', `a member subscribes to at most ${maxTopics} topics, not ${topics.length}`);
}
