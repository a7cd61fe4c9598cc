/** One group behind several doors: a kafkajs member (classic), a librdkafka member (KIP-848) and one of the SDK. */
import { connect, type Naru } from '@naru/client';
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished, vi, describe } from 'vitest';
import { KafkaTarget, numbered, outsideKafka, unusedName } from './kafka-target.ts';
import { KafkajsClients } from './kafkajs-clients.ts';
import { librdkafka, librdkafkaMissing } from './librdkafka.ts';
import { peerIsMissing } from './peer.ts';

const WAIT = { timeout: 40_000, interval: 20 };
const PARTITIONS = 6;
const all = [0, 1, 2, 3, 4, 5];

interface Taken {
  readonly partition: number;
  readonly value: string | null;
}

/** Behind any door. */
interface Member {
  readonly taken: readonly Taken[];
  leave(): Promise<void>;
}

let target: KafkaTarget;
let clients: KafkajsClients;
let naru: Naru;
let topic: string;

beforeAll(async () => {
  if (outsideKafka !== '') return;
  target = await KafkaTarget.start();
  clients = new KafkajsClients(target.bootstrap);
  naru = await connect({ brokers: [target.bootstrap] });
});

afterAll(async () => {
  await naru?.close();
  await target?.[Symbol.asyncDispose]();
});

beforeEach(async () => {
  if (outsideKafka !== '') return;
  topic = unusedName('mixed');
  await naru.admin.createTopic(topic, { partitions: PARTITIONS });
});

async function kafkajsMember(): Promise<Member> {
  const { taken, consumer } = await clients.consume(topic, { groupId: topic, sessionTimeout: 6_000 });
  return { taken, leave: () => consumer.disconnect() };
}

async function librdkafkaMember(): Promise<Member> {
  const consumer = librdkafka(target.bootstrap).consumer({
    'group.id': topic,
    'group.protocol': 'consumer',
    'auto.offset.reset': 'earliest',
    'auto.commit.interval.ms': 100,
    'fetch.wait.max.ms': 100,
  });
  await consumer.connect();
  onTestFinished(() => consumer.disconnect());
  await consumer.subscribe({ topics: [topic] });
  const taken: Taken[] = [];
  await consumer.run({
    eachMessage: async ({ partition, message: { value } }) => {
      taken.push({ partition, value: value?.toString() ?? null });
    },
  });
  return { taken, leave: () => consumer.disconnect() };
}

function sdkMember(): Member {
  const taken: Taken[] = [];
  const stop = new AbortController();
  const subscriber = naru.subscriber(topic, { pollWaitMs: 100 });
  subscriber.handle<string>(topic, async ({ partition, value }) => {
    taken.push({ partition, value });
  });
  const ended = subscriber.run({ signal: stop.signal });
  const leave = async (): Promise<void> => {
    stop.abort();
    await ended;
  };
  onTestFinished(leave);
  return { taken, leave };
}

/** JSON text, which is what the SDK reads and the others show as it is. */
const written = (values: readonly string[]): string[] => values.map((value) => JSON.stringify(value));

async function fill(prefix: string, count: number): Promise<void> {
  const producer = await clients.producer();
  const values = written(numbered(prefix, count));
  await producer.send({ topic, messages: all.flatMap((partition) => values.map((value) => ({ value, partition }))) });
}

const missing = outsideKafka === '' ? librdkafkaMissing : 'needs a broker of ours';

describe.skipIf(peerIsMissing('one group with members of kafkajs, librdkafka and the SDK', missing))(
  'one group with members of kafkajs, librdkafka and the SDK',
  () => {
    it('shares its partitions, hands them over as members leave, and keeps one set of offsets', async () => {
      const members = [await kafkajsMember(), await librdkafkaMember(), sdkMember()] as const;
      const [ofKafkajs, ofLibrdkafka, ofSdk] = members;
      const count = (): number => members.reduce((sum, { taken }) => sum + taken.length, 0);
      const partitionsOf = ({ taken }: Member, from: number): Set<number> =>
        new Set(taken.slice(from).map(({ partition }) => partition));
      // Everybody has its share when everybody gets something of what is sent.
      let rounds = 0;
      await vi.waitFor(async () => {
        const before = members.map(({ taken }) => taken.length);
        await fill(`round-${rounds++}`, 1);
        await vi.waitFor(() => expect(count()).toBe(rounds * PARTITIONS), WAIT);
        expect(members.map((member, index) => partitionsOf(member, before[index] as number).size)).toEqual([2, 2, 2]);
      }, WAIT);
      await ofKafkajs.leave();
      await fill('second', 3);
      await vi.waitFor(() => expect(count()).toBe((rounds + 3) * PARTITIONS), WAIT);
      await ofLibrdkafka.leave();
      const before = ofSdk.taken.length;
      await fill('third', 3);
      await vi.waitFor(() => expect(count()).toBe((rounds + 6) * PARTITIONS), WAIT);
      expect(partitionsOf(ofSdk, before)).toEqual(new Set(all));
      await ofSdk.leave();
      // Nothing twice and nothing lost, although partitions went from door to door.
      const end = rounds + 6;
      const group = await naru.admin.describeGroup(topic);
      expect(group.offsets.map(({ partition, committedOffset }) => [partition, Number(committedOffset)])).toEqual(
        all.map((p) => [p, end]),
      );
      const admin = await clients.admin();
      const [fetched] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
      expect(fetched?.partitions.map(({ partition, offset }) => [partition, offset]).toSorted()).toEqual(
        all.map((partition) => [partition, String(end)]),
      );
    });
  },
);
