/** Kafka connections as such: order, what is refused, what is bounded, and when they are closed. */
import { Broker } from '@naru/broker';
import { encodeBatch } from '@naru/protocol/batch';
import { decodeResponse, encodeConsumerSubscription, kafkaApis } from '@naru/protocol/kafka';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../../runtime/settling.ts';
import { frameOf, RawKafkaClient } from './raw-kafka-client.ts';

const MINUTE_MS = 60_000;
const MIB = 1024 * 1024;

let clock: VirtualClock;
let broker: Broker;
let warnings: string[];
let errors: unknown[];
let clients: RawKafkaClient[];

beforeEach(async () => {
  clock = new VirtualClock();
  warnings = [];
  errors = [];
  clients = [];
  const logger = {
    debug: () => {},
    info: () => {},
    warn: (_fields: object, message: string) => void warnings.push(message),
    error: (fields: object) => void errors.push(fields),
  };
  broker = await Broker.start({ storage: 'memory', port: 0 }, { clock, timers: clock, logger });
});

afterEach(async () => {
  // Whatever came before: the next one is served.
  const { brokers } = await (await newClient()).call('metadata', 9, { topics: [] });
  if (brokers[0]?.nodeId !== 1) throw new Error('the broker does not serve any more');
  for (const client of clients) client.destroy();
  await finished(broker.close(), clock);
  if (errors.length > 0) throw new Error('the broker logged an error', { cause: errors[0] });
});

async function newClient(): Promise<RawKafkaClient> {
  const client = await RawKafkaClient.connect(broker.address);
  clients.push(client);
  return client;
}

async function metric(name: string): Promise<number> {
  const page = await (await fetch(`http://${broker.bootstrap}/metrics`)).text();
  return Number(new RegExp(`^naru_${name} (\\S+)$`, 'm').exec(page)?.[1]);
}

async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  while (!(await holds())) await turns(1);
}

async function createTopic(name = 'orders'): Promise<void> {
  await (await newClient()).call('metadata', 9, { topics: [{ name }] });
}

function produceOf(value: string | Uint8Array, acks = -1) {
  const record = { key: null, value: typeof value === 'string' ? Buffer.from(value) : value, timestampMs: 1 };
  const records = encodeBatch([record]);
  return { acks, timeoutMs: 30_000, topicData: [{ name: 'orders', partitionData: [{ index: 0, records }] }] };
}

function fetchOf(fetchOffset: number, maxWaitMs: number, maxBytes = MIB) {
  const partitions = [{ partition: 0, fetchOffset, partitionMaxBytes: maxBytes }];
  return { maxWaitMs, minBytes: 1, maxBytes, topics: [{ topic: 'orders', partitions }] };
}

