/**
 * OffsetDelete of Kafka's admin clients: takes offsets out of a group, also while it has members.
 *
 * As in Kafka a topic is spared while a member subscribes to it, by name or by pattern; a group whose members do not say what
 * they subscribe to keeps everything until they are gone. Looking and deleting are one decision, so that no member can begin
 * to subscribe in between.
 */
import { splitPartitionKey } from '@naru/base';
import { refuse } from '@naru/protocol';
import { HeldChanges } from './held-changes.ts';
import { unfinishedWaiting } from './held-outcomes.ts';
import type { DecisionFor, GroupContext } from './commands.ts';
import { refused } from './decide-join.ts';
import type { GroupRecord, GroupState, MemberState } from './group-state.ts';
import type { DeleteOffsetsCommand } from './kafka-commands.ts';
import { matchingTopics } from './topic-pattern.ts';
import { withoutPending } from './transaction-offsets.ts';

const CONSUMER = 'consumer';

export function decideKafkaOffsetDelete(
  state: GroupState | undefined,
  { groupId, partitions }: DeleteOffsetsCommand,
  context: GroupContext,
  nowMs: number,
): DecisionFor<DeleteOffsetsCommand> {
  if (state === undefined) return refused(refuse('GROUP_ID_NOT_FOUND', `there is no group ${groupId}`));
  const { maxOffsetsPerCommand } = context.limits;
  if (partitions.length > maxOffsetsPerCommand) {
    const message = `${partitions.length} offsets in one request: at most ${maxOffsetsPerCommand} are allowed`;
    return refused(refuse('INVALID_REQUEST', message));
  }
  const members = [...state.members.values()];
  if (members.length > 0 && !saySubscriptions(state, members)) {
    const message = `group ${groupId} has members, and what they subscribe to cannot be read: stop them first`;
    return refused(refuse('NON_EMPTY_GROUP', message));
  }
  const topics = new Set(members.flatMap((member) => subscribedTopics(member, context)));
  const subscribed = partitions.filter((partition) => {
    const topic = context.topicName(splitPartitionKey(partition).topicId);
    return topic !== undefined && topics.has(topic);
  });
  const kept = new Set(subscribed);
  const unsubscribed = new Set(partitions.filter((partition) => !kept.has(partition)));
  const gone = [...unsubscribed].filter((partition) => state.offsets.has(partition));
  const held = new HeldChanges(groupId, state, context, nowMs);
  // What waits will be read again, with everything else.
  for (const partition of gone) held.add(partition, unfinishedWaiting(state.held.get(partition), null));
  const records = gone.map((partition): GroupRecord => ({ kind: 'offset', groupId, partition, value: null }));
  // What an open transaction keeps for them goes, too: its end does not bring them back.
  const pending = withoutPending(state, (partition) => unsubscribed.has(partition));
  return { records: [...held.around(records), ...pending], appends: held.appends, reply: { subscribed }, timers: [] };
}

function saySubscriptions({ classic }: GroupState, members: readonly MemberState[]): boolean {
  if (classic !== null && classic.protocolType !== CONSUMER) return false;
  return members.every(({ kafka }) => kafka?.classic?.readable !== false);
}

function subscribedTopics({ topics, kafka }: MemberState, context: GroupContext): readonly string[] {
  const pattern = kafka?.topicPattern ?? null;
  return pattern === null ? topics : [...topics, ...matchingTopics(pattern, context)];
}
