/**
 * Clients of a torture test that use Kafka's protocol: kafkajs and librdkafka, unchanged. What they cannot bear ends the process,
 * and whoever started it starts another with the same transactional id, which is what a user of them has to do, too.
 */
import { toError } from '@naru/base';
import kafkajs from 'kafkajs';
import type { Producer, RecordMetadata } from 'kafkajs';
import { librdkafka } from '../../interop/librdkafka.ts';
import type { ClientRun } from './client-task.ts';
import { Lane, tell } from './client-log.ts';
import { INPUT, OUTPUT, TOPICS, keyOf, partitionOf, payloadOf, topicIndexOf, valueIn } from './values.ts';

export const KAFKA_PIPELINE_GROUP = 'kafka-pipeline';
/** What a client may take, of a broker that is started anew. */
const RETRY = { initialRetryTime: 50, maxRetryTime: 500, retries: 30 };

interface Message {
  readonly value: Buffer;
  readonly key: string;
  readonly partition: number;
}

/** What kafkajs and librdkafka have in common. */
interface Transaction {
  send(record: { topic: string; messages: Message[] }): Promise<RecordMetadata[]>;
  commit(): Promise<void>;
  abort(): Promise<void>;
}

function kafkaOf({ task }: ClientRun): kafkajs.Kafka {
  return new kafkajs.Kafka({
    brokers: [task.address],
    clientId: task.name,
    logLevel: kafkajs.logLevel.NOTHING,
    retry: RETRY,
  });
}

function kafkajsProducer(run: ClientRun, lane: number): Producer {
  return kafkaOf(run).producer({
    createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
    transactionalId: `${run.task.name}-${lane}`,
    transactionTimeout: run.task.transactionTimeoutMs,
    idempotent: true,
    maxInFlightRequests: 1,
    retry: RETRY,
  });
}

export async function runKafkajsWriter(run: ClientRun): Promise<void> {
  await writeInLanes(run, async (index) => {
    const producer = kafkajsProducer(run, index);
    await producer.connect();
    return { begin: () => producer.transaction(), tellsPlaces: true, close: () => producer.disconnect() };
  });
}

export async function runLibrdkafkaWriter(run: ClientRun): Promise<void> {
  await writeInLanes(run, async (index) => {
    const producer = librdkafka(run.task.address).producer({
      'linger.ms': 1,
      'transactional.id': `${run.task.name}-${index}`,
      'transaction.timeout.ms': run.task.transactionTimeoutMs,
      'reconnect.backoff.ms': 50,
      'reconnect.backoff.max.ms': 500,
    }) as ReturnType<ReturnType<typeof librdkafka>['producer']> & { transaction(): Promise<Transaction> };
    await producer.connect();
    // It gathers records of one call into batches as it likes, and tells where the first one is.
    return { begin: () => producer.transaction(), tellsPlaces: false, close: () => producer.disconnect() };
  });
}

interface Writing {
  begin(): Promise<Transaction>;
  readonly tellsPlaces: boolean;
  close(): Promise<void>;
}

async function writeInLanes(run: ClientRun, open: (lane: number) => Promise<Writing>): Promise<void> {
  const { firstWriter, lanes } = run.task;
  const writing = await Promise.all(Array.from({ length: lanes }, (_, index) => open(index)));
  tell(['ready']);
  const done = writing.map(async (producer, index) => {
    const lane = new Lane(index, firstWriter + index);
    while (!run.isStopped) await writeTransaction(run, lane, producer);
    await producer.close();
  });
  await Promise.all(done);
}

async function writeTransaction(run: ClientRun, lane: Lane, producer: Writing): Promise<void> {
  const isAborted = run.wantsAbort();
  const transaction = await producer.begin();
  const counters = lane.begin(run.size());
  for (const topic of TOPICS.keys()) {
    const sent = counters.filter((counter) => topicIndexOf(counter) === topic);
    if (sent.length === 0) continue;
    const messages = sent.map((counter) => messageOf(lane.value(counter), run.task.partitions));
    const metadata = await transaction.send({ topic: TOPICS[topic] as string, messages });
    if (producer.tellsPlaces) tellPlaces(lane, topic, sent, messages, metadata);
  }
  if (isAborted) {
    lane.ended('aborted');
    await transaction.abort();
    return;
  }
  lane.committing();
  // When this is not answered the process ends, and the transaction stays of unknown end.
  await transaction.commit();
  lane.ended('committed');
}

function messageOf(value: number, partitions: number): Message {
  return { value: Buffer.from(payloadOf(value)), key: keyOf(value), partition: partitionOf(value, partitions) };
}

/** kafkajs makes one batch for each partition of a call. */
function tellPlaces(
  lane: Lane,
  topic: number,
  counters: readonly number[],
  messages: readonly Message[],
  metadata: readonly RecordMetadata[],
): void {
  const next = new Map(metadata.map(({ partition, baseOffset }) => [partition, Number(baseOffset)]));
  for (const [index, counter] of counters.entries()) {
    const { partition } = messages[index] as Message;
    const offset = next.get(partition);
    if (offset === undefined) continue;
    next.set(partition, offset + 1);
    lane.placed(counter, topic, partition, offset);
  }
  lane.tellPlaces();
}

/**
 * Reads, writes and commits in one transaction for each batch. kafkajs does not say which member it is when it commits offsets, so
 * one process at a time reads, and it is fenced by its transactional id.
 */
export async function runKafkajsPipeline(run: ClientRun): Promise<void> {
  const producer = kafkajsProducer(run, 0);
  await producer.connect();
  const consumer = kafkaOf(run).consumer({
    groupId: KAFKA_PIPELINE_GROUP,
    maxWaitTimeInMs: 50,
    heartbeatInterval: 500,
    sessionTimeout: 6_000,
    retry: { ...RETRY, restartOnFailure: () => Promise.resolve(false) },
  });
  await consumer.connect();
  await consumer.subscribe({ topic: INPUT, fromBeginning: true });
  let failed = (_: Error): void => {};
  const failure = new Promise<never>((_, reject) => (failed = reject));
  consumer.on(consumer.events.CRASH, ({ payload }) => failed(payload.error));
  await consumer.run({
    autoCommit: false,
    eachBatchAutoResolve: false,
    eachBatch: async (payload) => {
      const { batch } = payload;
      try {
        await transform(producer, batch, run.task.partitions);
      } catch (error) {
        failed(toError(error));
        throw error;
      }
      payload.resolveOffset(batch.lastOffset());
      await payload.heartbeat();
    },
  });
  tell(['ready']);
  const stopped = new Promise<void>((resolve) => run.stop.addEventListener('abort', () => resolve()));
  await Promise.race([stopped, failure]);
  await consumer.disconnect();
  await producer.disconnect();
}

async function transform(producer: Producer, batch: kafkajs.Batch, partitions: number): Promise<void> {
  if (batch.messages.length === 0) return;
  const transaction = await producer.transaction();
  const messages = batch.messages.map(({ value }) => {
    const payload = value as Buffer;
    const number = valueIn(payload);
    return { value: payload, key: keyOf(number), partition: partitionOf(number, partitions) };
  });
  await transaction.send({ topic: OUTPUT, messages });
  const offsets = [{ partition: batch.partition, offset: String(Number(batch.lastOffset()) + 1) }];
  const topics = [{ topic: batch.topic, partitions: offsets }];
  await transaction.sendOffsets({ consumerGroupId: KAFKA_PIPELINE_GROUP, topics });
  await transaction.commit();
}
