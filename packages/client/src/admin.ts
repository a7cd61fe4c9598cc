/** Topics, groups and the cluster, as an operator sees them. Translates between the wire and plain values. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { TopicId } from '@naru/base';
import { topicIdFromBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { AdminService, TopicType as WireTopicType, WithheldReason } from '@naru/protocol/proto';
import type {
  DescribeGroupResponse,
  GroupGate as WireGroupGate,
  GroupQueue as WireGroupQueue,
  GroupOffset as WireGroupOffset,
  Topic as WireTopic,
} from '@naru/protocol/proto';
import type { CallOptions } from './call-options.ts';
import { withDeadline } from './call-options.ts';
import type { Runtime } from './runtime.ts';
import type { StartPosition } from './subscriber/start-position.ts';
import { wireStartPosition } from './subscriber/start-position.ts';
import { abortTransaction, describeTransaction, listTransactions } from './transactions-admin.ts';
import type { TransactionDescription, TransactionFilter, TransactionSummary } from './transactions-admin.ts';
import type { Transport } from './transport/transport.ts';

/** `ordered`: keyed partitions, each owned by one member of a group. `parallel`: records taken singly by any member. */
export type TopicType = 'ordered' | 'parallel';

export interface Topic {
  readonly name: string;
  readonly topicId: TopicId;
  readonly type: TopicType;
  readonly partitions: number;
  readonly config: Readonly<Record<string, string>>;
  /** Milliseconds since the Unix epoch. */
  readonly createdAtMs: number;
}

export interface PartitionDescription {
  readonly partition: number;
  readonly logStartOffset: bigint;
  /** Offset after the last event that can be read. */
  readonly highWatermark: bigint;
  readonly sizeBytes: bigint;
  readonly leaderEpoch: number;
  /** Before the first open transaction, where readers of committed events wait; the high watermark when there is none. */
  readonly lastStableOffset: bigint;
  /** After the last event that is not a transaction's marker: lag is counted to here. */
  readonly dataEndOffset: bigint;
}

export interface TopicDescription extends Topic {
  readonly partitionDetails: readonly PartitionDescription[];
}

export interface CreateTopicOptions extends CallOptions {
  /** Default: the broker's. */
  readonly partitions?: number | undefined;
  /** Default `ordered`. */
  readonly type?: TopicType | undefined;
  readonly config?: Readonly<Record<string, string>> | undefined;
}

export interface AddPartitionsOptions extends CallOptions {
  /** Accepts that keys of an ordered topic move to other partitions. Default false: refused with KEY_REORDER_NOT_ALLOWED. */
  readonly allowKeyReorder?: boolean | undefined;
}

export interface TopicConfigEntry {
  /** Kafka's name where Kafka has one, such as `retention.ms`. */
  readonly name: string;
  /** In force: durations in milliseconds, sizes in bytes, `-1` for no limit. */
  readonly value: string;
  /** False where the broker's default holds. */
  readonly isSet: boolean;
  readonly help: string;
}

export interface ChangeTopicConfigOptions extends CallOptions {
  /** Durations and sizes may have units: `7d`, `10GiB`; `unlimited` is `-1`. */
  readonly set?: Readonly<Record<string, string>> | undefined;
  /** Settings that go back to the broker's default. */
  readonly unset?: readonly string[] | undefined;
}

export interface RecordsBefore {
  readonly partition: number;
  /** The new log start offset, unless it lies below the present one; `end`: everything that can be read now. */
  readonly before: bigint | 'end';
}

export interface PartitionOffset {
  readonly partition: number;
  readonly offset: bigint;
}

export interface GroupListing {
  readonly groupId: string;
  /** empty, assigning, reconciling or stable. */
  readonly state: string;
  readonly members: number;
  readonly topics: readonly string[];
}

export interface GroupMember {
  readonly memberId: string;
  readonly instanceId: string | undefined;
  readonly clientId: string;
  readonly clientHost: string;
  readonly memberEpoch: number;
  readonly topics: readonly string[];
  readonly assigned: readonly { readonly topic: string; readonly partitions: readonly number[] }[];
  /** What it holds and has been asked to release. */
  readonly revoking: readonly { readonly topic: string; readonly partitions: readonly number[] }[];
}

