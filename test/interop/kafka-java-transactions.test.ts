/** Transactions of the Java client, in the second flow, by way of Apache Kafka's own tools; and its tool for operators. */
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { javaTool, javaToolsMissing } from './java-tools.ts';
import { KafkaTarget, numbered, unusedName } from './kafka-target.ts';
import { KafkajsClients } from './kafkajs-clients.ts';
import type { PeerProcess } from './peer-process.ts';
import { peerIsMissing } from './peer.ts';
import { transactionalPeers } from './transactional-peers.ts';

const WAIT = { timeout: 45_000, interval: 50 };
/** Longer than a test. */
const ENDLESS_MS = '1000000';

let target: KafkaTarget;
let clients: KafkajsClients;
let topic: string;
let transactionalId: string;

beforeAll(async () => {
  target = await KafkaTarget.start({ defaultPartitions: 1 });
  clients = new KafkajsClients(target.bootstrap);
});

afterAll(() => target[Symbol.asyncDispose]());

beforeEach(async () => {
  topic = unusedName('java');
  transactionalId = topic;
  const admin = await clients.admin();
  await admin.createTopics({ topics: [{ topic, numPartitions: 1 }] });
});

/** What a tool prints when it succeeds. */
function say(name: Parameters<typeof javaTool>[0], ...args: string[]): Promise<string> {
  return javaTool(name, ['--bootstrap-server', target.bootstrap, ...args]).succeeded();
}

/** Writes in transactions of so many milliseconds. */
function produce(records: number, perSecond: number, transactionMs: string, ...properties: string[]): PeerProcess {
  const load = ['--num-records', String(records), '--record-size', '20', '--throughput', String(perSecond)];
  const transactions = ['--transactional-id', transactionalId, '--transaction-duration-ms', transactionMs];
  const producer = ['--producer-props', `bootstrap.servers=${target.bootstrap}`, 'linger.ms=1', ...properties];
  return javaTool('kafka-producer-perf-test', ['--topic', topic, ...load, ...transactions, ...producer]);
}

async function sendPlain(...values: string[]): Promise<void> {
  const producer = await clients.producer();
  await producer.send({ topic, messages: values.map((value) => ({ value })) });
}

/** Starts a transaction that nobody ends. */
async function open(...properties: string[]): Promise<PeerProcess> {
  const producer = produce(1_000_000, 20, ENDLESS_MS, ...properties);
  onTestFinished(() => producer.kill('SIGKILL'));
  const written = await transactionalPeers[0].read(target.bootstrap, topic, 'uncommitted');
  await vi.waitFor(() => expect(written.length).toBeGreaterThan(0), WAIT);
  return producer;
}

/** By kafkajs, which starts sooner. */
function readCommitted(): Promise<readonly string[]> {
  return transactionalPeers[0].read(target.bootstrap, topic, 'committed');
}

/** By Java's client. */
async function committed(from: string, count: number): Promise<string[]> {
  const args = ['--topic', from, '--from-beginning', '--isolation-level', 'read_committed'];
  const end = ['--max-messages', String(count), '--timeout-ms', '30000'];
  return (await say('kafka-console-consumer', ...args, ...end)).trimEnd().split('\n');
}

describe.skipIf(peerIsMissing("Apache Kafka's tools", javaToolsMissing))("Apache Kafka's Java client", () => {
  it('commits transaction after transaction, each in an epoch of its own', async () => {
    expect(await produce(500, 500, '100').succeeded()).toContain('500 records sent');
    expect((await committed(topic, 500)).length).toBe(500);
    const said = await say('kafka-transactions', 'describe', '--transactional-id', transactionalId);
    // Producer, epoch, state.
    const [, epoch] = new RegExp(`${transactionalId}\\s+\\d+\\s+(\\d+)\\s+CompleteCommit`).exec(said) ?? [];
    expect(Number(epoch)).toBeGreaterThan(2);
  });

  it('copies each record of a topic once, with the offsets of its group, whatever it aborts in between', async () => {
    const values = numbered('value', 200);
    await sendPlain(...values);
    const output = unusedName('java');
    const from = ['--input-topic', topic, '--input-partition', '0', '--consumer-group', topic];
    const mode = ['--transaction-size', '10', '--enable-random-aborts', '--group-mode', '--use-group-metadata'];
    const to = ['--output-topic', output, '--transactional-id', transactionalId, '--max-messages', '200'];
    const brokers = ['--broker-list', target.bootstrap];
    await javaTool('transactional-message-copier', [...brokers, ...from, ...to, ...mode]).succeeded();
    expect(await committed(output, 200)).toEqual(values);
    const [fetched] = await (await clients.admin()).fetchOffsets({ groupId: topic, topics: [topic] });
    expect(fetched?.partitions).toMatchObject([{ partition: 0, offset: '200' }]);
  });

  it('is fenced by a second producer with its transactional id, which ends what it has open', async () => {
    const zombie = await open();
    await produce(5, -1, ENDLESS_MS).succeeded();
    await zombie.until(() => expect(zombie.output + zombie.errors).toMatch(/ProducerFenced|InvalidProducerEpoch/));
    await sendPlain('last');
    // Five records, and nothing of the first producer.
    const read = await readCommitted();
    await vi.waitFor(() => expect(read.length).toBe(6), WAIT);
    expect(read.at(-1)).toBe('last');
  });

  it('leaves a transaction that is aborted when its time is over', async () => {
    const abandoned = await open('transaction.timeout.ms=3000');
    await abandoned.kill('SIGKILL');
    await sendPlain('later');
    const read = await readCommitted();
    await vi.waitFor(() => expect(read).toEqual(['later']), WAIT);
  });

  it('kafka-transactions lists, describes and ends what is open', async () => {
    await open();
    expect(await say('kafka-transactions', 'list')).toMatch(new RegExp(`${transactionalId}\\s+1\\s+\\d+\\s+Ongoing`));
    const producers = await say('kafka-transactions', 'describe-producers', '--topic', topic, '--partition', '0');
    // Producer, epoch, coordinator's epoch, last sequence, last time, start of what is open.
    expect(producers).toMatch(/\n\d+\s+\d+\s+\S+\s+\d+\s+\d+\s+0\s/);
    await say('kafka-transactions', 'forceTerminateTransaction', '--transactionalId', transactionalId);
    await sendPlain('later');
    const read = await readCommitted();
    await vi.waitFor(() => expect(read).toEqual(['later']), WAIT);
    const ongoing = await say('kafka-transactions', 'list', '--duration-filter', '0');
    expect(ongoing).not.toContain(transactionalId);
  });
});
