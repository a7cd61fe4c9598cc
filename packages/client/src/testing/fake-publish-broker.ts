/**
 * A broker for the publisher's tests: topics, logs and the rules of idempotent publishing (KIP-98), over streams that
 * delay, break and refuse as the test says.
 */
import { create } from '@bufbuild/protobuf';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { topicIdFromBytes, topicIdToBytes } from '@naru/base';
import type { TopicId } from '@naru/base';
import type { ErrorCode } from '@naru/protocol';
import { ERRORS, NaruError } from '@naru/protocol';
import type { BatchHeader, BatchRecord } from '@naru/protocol/batch';
import { decodeRecords, verifyBatch } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { DescribeTopicResponseSchema, PublishStreamResponseSchema } from '@naru/protocol/proto';
import type {
  CommitTransaction,
  DescribeTopicRequest,
  PublishBatch,
  PublishStreamRequest,
  PublishStreamResponse,
  TransactionRef,
} from '@naru/protocol/proto';
import type { PublishStream, SubscribeStream, Transport } from '../transport/transport.ts';
import { FakeStream } from './fake-stream.ts';
import type { VirtualTime } from './virtual-time.ts';

interface Producer {
  epoch: number;
  /** The last five: [first, last] sequence and base offset. */
  batches: { first: number; last: number; baseOffset: number }[];
}

export interface FakePartition {
  readonly records: BatchRecord[];
  readonly producers: Map<bigint, Producer>;
  batches: number;
}

/** What becomes of a batch apart from the rules. */
export type Fault =
  /** Refused before it is stored. */
  | { readonly refuse: ErrorCode }
  /** Stored, and then refused all the same. */
  | { readonly storeAndRefuse: ErrorCode }
  /** Stored and never answered. */
  | 'silent'
  /** Not stored and never answered. */
  | 'swallow';

type FakePublishStream = FakeStream<PublishStreamRequest, PublishStreamResponse>;

export type NextTransaction = Pick<TransactionRef, 'transactionalId' | 'producerId' | 'producerEpoch'>;

export class FakePublishBroker implements Transport {
  readonly #time: VirtualTime;
  readonly topics = new Map<string, { topicId: TopicId; partitions: FakePartition[] }>();
  readonly streams: FakePublishStream[] = [];
  readonly received: PublishBatch[] = [];
  maxBatchBytes = 1024 * 1024;
  maxInFlightBytes = 8 * 1024 * 1024;
  topicLookups = 0;
  isReachable = true;
  /** For each batch that arrives. */
  fault: (batch: PublishBatch) => Fault | null = () => null;
  /** Virtual milliseconds that a message takes. */
  delayMs: () => number = () => 0;
  #nextProducerId = 100n;
  /** On which a batch was not answered. */
  readonly #silent = new WeakSet<FakePublishStream>();

  constructor(time: VirtualTime) {
    this.#time = time;
  }

  createTopic(name: string, partitionCount: number, topicId = crypto.randomUUID() as TopicId): FakePartition[] {
    const partitions = Array.from({ length: partitionCount }, newPartition);
    this.topics.set(name, { topicId, partitions });
    return partitions;
  }

  addPartitions(name: string, partitionCount: number): void {
    const partitions = this.topics.get(name)?.partitions ?? [];
    while (partitions.length < partitionCount) partitions.push(newPartition());
  }

  /** Breaks the newest stream, if there is one. */
  breakStream(): void {
    this.streams.at(-1)?.break(new NaruError('NETWORK', 'connection reset'));
  }

  openPublishStream(): PublishStream {
    const stream: FakePublishStream = new FakeStream(
      this.#time,
      (message) => this.#received(stream, message),
      () => this.delayMs(),
    );
    this.streams.push(stream);
    if (!this.isReachable) stream.break(new NaruError('NETWORK', 'connection refused'));
    return stream;
  }

  openSubscribeStream(): SubscribeStream {
    throw new Error('this broker takes publishers only');
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    if (!this.isReachable) return Promise.reject(new NaruError('NETWORK', 'connection refused'));
    if (method.localName !== 'describeTopic') throw new Error(`no ${method.localName} here`);
    this.topicLookups += 1;
    const name = (request as DescribeTopicRequest).topic.value as string;
    const topic = this.topics.get(name);
    if (topic === undefined)
      return Promise.reject(new NaruError('UNKNOWN_TOPIC_OR_PARTITION', `there is no topic ${name}`));
    const { topicId, partitions } = topic;
    const description = { name, topicId: topicIdToBytes(topicId), partitionCount: partitions.length };
    return Promise.resolve(create(DescribeTopicResponseSchema, { topic: description }) as unknown as MessageShape<O>);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  /** @param isLacking whether something that the commit expects is not stored. @returns the next transaction, or what goes wrong */
  protected commitBehind(_commit: CommitTransaction, _isLacking: boolean): NextTransaction | ErrorCode | 'break' {
    return 'UNSUPPORTED';
  }

  /** Whether a batch may be stored that is in order. */
  protected admit(_header: BatchHeader): ErrorCode | null {
    return null;
  }

  protected stored(_partition: FakePartition, _header: BatchHeader, _baseOffset: number): void {}

  #received(stream: FakePublishStream, { message }: PublishStreamRequest): void {
    if (message.case === 'open') {
      const producerId = message.value.producerId ?? this.#nextProducerId++;
      const { maxBatchBytes, maxInFlightBytes } = this;
      const opened = { producerId, maxBatchBytes, maxInFlightBytes };
      stream.answer(create(PublishStreamResponseSchema, { message: { case: 'opened', value: opened } }));
    } else if (message.case === 'batch') {
      this.#batch(stream, message.value);
    } else if (message.case === 'commit') {
      this.#commit(stream, message.value);
    }
  }

