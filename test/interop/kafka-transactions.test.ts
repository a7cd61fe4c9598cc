/** Transactions of Kafka's JavaScript clients, each with its own consumers; and of one read by others. */
import { connect } from '@naru/client';
import { afterAll, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { KafkaTarget, numbered, outsideKafka, unusedName } from './kafka-target.ts';
import { KafkajsClients } from './kafkajs-clients.ts';
import { peerIsMissing } from './peer.ts';
import { transactionalPeers } from './transactional-peers.ts';

const WAIT = { timeout: 40_000, interval: 20 };

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
  topic = unusedName('transactions');
  transactionalId = topic;
  await createTopic(topic);
});

async function createTopic(name: string): Promise<void> {
  const admin = await clients.admin();
  await admin.createTopics({ topics: [{ topic: name, numPartitions: 1 }] });
}

async function sendPlain(...values: string[]): Promise<void> {
  const producer = await clients.producer();
  await producer.send({ topic, messages: values.map((value) => ({ value })) });
}

describe.each(transactionalPeers)('$name', (peer) => {
  describe.skipIf(peerIsMissing(peer.name, peer.missing))('as producer and consumer', () => {
    const producer = (timeoutMs?: number) => peer.producer(target.bootstrap, { transactionalId, timeoutMs });
    const read = (isolation: 'committed' | 'uncommitted', from = topic) => peer.read(target.bootstrap, from, isolation);

    it('writes to two topics all or nothing; who reads what is committed sees that, others see everything', async () => {
      const other = unusedName('transactions');
      await createTopic(other);
      const client = await producer();
      for (const [name, end] of [
        ['first', 'commit'],
        ['second', 'abort'],
        ['third', 'commit'],
      ] as const) {
        const transaction = await client.begin();
        await transaction.send(topic, ...numbered(name, 3));
        await transaction.send(other, name);
        await transaction.send(topic, `${name}-last`);
        await transaction[end]();
      }
      const [committed, uncommitted] = [await read('committed'), await read('uncommitted')];
      const valuesOf = (name: string): string[] => [...numbered(name, 3), `${name}-last`];
      await vi.waitFor(() => expect(uncommitted.length).toBe(12), WAIT);
      expect(uncommitted).toEqual(['first', 'second', 'third'].flatMap(valuesOf));
      await vi.waitFor(() => expect(committed.length).toBe(8), WAIT);
      expect(committed).toEqual(['first', 'third'].flatMap(valuesOf));
      const elsewhere = await read('committed', other);
      await vi.waitFor(() => expect(elsewhere).toEqual(['first', 'third']), WAIT);
      expect(committed.length).toBe(8);
    });

    it('holds up what comes behind an open transaction until it ends', async () => {
      const client = await producer();
      const transaction = await client.begin();
      await transaction.send(topic, 'open');
      await sendPlain('later');
      const [committed, uncommitted] = [await read('committed'), await read('uncommitted')];
      await vi.waitFor(() => expect(uncommitted).toEqual(['open', 'later']), WAIT);
      expect(committed).toEqual([]);
      await transaction.commit();
      await vi.waitFor(() => expect(committed).toEqual(['open', 'later']), WAIT);
    });

    it('consumes, transforms and produces: each record once, whatever is aborted in between', async () => {
      const output = unusedName('transactions');
      await createTopic(output);
      const values = numbered('value', 5);
      await sendPlain(...values);
      const client = await producer();
      const failing = new Set(['value-1', 'value-4']);
      await peer.consume(target.bootstrap, topic, topic, async (record) => {
        const attempt = async (end: 'abort' | 'commit'): Promise<void> => {
          const transaction = await client.begin();
          await transaction.send(output, record.value.toUpperCase());
          await transaction.sendOffset(record);
          await transaction[end]();
        };
        if (failing.delete(record.value)) await attempt('abort');
        await attempt('commit');
      });
      // @platformatic/kafka does not drop two aborted transactions of one producer in one answer.
      const committed = await transactionalPeers[0].read(target.bootstrap, output, 'committed');
      const uncommitted = await read('uncommitted', output);
      await vi.waitFor(() => expect(uncommitted.length).toBe(7), WAIT);
      await vi.waitFor(() => expect(committed).toEqual(values.map((value) => value.toUpperCase())), WAIT);
      const admin = await clients.admin();
      await vi.waitFor(async () => {
        const [fetched] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
        expect(fetched?.partitions).toMatchObject([{ partition: 0, offset: '5' }]);
      }, WAIT);
    });

    it('a second producer with the same id ends what the first has open, and the first can do nothing more', async () => {
      const zombie = await (await producer()).begin();
      await zombie.send(topic, 'zombie');
      const successor = await (await producer()).begin();
      await successor.send(topic, 'successor');
      const ended = await zombie.commit().then(
        () => 'committed',
        () => 'refused',
      );
      expect(ended).toBe('refused');
      await successor.commit();
      const [committed, uncommitted] = [await read('committed'), await read('uncommitted')];
      await vi.waitFor(() => expect(uncommitted).toEqual(['zombie', 'successor']), WAIT);
      await vi.waitFor(() => expect(committed).toEqual(['successor']), WAIT);
    });

    it('a transaction that nobody ends is aborted when its time is over', async () => {
      const abandoned = await (await producer(2_000)).begin();
      await abandoned.send(topic, 'abandoned');
      await sendPlain('later');
      const committed = await read('committed');
      await vi.waitFor(() => expect(committed).toEqual(['later']), WAIT);
      await expect(abandoned.commit()).rejects.toThrow(Error);
      expect(committed).toEqual(['later']);
    });
  });
});

describe.skipIf(outsideKafka !== '')('beside others', () => {
  it('a subscriber of the SDK sees what kafkajs has committed, and what it publishes itself', async () => {
    const naru = await connect({ brokers: [target.bootstrap] });
    onTestFinished(() => naru.close());
    const [kafkajs] = transactionalPeers;
    const producer = await kafkajs.producer(target.bootstrap, { transactionalId });
    for (const [value, end] of [
      ['one', 'commit'],
      ['two', 'abort'],
      ['three', 'commit'],
    ] as const) {
      const transaction = await producer.begin();
      await transaction.send(topic, JSON.stringify(value));
      await naru.publish(topic, `beside ${value}`);
      await transaction[end]();
    }
    const taken: unknown[] = [];
    const stop = new AbortController();
    const subscriber = naru.subscriber(topic, { pollWaitMs: 100 });
    subscriber.handle<string>(topic, async ({ value }) => void taken.push(value));
    const ended = subscriber.run({ signal: stop.signal });
    onTestFinished(async () => {
      stop.abort();
      await ended;
    });
    const expected = ['one', 'beside one', 'beside two', 'three', 'beside three'];
    await vi.waitFor(() => expect(taken).toEqual(expected), WAIT);
  });
});