export interface GroupOffset {
  readonly topic: string;
  readonly partition: number;
  /** Undefined when nothing was committed. */
  readonly committedOffset: bigint | undefined;
  readonly highWatermark: bigint;
  readonly logStartOffset: bigint;
  /** Events that the group has not finished. */
  readonly lag: bigint;
  readonly metadata: string;
  /** Undefined when nobody owns the partition. */
  readonly memberId: string | undefined;
  /** Finished beyond the committed offset: [from, to). */
  readonly finished: readonly { readonly from: bigint; readonly to: bigint }[];
  /** What its events wait for; undefined when the group waits for no other group there. */
  readonly gate: GroupGate | undefined;
  /** Of a parallel topic, whose committed offset is the one below which everything is finished; else undefined. */
  readonly queue: GroupQueue | undefined;
}

/** What of a parallel topic's partition is given out to a group. */
export interface GroupQueue {
  /** To be given out: now, later, or for the first time. */
  readonly available: bigint;
  /** Some member has them. */
  readonly acquired: bigint;
  /** Beyond the committed offset. */
  readonly finished: bigint;
  /** About to be dead letters. */
  readonly dying: bigint;
  /** The first that is not finished; undefined when all are. */
  readonly oldest: bigint | undefined;
  /** Members that have some. */
  readonly holders: number;
}

/** A group of a higher order gets an event once every group of a lower order has finished it. */
export interface GroupGate {
  /** Groups of a lower order. */
  readonly waitsFor: readonly string[];
  /** Nothing from here on is released by all of them. */
  readonly gateOffset: bigint;
  /** Events that the group has not finished and that are not released. */
  readonly withheld: bigint;
  /** By offset: the first that is not released, and the first that is and stays behind an earlier event of its key. */
  readonly oldest: readonly WithheldEvent[];
  /** Events that were passed over while later ones were given. */
  readonly passedOver: number;
  /** Of these: released, and behind an earlier event of their key. */
  readonly behindKey: number;
  /** As many were passed over as may be: the partition is not read on until some are given. */
  readonly stalled: boolean;
}

export interface WithheldEvent {
  readonly offset: bigint;
  /** `lag`: the group has not come so far. `retry`: it failed there and waits. `dead-letter`: until redriven or purged. */
  readonly reason: 'lag' | 'retry' | 'dead-letter' | 'behind-key';
  /** The group that has not finished it; undefined for `behind-key`. */
  readonly groupId: string | undefined;
  /** Of that group. */
  readonly deadLetterId: string | undefined;
}

export interface GroupDescription {
  readonly groupId: string;
  readonly state: string;
  readonly groupEpoch: number;
  readonly members: readonly GroupMember[];
  readonly offsets: readonly GroupOffset[];
}

export interface ResetOffsetsOptions extends CallOptions {
  /** Default: every topic that the group has offsets for. */
  readonly topics?: readonly string[] | undefined;
  readonly to: Exclude<StartPosition, 'none'>;
  /** Default false: only says what it would do. */
  readonly execute?: boolean | undefined;
}

export interface OffsetReset {
  readonly executed: boolean;
  readonly changes: readonly {
    readonly topic: string;
    readonly partition: number;
    readonly from: bigint | undefined;
    readonly to: bigint;
  }[];
}

export interface ClusterDescription {
  readonly clusterId: string;
  readonly version: string;
  readonly storage: string;
  readonly startedAtMs: number;
}

export class Admin {
  readonly #transport: Transport;
  readonly #runtime: Runtime;
  readonly #timeoutMs: number;

  /** @param timeoutMs for calls without their own */
  constructor(transport: Transport, runtime: Runtime, timeoutMs: number) {
    this.#transport = transport;
    this.#runtime = runtime;
    this.#timeoutMs = timeoutMs;
  }