describe('requests of one connection', () => {
  it('are answered in order, and batches are stored in order without waiting for each other', async () => {
    await createTopic();
    const client = await newClient();
    const sent = Array.from({ length: 300 }, (_, i) => client.send('produce', 9, produceOf(String(i))));
    const last = client.send('listOffsets', 6, {
      topics: [{ name: 'orders', partitions: [{ partitionIndex: 0, timestamp: -1 }] }],
    });
    for (const [offset, correlationId] of sent.entries()) {
      const { responses } = await client.take('produce', 9, correlationId);
      expect(responses[0]?.partitionResponses[0]).toMatchObject({ errorCode: 0, baseOffset: offset });
    }
    const { topics } = await client.take('listOffsets', 6, last);
    expect(topics[0]?.partitions[0]?.offset).toBe(300);
  });

  it('wait for a fetch before them, as in Kafka, and begin when it is answered', async () => {
    await createTopic();
    const client = await newClient();
    const fetch = client.send('fetch', 11, fetchOf(0, 10 * MINUTE_MS));
    const metadata = client.send('metadata', 9, { topics: [{ name: 'meanwhile' }] });
    await until(async () => (await metric('waiting_fetches')) === 1);
    expect(client.answers).toBe(0);
    const other = await newClient();
    const { topics: before } = await other.call('metadata', 9, { topics: null });
    expect(before.map(({ name }) => name)).not.toContain('meanwhile');
    await other.call('produce', 9, produceOf('x'));
    const { responses } = await client.take('fetch', 11, fetch);
    expect(responses[0]?.partitions[0]?.highWatermark).toBe(1);
    expect((await client.take('metadata', 9, metadata)).topics[0]).toMatchObject({ name: 'meanwhile', errorCode: 0 });
  });

  it('begin after each other: a commit is in before the leave that was sent behind it', async () => {
    await createTopic();
    const client = await newClient();
    const group = { groupId: 'payment' };
    const protocols = [{ name: 'range', metadata: encodeConsumerSubscription(0, { topics: ['orders'] }) }];
    const timeouts = { sessionTimeoutMs: 10_000, rebalanceTimeoutMs: 10_000 };
    const join = { ...group, ...timeouts, memberId: '', protocolType: 'consumer', protocols };
    const { memberId, generationId } = await finished(client.call('joinGroup', 3, join), clock);
    const assignments = [{ memberId, assignment: new Uint8Array() }];
    await client.call('syncGroup', 2, { ...group, memberId, generationId, assignments });
    const partitions = [{ partitionIndex: 0, committedOffset: 0, committedMetadata: 'x' }];
    const topics = [{ name: 'orders', partitions }];
    const body = { ...group, generationIdOrMemberEpoch: generationId, memberId, topics };
    const commit = client.send('offsetCommit', 7, body);
    const leave = client.send('leaveGroup', 3, { ...group, members: [{ memberId }] });
    expect((await client.take('offsetCommit', 7, commit)).topics).toMatchObject([{ partitions: [{ errorCode: 0 }] }]);
    expect((await client.take('leaveGroup', 3, leave)).members).toMatchObject([{ errorCode: 0 }]);
  });

  it('may come byte by byte', async () => {
    const client = await newClient();
    for (const byte of frameOf('metadata', 9, { topics: [] })) {
      client.write(Buffer.of(byte));
      await turns(1);
    }
    expect((await client.take('metadata', 9, 1)).brokers).toHaveLength(1);
  });

  it('with acks=0 are stored and not answered; one that fails closes the connection, as in Kafka', async () => {
    await createTopic();
    const client = await newClient();
    client.send('produce', 9, produceOf('a', 0));
    expect((await client.call('fetch', 11, fetchOf(0, 0))).responses[0]?.partitions[0]?.highWatermark).toBe(1);
    client.send('produce', 9, {
      ...produceOf('a', 0),
      topicData: [{ name: 'nope', partitionData: [{ index: 0, records: null }] }],
    });
    expect(await client.takeFrame()).toBeNull();
    expect(warnings).toEqual([expect.stringContaining('there is no partition 0 of topic nope')]);
  });
});

describe('a request that is not served', () => {
  it('is answered with the versions that are, when it asks for them in a version of the future', async () => {
    const client = await newClient();
    const frame = frameOf('apiVersions', 4, { clientSoftwareName: 'x', clientSoftwareVersion: '1' }, 77);
    frame.writeInt16BE(99, 6);
    client.write(frame);
    const answer = (await client.takeFrame()) ?? Buffer.alloc(0);
    const { correlationId, body } = decodeResponse(kafkaApis.apiVersions, 0, answer);
    expect(correlationId).toBe(77);
    expect(body).toMatchObject({ errorCode: 35 });
    expect(body.apiKeys).toContainEqual({ apiKey: 18, minVersion: 0, maxVersion: 4 });
    expect(body.apiKeys).toContainEqual({ apiKey: 0, minVersion: 0, maxVersion: 12 });
    expect(await client.call('apiVersions', 0, {})).toEqual(
      expect.objectContaining({ errorCode: 0, apiKeys: body.apiKeys }),
    );
  });

  it('offers the second transaction flow, as far as clients of each version can read it', async () => {
    const client = await newClient();
    const software = { clientSoftwareName: 'x', clientSoftwareVersion: '1' };
    const name = 'transaction.version';
    const finalized = {
      errorCode: 0,
      finalizedFeaturesEpoch: 1,
      finalizedFeatures: [{ name, maxVersionLevel: 2, minVersionLevel: 2 }],
    };
    const supportedFeatures = [{ name, minVersion: 0, maxVersion: 2 }];
    expect(await client.call('apiVersions', 4, software)).toMatchObject({ ...finalized, supportedFeatures });
    expect(await client.call('apiVersions', 3, software)).toMatchObject({ ...finalized, supportedFeatures: [] });
    const none = { finalizedFeaturesEpoch: -1, finalizedFeatures: [], supportedFeatures: [] };
    expect(await client.call('apiVersions', 2, {})).toMatchObject({ errorCode: 0, ...none });
  });

  it.each([
    ['of an API that nobody knows', 999, 0, 'API 999 version 0'],
    ['of a version that is not served', 1, 3, 'Fetch version 3'],
    ['of a version that is only advertised', 0, 2, 'Produce version 2'],
    ['of an API without a handler', 17, 0, 'SaslHandshake version 0'],
  ])('%s closes the connection, as in Kafka', async (_what, apiKey, version, said) => {
    const client = await newClient();
    const frame = frameOf('metadata', 0, { topics: [] });
    frame.writeInt16BE(apiKey, 4);
    frame.writeInt16BE(version, 6);
    client.write(frame);
    expect(await client.takeFrame()).toBeNull();
    expect(warnings).toEqual([expect.stringContaining(`${said} is not served`)]);
    expect(await metric('kafka_connections_refused_total')).toBe(1);
  });
});

