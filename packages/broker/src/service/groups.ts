/** Groups as operators see them: lists, lag, resetting and deleting. */
import { partitionKey, splitPartitionKey, type PartitionKey } from '@naru/base';
import { checkGroupId, NaruError, refuse, type Refusal } from '@naru/protocol';
import type { GroupDescription, OffsetRange } from '../core/group/index.ts';
import type { QueueCounts, QueueDescription } from '../core/queue/queue-state.ts';
import {
  isRefusal,
  type GroupListing,
  type OffsetPosition,
  type PartitionStatus,
  type ShardClient,
} from '../runtime/commands.ts';
import { describeGates, type GateReport, type WithheldOf } from './group-gates.ts';
import type { TopicService } from './topics.ts';

export interface GroupOffset {
  readonly topic: string;
  readonly partition: number;
  readonly committedOffset: number | null;
  readonly finished: readonly OffsetRange[];
  readonly metadata: string;
  readonly highWatermark: number;
  readonly logStartOffset: number;
  /** Records that the group has not finished; markers at the end are none. */
  readonly lag: number;
  /** Null when nobody holds it. */
  readonly memberId: string | null;
  /** Null when the group waits for no other there. */
  readonly gate: GateReport | null;
  /** Of a parallel topic; else null. */
  readonly queue: QueueReport | null;
}

export interface QueueReport extends QueueCounts {
  /** Those that were never given out among them. */
  readonly available: number;
  /** The first that is not finished; null when all are. */
  readonly oldest: number | null;
  /** Members that have records. */
  readonly holders: number;
}

export interface GroupReport extends GroupDescription {
  readonly lags: readonly GroupOffset[];
}

export interface OffsetChange {
  readonly topic: string;
  readonly partition: number;
  readonly from: number | null;
  readonly to: number;
}

export class GroupService {
  readonly #shard: ShardClient;
  readonly #topics: TopicService;
  readonly #withheldOf: WithheldOf;

  /** @param withheldOf what members' sessions hold back. Default: not known */
  constructor(shard: ShardClient, topics: TopicService, withheldOf: WithheldOf = () => null) {
    this.#shard = shard;
    this.#topics = topics;
    this.#withheldOf = withheldOf;
  }

  async list(): Promise<readonly GroupListing[] | Refusal> {
    return this.#shard.submit({ type: 'list-groups' });
  }

