/** One group, several doors: members of both of Kafka's group protocols and of the SDK share partitions and offsets. */
import { connect, type Naru } from '@naru/client';
import { Broker } from '@naru/broker';
import { Consumer, type Message } from '@platformatic/kafka';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { KafkajsClients } from './kafkajs-clients.ts';

const WAIT = { timeout: 30_000, interval: 20 };
const PARTITIONS = 6;
const TOPIC = 'orders';
const GROUP = 'payment';

let broker: Broker;
let naru: Naru;
let published: number;

/** What one member was given. */
interface Seen {
  readonly partition: number;
  readonly value: number;
}

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  naru = await connect({ brokers: [broker.bootstrap] });
  published = 0;
  await naru.admin.createTopic(TOPIC, { partitions: PARTITIONS });
  onTestFinished(async () => {
    await naru.close();
    await broker.close();
  });
});

/** One event to each of many keys. */
async function publish(): Promise<void> {
  const round = Array.from({ length: 24 }, (_, key) => naru.publish(TOPIC, published++, { key: `key-${key}` }));
  await Promise.all(round);
}

async function kafkajsMember() {
  const { consumer, taken } = await new KafkajsClients(broker.bootstrap).consume(TOPIC, { groupId: GROUP });
  const seen = (): Seen[] => taken.map(({ partition, value }) => ({ partition, value: Number(value) }));
  return { seen, leave: () => consumer.disconnect() };
}

async function platformaticMember(groupProtocol: 'classic' | 'consumer') {
  const options = { clientId: groupProtocol, groupId: GROUP, bootstrapBrokers: [broker.bootstrap] };
  const consumer = new Consumer(
    groupProtocol === 'consumer'
      ? { ...options, groupProtocol, maxWaitTime: 100 }
      : { ...options, groupProtocol, maxWaitTime: 100, heartbeatInterval: 200, sessionTimeout: 6_000 },
  );
  const stream = await consumer.consume({
    topics: [TOPIC],
    mode: 'committed',
    fallbackMode: 'earliest',
    autocommit: true,
  });
  const taken: Seen[] = [];
  const onMessage = ({ partition, value }: Message): void =>
    void taken.push({ partition, value: Number(value.toString()) });
  stream.on('data', onMessage);
  stream.on('error', () => {});
  const leave = async (): Promise<void> => {
    if (consumer.isActive()) await consumer.close(true);
  };
  onTestFinished(leave);
  return { seen: () => taken, leave };
}

async function sdkMember() {
  const subscriber = naru.subscriber(GROUP, { pollWaitMs: 50 });
  const taken: Seen[] = [];
  subscriber.handle<number>(TOPIC, ({ partition, value }) => void taken.push({ partition, value }));
  const over = subscriber.run();
  const leave = async (): Promise<void> => {
    await subscriber.close();
    await over;
  };
  onTestFinished(leave);
  return { seen: () => taken, leave };
}

type Member = Awaited<ReturnType<typeof sdkMember>>;

/** Publishes until each member was given something that came after now. */
async function allTakePart(members: readonly Member[]): Promise<void> {
  const before = members.map((member) => member.seen().length);
  await vi.waitFor(
    async () => {
      await publish();
      expect(members.every((member, index) => member.seen().length > before[index]!)).toBe(true);
    },
    { ...WAIT, interval: 300 },
  );
}

/** Everything was given to somebody, and what a member was given of a partition for the first time came in order. */
async function nothingIsMissing(members: readonly Member[]): Promise<void> {
  const values = () => members.flatMap((member) => member.seen().map(({ value }) => value));
  await vi.waitFor(() => expect(new Set(values()).size).toBe(published), WAIT);
  for (const member of members) {
    const last = new Map<number, number>();
    const repeated = new Set<number>();
    for (const { partition, value } of member.seen()) {
      if (repeated.has(value)) continue;
      repeated.add(value);
      expect(value).toBeGreaterThan(last.get(partition) ?? -1);
      last.set(partition, value);
    }
  }
}

/** Its members, with how many partitions each has. */
async function holders(): Promise<{ memberId: string; partitions: number }[]> {
  const group = await naru.admin.describeGroup(GROUP);
  return group.members.map(({ memberId, assigned }) => ({
    memberId,
    partitions: assigned.flatMap(({ partitions }) => partitions).length,
  }));
}

describe('a group with members of several doors', () => {
  it('goes from kafkajs alone to all kinds, and on to the SDK alone', async () => {
    const kafkajs = await kafkajsMember();
    await allTakePart([kafkajs]);
    const sdk = await sdkMember();
    await allTakePart([kafkajs, sdk]);
    const modern = await platformaticMember('consumer');
    await allTakePart([kafkajs, sdk, modern]);
    await vi.waitFor(
      async () => expect((await holders()).map(({ partitions }) => partitions)).toEqual([2, 2, 2]),
      WAIT,
    );
    await kafkajs.leave();
    await allTakePart([sdk, modern]);
    await modern.leave();
    await vi.waitFor(async () => expect(await holders()).toMatchObject([{ partitions: PARTITIONS }]), WAIT);
    await publish();
    await nothingIsMissing([kafkajs, sdk, modern]);
  });

  it('goes on where another kind of member has stopped', async () => {
    await publish();
    const members: Member[] = [];
    const joins = [sdkMember, kafkajsMember, () => platformaticMember('consumer'), () => platformaticMember('classic')];
    for (const join of joins) {
      const member = await join();
      const before = member.seen().length;
      await publish();
      members.push(member);
      await nothingIsMissing(members);
      expect(member.seen().length).toBeGreaterThan(before);
      await member.leave();
      await vi.waitFor(async () => expect(await holders()).toEqual([]), WAIT);
    }
    const values = members.flatMap((member) => member.seen().map(({ value }) => value));
    // Whoever left had committed: nothing twice.
    expect(values.toSorted((a, b) => a - b)).toEqual(Array.from({ length: published }, (_, index) => index));
  });

  it('refuses a classic client that assigns in another way, and takes it with its like when nobody is left', async () => {
    const kafkajs = await kafkajsMember();
    await allTakePart([kafkajs]);
    await expect(platformaticMember('classic')).rejects.toMatchObject({
      errors: [{ apiId: 'INCONSISTENT_GROUP_PROTOCOL' }],
    });
    await allTakePart([kafkajs]);
    await kafkajs.leave();
    await vi.waitFor(async () => expect(await holders()).toEqual([]), WAIT);
    const both = [await platformaticMember('classic'), await platformaticMember('classic')] as const;
    await allTakePart(both);
    await both[0].leave();
    await vi.waitFor(async () => expect(await holders()).toMatchObject([{ partitions: PARTITIONS }]), WAIT);
    await nothingIsMissing([kafkajs, ...both]);
  });
});