describe('hostile bytes', () => {
  const hugeCount = frameOf('metadata', 1, { topics: [] });
  hugeCount.writeInt32BE(0x7fff_ffff, hugeCount.length - 4);
  const cutBody = frameOf('metadata', 1, { topics: [{ name: 'orders' }] }).subarray(0, -3);
  cutBody.writeInt32BE(cutBody.length - 4, 0);

  it.each([
    ['a size of 0', Buffer.from([0, 0, 0, 0]), 'a request of 0 bytes'],
    ['a frame without room for a header', Buffer.from([0, 0, 0, 2, 0, 3]), 'header'],
    ['garbage in a frame', Buffer.from([0, 0, 0, 8, 0, 3, 0, 1, 0, 0, 0, 1, 0xff]), 'header'],
    ['a count that the frame cannot hold', hugeCount, 'topics'],
    ['a body that is cut off', cutBody, 'topics[0].name'],
  ])('%s: closed, and said why', async (_what, bytes, said) => {
    const client = await newClient();
    client.write(bytes);
    expect(await client.takeFrame()).toBeNull();
    expect(warnings).toEqual([expect.stringContaining(said)]);
  });

  it.each([
    ['below zero', [0xff, 0xff, 0xff, 0xff]],
    ['beyond the limit', [1, 0, 0, 0]],
  ])('a size %s behind a good request: that is answered before the connection is closed', async (_what, size) => {
    const client = await newClient();
    client.write(Buffer.concat([frameOf('metadata', 9, { topics: [] }), Buffer.from(size)]));
    await client.take('metadata', 9, 1);
    expect(await client.takeFrame()).toBeNull();
    expect(warnings).toEqual([expect.stringContaining('the limit is 16777215')]);
  });

  it('many requests announced at their largest: those that send no more of them go, and then others have their memory', async () => {
    const silent = await Promise.all(Array.from({ length: 12 }, newClient));
    // All but one byte, so that each of them needs its memory.
    for (const client of silent) client.write(Buffer.from([0, 0xff, 0xff, 0xff, 0, 3]));
    await until(async () => (await metric('kafka_arriving_bytes')) > 128 * MIB);
    await createTopic();
    const late = await newClient();
    const produced = late.call('produce', 9, produceOf(new Uint8Array(MIB)));
    // Small requests need no memory of their own, and are served meanwhile.
    await (await newClient()).call('produce', 9, produceOf('x'));
    await turns(50);
    expect(late.answers).toBe(0);
    // The first have theirs, and do not use it; whoever waits for it is not counted on to send.
    clock.advance(2 * MINUTE_MS + 10_000);
    expect((await produced).responses[0]?.partitionResponses[0]?.errorCode).toBe(0);
  });
});