  #commit(stream: FakePublishStream, message: CommitTransaction): void {
    const lacking = message.expected.some(({ partition: ref, nextSequence }) => {
      const topicId = topicIdFromBytes(ref?.topicId ?? new Uint8Array(16));
      const topic = [...this.topics.values()].find((candidate) => candidate.topicId === topicId);
      const known = topic?.partitions[ref?.partition ?? 0]?.producers.get(message.transaction?.producerId ?? -1n);
      const last = known?.epoch === message.transaction?.producerEpoch ? known?.batches.at(-1)?.last : undefined;
      return (last ?? -1) + 1 !== nextSequence;
    });
    const result = this.commitBehind(message, lacking);
    // Answers come in order: with one before it that never comes, this one does not either.
    if (result === 'break' || this.#silent.has(stream))
      return stream.break(new NaruError('NETWORK', 'connection reset'));
    const { correlationId } = message;
    const ack =
      typeof result === 'string'
        ? { correlationId, error: { code: result, message: `refused: ${result}`, retriable: false } }
        : { correlationId, nextTransaction: result };
    stream.answer(create(PublishStreamResponseSchema, { message: { case: 'acks', value: { acks: [ack] } } }));
  }

  #batch(stream: FakePublishStream, batch: PublishBatch): void {
    this.received.push(batch);
    const fault = this.fault(batch);
    if (fault === 'swallow' || fault === 'silent') this.#silent.add(stream);
    if (fault === 'swallow') return;
    if (fault !== null && fault !== 'silent' && 'refuse' in fault) {
      this.#answer(stream, batch, fault.refuse);
      return;
    }
    const result = this.#append(batch);
    if (fault === 'silent') return;
    this.#answer(stream, batch, fault === null ? result : fault.storeAndRefuse);
  }

  #answer(stream: FakePublishStream, { correlationId }: PublishBatch, result: number | ErrorCode): void {
    const ack =
      typeof result === 'number'
        ? { correlationId, baseOffset: BigInt(result) }
        : {
            correlationId,
            error: { code: result, message: `refused: ${result}`, retriable: ERRORS[result].retriable },
          };
    stream.answer(create(PublishStreamResponseSchema, { message: { case: 'acks', value: { acks: [ack] } } }));
  }

  #append(message: PublishBatch): number | ErrorCode {
    const topicId = topicIdFromBytes(message.topicId);
    const topic = [...this.topics.values()].find((candidate) => candidate.topicId === topicId);
    const partition = topic?.partitions[message.partition];
    if (partition === undefined) return 'UNKNOWN_TOPIC_OR_PARTITION';
    const header = verifyBatch(message.records);
    const first = header.baseSequence;
    const last = (first + header.recordCount - 1) % 2 ** 31;
    const producerId = BigInt(header.producerId);
    const known = partition.producers.get(producerId);
    if (known === undefined || header.producerEpoch > known.epoch) {
      if (first !== 0) return known === undefined ? 'UNKNOWN_PRODUCER_ID' : 'OUT_OF_ORDER_SEQUENCE_NUMBER';
      partition.producers.set(producerId, { epoch: header.producerEpoch, batches: [] });
    } else {
      if (header.producerEpoch < known.epoch) return 'INVALID_PRODUCER_EPOCH';
      const repeated = known.batches.find((stored) => stored.first === first && stored.last === last);
      if (repeated !== undefined) return repeated.baseOffset;
      const expected = ((known.batches.at(-1)?.last ?? -1) + 1) % 2 ** 31;
      if ((expected - first + 2 ** 31) % 2 ** 31 < 2 ** 30 && first !== expected) return 'DUPLICATE_SEQUENCE_NUMBER';
      if (first !== expected) return 'OUT_OF_ORDER_SEQUENCE_NUMBER';
    }
    const refusal = this.admit(header);
    if (refusal !== null) return refusal;
    const baseOffset = partition.records.length;
    this.stored(partition, header, baseOffset);
    for (const record of decodeRecords(message.records, nodeCompressionCodecs)) {
      partition.records.push({ ...record, offset: baseOffset + record.offset });
    }
    partition.batches += 1;
    const producer = partition.producers.get(producerId) as Producer;
    producer.batches = [...producer.batches, { first, last, baseOffset }].slice(-5);
    return baseOffset;
  }
}

function newPartition(): FakePartition {
  return { records: [], producers: new Map(), batches: 0 };
}