  async describeCluster(options?: CallOptions): Promise<ClusterDescription> {
    const { clusterId, version, storage, startedAtMs } = await this.#call(
      AdminService.method.describeCluster,
      {},
      options,
    );
    return { clusterId, version, storage, startedAtMs: Number(startedAtMs) };
  }

  /** @throws NaruError TOPIC_ALREADY_EXISTS, INVALID_TOPIC, INVALID_PARTITIONS, INVALID_CONFIG */
  async createTopic(name: string, options: CreateTopicOptions = {}): Promise<Topic> {
    const type = options.type === 'parallel' ? WireTopicType.PARALLEL : WireTopicType.ORDERED;
    const request = { name, partitionCount: options.partitions ?? 0, type, config: { ...options.config } };
    const response = await this.#call(AdminService.method.createTopic, request, options);
    return topic(response.topic);
  }

  /** @param options `internal` lists the broker's own topics too */
  async listTopics(options: CallOptions & { readonly internal?: boolean } = {}): Promise<Topic[]> {
    const request = { internal: options.internal ?? false };
    const response = await this.#call(AdminService.method.listTopics, request, options);
    return response.topics.map(topic);
  }

  /** @throws NaruError UNKNOWN_TOPIC_OR_PARTITION */
  async describeTopic(name: string, options?: CallOptions): Promise<TopicDescription> {
    const request = { topic: { case: 'name', value: name } } as const;
    const response = await this.#call(AdminService.method.describeTopic, request, options);
    const partitionDetails = response.partitions.map((details) => ({
      partition: details.partition,
      logStartOffset: details.logStartOffset,
      highWatermark: details.highWatermark,
      sizeBytes: details.sizeBytes,
      leaderEpoch: details.leaderEpoch,
      lastStableOffset: details.lastStableOffset,
      dataEndOffset: details.dataEndOffset,
    }));
    return { ...topic(response.topic), partitionDetails };
  }

  async deleteTopic(name: string, options?: CallOptions): Promise<void> {
    await this.#call(AdminService.method.deleteTopic, { name }, options);
  }

  /** @param partitions the new total */
  async addPartitions(name: string, partitions: number, options: AddPartitionsOptions = {}): Promise<Topic> {
    const request = { name, partitionCount: partitions, allowKeyReorder: options.allowKeyReorder ?? false };
    const response = await this.#call(AdminService.method.addPartitions, request, options);
    return topic(response.topic);
  }

  /** Every setting of a topic, with the value in force. @throws NaruError UNKNOWN_TOPIC_OR_PARTITION */
  async describeTopicConfig(name: string, options?: CallOptions): Promise<TopicConfigEntry[]> {
    const { entries } = await this.#call(AdminService.method.describeTopicConfig, { name }, options);
    return entries.map(({ name: setting, value, isSet, help }) => ({ name: setting, value, isSet, help }));
  }

  /** In force when it resolves. @throws NaruError INVALID_CONFIG, UNKNOWN_TOPIC_OR_PARTITION */
  async changeTopicConfig(name: string, options: ChangeTopicConfigOptions): Promise<Topic> {
    const request = { name, set: { ...options.set }, unset: [...(options.unset ?? [])] };
    const response = await this.#call(AdminService.method.changeTopicConfig, request, options);
    return topic(response.topic);
  }

  /**
   * Deletes events for good, for every group.
   *
   * @returns the log start offsets after it
   * @throws NaruError OFFSET_OUT_OF_RANGE beyond the end; partitions named before that one are done then
   */
  async deleteRecords(
    name: string,
    partitions: readonly RecordsBefore[],
    options?: CallOptions,
  ): Promise<PartitionOffset[]> {
    const request = {
      topic: name,
      partitions: partitions.map(({ partition, before }) =>
        before === 'end' ? { partition } : { partition, beforeOffset: before },
      ),
    };
    const response = await this.#call(AdminService.method.deleteRecords, request, options);
    return response.logStarts.map(({ partition, offset }) => ({ partition, offset }));
  }

  /** Where `position` is in each partition. Default: every partition. */
  async listOffsets(
    name: string,
    position: Exclude<StartPosition, 'none'>,
    options: CallOptions & { readonly partitions?: readonly number[] } = {},
  ): Promise<PartitionOffset[]> {
    const request = {
      topic: name,
      partitions: [...(options.partitions ?? [])],
      ...positionField('position', position),
    };
    const response = await this.#call(AdminService.method.listOffsets, request, options);
    return response.offsets.map(({ partition, offset }) => ({ partition, offset }));
  }

  async listGroups(options?: CallOptions): Promise<GroupListing[]> {
    const response = await this.#call(AdminService.method.listGroups, {}, options);
    return response.groups.map(({ groupId, state, memberCount, topics }) => ({
      groupId,
      state,
      members: memberCount,
      topics,
    }));
  }

  /** @throws NaruError GROUP_ID_NOT_FOUND */
  async describeGroup(groupId: string, options?: CallOptions): Promise<GroupDescription> {
    return group(await this.#call(AdminService.method.describeGroup, { groupId }, options));
  }

  /** @throws NaruError NON_EMPTY_GROUP while the group has members */
  async resetOffsets(groupId: string, options: ResetOffsetsOptions): Promise<OffsetReset> {
    const { topics = [], execute = false, to } = options;
    const request = { groupId, topics: [...topics], execute, ...positionField('to', to) };
    const response = await this.#call(AdminService.method.resetOffsets, request, options);
    const changes = response.changes.map((change) => ({
      topic: change.topic,
      partition: change.partition,
      from: change.from,
      to: change.to,
    }));
    return { executed: response.executed, changes };
  }

  /** @throws NaruError NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND */
  async deleteGroup(groupId: string, options?: CallOptions): Promise<void> {
    await this.#call(AdminService.method.deleteGroup, { groupId }, options);
  }

  /** What transactional ids there are, by id: all that match. */
  listTransactions(options: TransactionFilter & CallOptions = {}): Promise<TransactionSummary[]> {
    return listTransactions((method, request) => this.#call(method, request, options), options);
  }

  /** @throws NaruError TRANSACTIONAL_ID_NOT_FOUND */
  describeTransaction(transactionalId: string, options?: CallOptions): Promise<TransactionDescription> {
    return describeTransaction((method, request) => this.#call(method, request, options), transactionalId);
  }

  /**
   * Aborts what a transactional id has open, and fences its producer: everything that it goes on to send is refused with PRODUCER_FENCED.
   *
   * @returns whether something was open
   * @throws NaruError TRANSACTIONAL_ID_NOT_FOUND
   */
  abortTransaction(transactionalId: string, options?: CallOptions): Promise<boolean> {
    return abortTransaction((method, request) => this.#call(method, request, options), transactionalId);
  }

  #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions | undefined,
  ): Promise<MessageShape<O>> {
    return withDeadline(this.#runtime.timers, options, this.#timeoutMs, method.localName, (signal) =>
      this.#transport.call(method, request, signal),
    );
  }
}

function positionField<K extends string>(
  name: K,
  position: StartPosition,
): Record<K, NonNullable<ReturnType<typeof wireStartPosition>>> {
  const wire = wireStartPosition(position);
  if (wire === undefined) throw new NaruError('INVALID_REQUEST', 'expected a position, got none');
  return { [name]: wire } as Record<K, typeof wire>;
}

function topic(wire: WireTopic | undefined): Topic {
  if (wire === undefined) throw new NaruError('INTERNAL', 'the broker answered without the topic');
  return {
    name: wire.name,
    topicId: topicIdFromBytes(wire.topicId),
    type: wire.type === WireTopicType.PARALLEL ? 'parallel' : 'ordered',
    partitions: wire.partitionCount,
    config: wire.config,
    createdAtMs: Number(wire.createdAtMs),
  };
}

function group({ groupId, state, groupEpoch, members, offsets }: DescribeGroupResponse): GroupDescription {
  return {
    groupId,
    state,
    groupEpoch,
    members: members.map((member) => ({
      memberId: member.memberId,
      instanceId: member.instanceId,
      clientId: member.clientId,
      clientHost: member.clientHost,
      memberEpoch: member.memberEpoch,
      topics: member.topics,
      assigned: member.assigned.map(({ topic: name, partitions }) => ({ topic: name, partitions })),
      revoking: member.revoking.map(({ topic: name, partitions }) => ({ topic: name, partitions })),
    })),
    offsets: offsets.map(groupOffset),
  };
}

function groupOffset(wire: WireGroupOffset): GroupOffset {
  return {
    topic: wire.topic,
    partition: wire.partition,
    committedOffset: wire.committedOffset,
    highWatermark: wire.highWatermark,
    logStartOffset: wire.logStartOffset,
    lag: wire.lag,
    metadata: wire.metadata,
    memberId: wire.memberId === '' ? undefined : wire.memberId,
    finished: wire.finished.map(({ from, to }) => ({ from, to })),
    gate: wire.gate === undefined ? undefined : groupGate(wire.gate),
    queue: wire.queue === undefined ? undefined : groupQueue(wire.queue),
  };
}

function groupQueue({ available, acquired, finished, dying, oldest, holders }: WireGroupQueue): GroupQueue {
  return { available, acquired, finished, dying, oldest, holders };
}

function groupGate({
  waitsFor,
  gateOffset,
  withheld,
  oldest,
  passedOver,
  behindKey,
  stalled,
}: WireGroupGate): GroupGate {
  const events = oldest.map(({ offset, reason, groupId, deadLetterId }): WithheldEvent => ({
    offset,
    reason: withheldReason(reason),
    groupId: groupId === '' ? undefined : groupId,
    deadLetterId: deadLetterId === '' ? undefined : deadLetterId,
  }));
  return { waitsFor, gateOffset, withheld, oldest: events, passedOver, behindKey, stalled };
}

/** What a later broker may add is a lag at least. */
function withheldReason(reason: WithheldReason): WithheldEvent['reason'] {
  if (reason === WithheldReason.RETRY) return 'retry';
  if (reason === WithheldReason.DEAD_LETTER) return 'dead-letter';
  return reason === WithheldReason.BEHIND_KEY ? 'behind-key' : 'lag';
}