describe('a connection', () => {
  it('with half a request is closed after two minutes, and not before', async () => {
    const client = await newClient();
    await client.call('metadata', 9, { topics: [] });
    clock.advance(5 * MINUTE_MS);
    // Large enough that it shows.
    client.write(Buffer.from([0, 1, 0x86, 0xa0, 0, 3]));
    await until(async () => (await metric('kafka_arriving_bytes')) > 0);
    clock.advance(2 * MINUTE_MS - 5_000);
    await turns(20);
    expect(client.isClosed).toBe(false);
    clock.advance(10_000);
    await client.closed;
    expect(warnings).toEqual([expect.stringContaining('a request was not complete')]);
  });

  it('that is silent is closed after ten minutes; one that waits for an answer is not', async () => {
    await createTopic();
    const silent = await newClient();
    await silent.call('metadata', 9, { topics: [] });
    clock.advance(MINUTE_MS);
    const waiting = await newClient();
    const fetch = waiting.send('fetch', 11, fetchOf(0, 30 * MINUTE_MS));
    await until(async () => (await metric('waiting_fetches')) === 1);
    clock.advance(4 * MINUTE_MS);
    expect(silent.isClosed).toBe(false);
    clock.advance(6 * MINUTE_MS);
    await silent.closed;
    expect((await waiting.take('fetch', 11, fetch)).responses[0]?.partitions[0]?.errorCode).toBe(0);
    expect(warnings).toEqual([]);
  });

  it('that ends takes its waiting fetch with it', async () => {
    await createTopic();
    const client = await newClient();
    client.send('fetch', 11, fetchOf(0, 5 * MINUTE_MS));
    await until(async () => (await metric('waiting_fetches')) === 1);
    client.destroy();
    await until(async () => (await metric('waiting_fetches')) === 0);
    expect(warnings).toEqual([]);
  });

  it('whose client never reads holds one answer, is not read from, and is closed when it takes nothing', async () => {
    await createTopic();
    const publisher = await newClient();
    for (let i = 0; i < 24; i++) await publisher.call('produce', 9, produceOf(new Uint8Array(MIB)));
    const client = await newClient();
    client.stopReading();
    for (let i = 0; i < 1_000; i++) client.send('fetch', 11, fetchOf(0, 0, 64 * MIB));
    await until(async () => (await metric('kafka_unsent_bytes')) > 0);
    let before = -1;
    for (let held = await metric('kafka_unsent_bytes'); held !== before; held = await metric('kafka_unsent_bytes')) {
      before = held;
      await turns(50);
    }
    expect(before).toBeLessThan(18 * MIB);
    // Others are served meanwhile.
    const other = await newClient();
    expect(
      (await other.call('fetch', 11, fetchOf(0, 0, 1))).responses[0]?.partitions[0]?.records?.length,
    ).toBeGreaterThan(MIB);
    await until(async () => {
      clock.advance(1_000);
      return (await metric('kafka_unsent_bytes')) === 0;
    });
    expect(warnings).toEqual([expect.stringContaining('it took nothing of an answer')]);
  });

  it('shares the memory for answers with the others, also when many fetch at once and none of them reads', async () => {
    await createTopic();
    const publisher = await newClient();
    for (let i = 0; i < 20; i++) await publisher.call('produce', 9, produceOf(new Uint8Array(MIB)));
    const slow = await Promise.all(Array.from({ length: 40 }, newClient));
    for (const client of slow) {
      client.stopReading();
      for (let i = 0; i < 10; i++) client.send('fetch', 11, fetchOf(0, 0, 64 * MIB));
    }
    let most = 0;
    for (let rounds = 0; rounds < 100; rounds++) {
      most = Math.max(most, await metric('kafka_unsent_bytes'));
      await turns(5);
    }
    // Each has at least one batch.
    expect(most).toBeGreaterThan(40 * MIB);
    expect(most).toBeLessThan(400 * MIB);
  });

  it('whose client publishes and never reads is not read from for long', async () => {
    await createTopic();
    const client = await newClient();
    client.stopReading();
    const frame = frameOf('produce', 9, produceOf('x'));
    const many = Buffer.concat(Array.from({ length: 1_000 }, () => frame));
    let requests = 0;
    let rounds = 0;
    for (let same = 0; same < 5; rounds++) {
      if (rounds > 2_000) throw new Error('the broker takes more and more');
      if (client.unsentBytes === 0) client.write(many);
      const now = await metric('kafka_requests_total');
      same = now === requests ? same + 1 : 0;
      requests = now;
    }
    expect(await metric('kafka_unsent_bytes')).toBeLessThan(MIB);
    expect(await metric('publish_in_flight_bytes')).toBe(0);
  });
});