  async describe(groupId: string): Promise<GroupReport | Refusal> {
    const group = await this.#shard.submit({ type: 'describe-group', groupId });
    if (isRefusal(group)) return group;
    const holders = new Map<PartitionKey, string>();
    for (const member of group.members) {
      for (const partition of [...member.assigned, ...member.revoking]) holders.set(partition, member.memberId);
    }
    const committed = committedOf(group);
    const queues = new Map(group.queues.map((queue) => [queue.partition, queue]));
    const partitions = [...new Set([...committed.keys(), ...holders.keys()])];
    const status = await this.#statusOf(partitions);
    const held = new Map(partitions.map((key) => [key, holders.get(key) ?? null]));
    const gates = await describeGates(this.#shard, groupId, held, this.#withheldOf);
    if (isRefusal(gates)) return gates;
    const lags = partitions.flatMap((key): GroupOffset[] => {
      const { topicId, partition } = splitPartitionKey(key);
      const topic = this.#topics.findById(topicId);
      const at = status.get(key);
      if (isRefusal(topic) || at === undefined) return [];
      const offset = committed.get(key);
      const finished = offset?.finished ?? [];
      const { highWatermark, dataEndOffset, logStartOffset } = at;
      const beyond = finished.reduce((sum, [from, to]) => sum + to - from, 0);
      const lag = Math.max(0, dataEndOffset - Math.max(offset?.offset ?? logStartOffset, logStartOffset) - beyond);
      const known = { committedOffset: offset?.offset ?? null, finished, metadata: offset?.metadata ?? '' };
      return [
        {
          topic: topic.name,
          partition,
          ...known,
          highWatermark,
          logStartOffset,
          lag,
          memberId: holders.get(key) ?? null,
          gate: gates.get(key) ?? null,
          queue: queueReport(queues.get(key), lag, offset?.offset ?? logStartOffset),
        },
      ];
    });
    lags.sort((a, b) => (a.topic === b.topic ? a.partition - b.partition : a.topic < b.topic ? -1 : 1));
    return { ...group, lags };
  }

  /** What a reset would change, or did. @param topicNames empty for all that the group has offsets for */
  async resetOffsets(
    groupId: string,
    topicNames: readonly string[],
    to: OffsetPosition,
    execute: boolean,
  ): Promise<readonly OffsetChange[] | Refusal> {
    const idRefusal = checkGroupId(groupId);
    if (idRefusal !== null) return idRefusal;
    const group = await this.#shard.submit({ type: 'describe-group', groupId });
    if (isRefusal(group) && group.code !== 'GROUP_ID_NOT_FOUND') return group;
    if (isRefusal(group) && topicNames.length === 0) return group;
    if (!isRefusal(group) && group.members.length > 0) {
      const message = `group ${JSON.stringify(groupId)} has ${group.members.length} members; stop them first`;
      return refuse('NON_EMPTY_GROUP', message);
    }
    const committed = new Map(
      isRefusal(group) ? [] : [...committedOf(group)].map(([partition, { offset }]) => [partition, offset]),
    );
    const wanted = this.#partitionsOf(topicNames, [...committed.keys()]);
    if (isRefusal(wanted)) return wanted;
    const changes: (OffsetChange & { key: PartitionKey })[] = [];
    for (const { key, topic, partition } of wanted) {
      const found = await this.#shard.submit({ type: 'find-offset', partition: key, position: to, isStable: true });
      if (isRefusal(found)) return found;
      changes.push({ key, topic, partition, from: committed.get(key) ?? null, to: found.offset });
    }
    if (execute && changes.length > 0) {
      const offsets = changes.map(({ key, to: offset }) => ({ partition: key, offset }));
      const reply = await this.#shard.submit({ type: 'group', command: { type: 'reset-offsets', groupId, offsets } });
      if (isRefusal(reply)) return reply;
    }
    return changes.map(({ topic, partition, from, to: offset }) => ({ topic, partition, from, to: offset }));
  }

  async delete(groupId: string): Promise<Refusal | null> {
    const reply = await this.#shard.submit({ type: 'group', command: { type: 'delete-group', groupId } });
    return isRefusal(reply) ? reply : null;
  }

  #partitionsOf(
    topicNames: readonly string[],
    committed: readonly PartitionKey[],
  ): { key: PartitionKey; topic: string; partition: number }[] | Refusal {
    if (topicNames.length === 0) {
      return committed.flatMap((key) => {
        const { topicId, partition } = splitPartitionKey(key);
        const topic = this.#topics.findById(topicId);
        return isRefusal(topic) ? [] : [{ key, topic: topic.name, partition }];
      });
    }
    const wanted = [];
    for (const name of topicNames) {
      const topic = this.#topics.find(name);
      if (isRefusal(topic)) return topic;
      for (let partition = 0; partition < topic.partitionCount; partition++) {
        wanted.push({ key: partitionKey(topic.id, partition), topic: name, partition });
      }
    }
    return wanted;
  }

  async #statusOf(partitions: readonly PartitionKey[]): Promise<Map<PartitionKey, PartitionStatus>> {
    const status = await this.#shard.submit({ type: 'describe-partitions', partitions });
    if (isRefusal(status)) throw NaruError.from(status);
    return new Map(status.map((entry) => [entry.partition, entry]));
  }
}

/** What is finished of each partition; of a parallel topic where its queue begins. */
function committedOf({ offsets, queues }: GroupDescription) {
  const committed = new Map<PartitionKey, { offset: number; finished: readonly OffsetRange[]; metadata: string }>();
  for (const { partition, committed: found } of offsets) committed.set(partition, found);
  for (const { partition, startOffset, finishedRanges } of queues) {
    committed.set(partition, { offset: startOffset, finished: finishedRanges, metadata: '' });
  }
  return committed;
}

/** @param lag all that is not finished @param startOffset the first of it */
function queueReport(queue: QueueDescription | undefined, lag: number, startOffset: number): QueueReport | null {
  if (queue === undefined) return null;
  const { acquired, finished, dying, holders } = queue;
  const available = Math.max(0, lag - acquired - dying);
  return { available, acquired, finished, dying, holders, oldest: lag === 0 ? null : startOffset };
}
