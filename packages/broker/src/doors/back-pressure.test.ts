/** Clients that do not read: what the broker holds for them stays bounded, and they delay nobody else. */
import { Broker } from '@naru/broker';
import { encodeBatch } from '@naru/protocol/batch';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { RawClient } from './grpc/raw-client.ts';

const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const MIB = 1024 * 1024;

let broker: Broker;
let admin: RawClient;
let clients: RawClient[];

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  clients = [];
  admin = newClient();
});

afterEach(async () => {
  for (const client of clients) client.destroy();
  await broker.close();
});

function newClient(windowBytes?: number): RawClient {
  const client = new RawClient(broker.bootstrap, windowBytes);
  clients.push(client);
  return client;
}

async function metrics(): Promise<(name: string) => number> {
  const page = await (await fetch(`http://${broker.bootstrap}/metrics`)).text();
  return (name) => Number(new RegExp(`^naru_${name} (\\S+)$`, 'm').exec(page)?.[1]);
}

/** Looks until it holds. */
async function until(holds: (metric: (name: string) => number) => boolean): Promise<void> {
  while (!holds(await metrics()));
}

/** Looks until it is the same a few times in a row. */
async function settled(read: () => Promise<number>): Promise<number> {
  let last = await read();
  for (let same = 0; same < 5;) {
    const next = await read();
    same = next === last ? same + 1 : 0;
    last = next;
  }
  return last;
}

/** So that few answers are on their way. */
const SMALL_WINDOW_BYTES = 1_024;
/** More than any number of messages that is taken without their answers being read. */
const MANY = 100_000;

/** Sends up to `count` messages, no faster than the connection takes them; returns how many when it takes no more. */
async function sendWhileTaken(
  stream: { readonly unsentBytes: number },
  count: number,
  send: (index: number) => void,
): Promise<number> {
  let sent = 0;
  for (let idle = 0; idle < 20 && sent < count; idle++) {
    while (stream.unsentBytes < 16 * 1024 && sent < count) {
      send(sent);
      sent += 1;
      idle = 0;
    }
    await metrics();
  }
  return sent;
}

const smallBatch = encodeBatch([{ key: null, value: new Uint8Array(1), timestampMs: 1 }]);

async function fill(topic: string, mebibytes: number): Promise<void> {
  const records = Array.from({ length: 8 }, () => ({ value: new Uint8Array(MIB / 2), partition: 0 }));
  for (let sent = 0; sent < mebibytes; sent += 4) await admin.publisher.publish({ topic, records });
}

describe('a subscriber that never reads', () => {
  it('is read for once, and then no more, however often it asks', async () => {
    await admin.createTopic('orders');
    await fill('orders', 20);
    for (const memberId of ['a', 'b']) {
      const slow = newClient().subscribe(
        { case: 'join', value: { groupId: '', memberId, topics: ['orders'], start: BEGINNING } },
        false,
      );
      for (let poll = 0; poll < 8; poll++) slow.poll(60_000, 8 * MIB);
    }
    await until((metric) => metric('subscribe_held_bytes') > 8 * MIB);
    const held = await settled(async () => (await metrics())('subscribe_held_bytes'));
    expect(held).toBeLessThanOrEqual(2 * (8 * MIB + 4096));
    const other = newClient().subscribe({
      case: 'join',
      value: { groupId: '', memberId: 'c', topics: ['orders'], start: BEGINNING },
    });
    await other.assigned(1);
    other.poll();
    expect((await other.take('records')).partitions).toHaveLength(1);
  });

  it('gives back what was held for it when it goes', async () => {
    await admin.createTopic('orders');
    await fill('orders', 16);
    const client = newClient();
    const slow = client.subscribe(
      { case: 'join', value: { groupId: '', memberId: 'a', topics: ['orders'], start: BEGINNING } },
      false,
    );
    for (let poll = 0; poll < 8; poll++) slow.poll(60_000, 8 * MIB);
    await until((metric) => metric('subscribe_held_bytes') > 0);
    client.destroy();
    await until((metric) => metric('subscribe_streams') === 0);
    expect((await metrics())('subscribe_held_bytes')).toBe(0);
  });

  it('does not stop the broker when it makes a mistake while polls of it wait', async () => {
    await admin.createTopic('orders');
    await fill('orders', 16);
    const slow = newClient().subscribe(
      { case: 'join', value: { groupId: '', memberId: 'a', topics: ['orders'], start: BEGINNING } },
      false,
    );
    for (let poll = 0; poll < 4; poll++) slow.poll(60_000, 8 * MIB);
    await until((metric) => metric('subscribe_held_bytes') > 0);
    slow.send({ case: 'seek', value: {} });
    slow.finish();
    expect(await settled(async () => (await metrics())('waiting_fetches'))).toBe(0);
  });

  it('is not heard any more when it commits again and again without reading the answers', async () => {
    const topicId = await admin.createTopic('orders');
    const slow = newClient(SMALL_WINDOW_BYTES).subscribe(
      { case: 'join', value: { groupId: 'g', memberId: 'a', topics: ['orders'], start: BEGINNING } },
      false,
    );
    const partition = { topicId, partition: 0 };
    const metadata = 'm'.repeat(1_000);
    const sent = await sendWhileTaken(slow, MANY, (commitId) => {
      slow.send({ case: 'commit', value: { commitId, partitions: [{ partition, offset: 0n, metadata }] } });
    });
    // The answers that wait, and those that the windows of the connection hold.
    expect(sent).toBeGreaterThan(1_000);
    expect(sent).toBeLessThan(MANY);
  }, 60_000);
});

describe('a publisher that never reads', () => {
  it('is not heard any more when too many of its acknowledgements wait', async () => {
    const topicId = await admin.createTopic('orders');
    const client = newClient(SMALL_WINDOW_BYTES);
    const publisher = client.openPublishing(false);
    publisher.send({ case: 'open', value: {} });
    const sent = await sendWhileTaken(publisher, MANY, (id) => publisher.batch(id, topicId, smallBatch));
    expect(sent).toBeLessThan(MANY);
    const stored = async (): Promise<number> => {
      const { partitions } = await admin.admin.describeTopic({ topic: { case: 'name', value: 'orders' } });
      return Number(partitions[0]?.highWatermark);
    };
    const taken = await settled(stored);
    expect(taken).toBeGreaterThan(10_000);
    expect(taken).toBeLessThanOrEqual(sent);
    expect((await metrics())('publish_in_flight_bytes')).toBe(0);
    expect((await admin.publish('orders', 0, ['others go on']))[0]?.error).toBeNull();
    client.destroy();
    await until((metric) => metric('publish_streams') === 0);
  });

  it('has a bounded number of bytes under way', async () => {
    const topicId = await admin.createTopic('orders');
    const publisher = newClient().openPublishing();
    publisher.send({ case: 'open', value: {} });
    const { maxBatchBytes, maxInFlightBytes } = await publisher.take('opened');
    const batch = encodeBatch([{ key: null, value: new Uint8Array(MIB), timestampMs: 1 }]);
    expect(batch.length).toBeLessThanOrEqual(maxBatchBytes);
    for (let index = 0; index < 40; index++) publisher.batch(index, topicId, batch);
    let most = 0;
    const watching = publisher.acks(40);
    let isDone = false;
    void watching.finally(() => (isDone = true));
    while (!isDone) most = Math.max(most, (await metrics())('publish_in_flight_bytes'));
    expect((await watching).size).toBe(40);
    expect(most).toBeLessThanOrEqual(maxInFlightBytes + maxBatchBytes);
    await until((metric) => metric('publish_in_flight_bytes') === 0);
  });
});
