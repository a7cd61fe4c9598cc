/** What the doors are not meant to be given: each a clear typed error, nothing lost, and the broker serves on. */
import { connect, type Socket } from 'node:net';
import { Broker } from '@naru/broker';
import { encodeBatch } from '@naru/protocol/batch';
import { ConnectError } from '@connectrpc/connect';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { finished, turns } from '../runtime/settling.ts';
import { RawClient, type RawPublisher } from './grpc/raw-client.ts';

const BEGINNING = { position: { case: 'beginning', value: true } } as const;
const GREETING_TIMEOUT_MS = 10_000;

let clock: VirtualClock;
let broker: Broker;
let client: RawClient;

beforeEach(async () => {
  clock = new VirtualClock();
  broker = await Broker.start({ storage: 'memory', port: 0, limits: { connections: 20 } }, { clock, timers: clock });
  client = new RawClient(broker.bootstrap);
});

afterEach(async () => {
  // Whatever came before: what was acknowledged is there, and more is taken.
  const { topics } = await client.admin.listTopics({});
  if (topics.every(({ name }) => name !== 'afterwards')) await client.createTopic('afterwards');
  const [published] = await client.publish('afterwards', 0, ['x']);
  if (published?.error !== null) throw new Error(`the broker takes nothing any more: ${published?.error}`);
  client.destroy();
  await closeBroker();
});

async function closeBroker(): Promise<void> {
  await finished(broker.close(), clock);
}

function batchOf(value: string, producerId = -1, baseSequence = -1): Uint8Array {
  const record = { key: null, value: Buffer.from(value), timestampMs: 1 };
  return encodeBatch([record], { producerId, producerEpoch: producerId < 0 ? -1 : 0, baseSequence });
}

async function openPublisher(): Promise<RawPublisher> {
  const publisher = client.openPublishing();
  publisher.send({ case: 'open', value: {} });
  await publisher.take('opened');
  return publisher;
}

/** A connection that has said `bytes`, and everything that it got until it was closed. */
async function said(bytes: Uint8Array | string): Promise<{ socket: Socket; closed: Promise<string> }> {
  const { host, port } = broker.address;
  const socket = connect({ host, port });
  let received = '';
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
  socket.on('error', () => {});
  const closed = new Promise<string>((resolve) => {
    socket.on('close', () => resolve(received));
  });
  await new Promise<void>((resolve) => socket.once('connect', () => resolve()));
  if (bytes.length > 0) socket.write(bytes);
  return { socket, closed };
}

async function metric(name: string): Promise<number> {
  const page = await (await fetch(`http://${broker.bootstrap}/metrics`)).text();
  return Number(new RegExp(`^naru_${name} (\\S+)$`, 'm').exec(page)?.[1]);
}

describe('a call', () => {
  it.each([
    ['publishing to a topic that does not exist', 'UNKNOWN_TOPIC_OR_PARTITION', () => client.publish('nope', 0, ['x'])],
    ['describing a topic that does not exist', 'UNKNOWN_TOPIC_OR_PARTITION', () => describeTopic('nope')],
    [
      'deleting a topic that does not exist',
      'UNKNOWN_TOPIC_OR_PARTITION',
      () => client.admin.deleteTopic({ name: 'nope' }),
    ],
    ['creating a topic without a name', 'INVALID_TOPIC', () => client.createTopic('')],
    ['creating a topic with a bad name', 'INVALID_TOPIC', () => client.createTopic('a/b')],
    ['creating a topic with a name that is too long', 'INVALID_TOPIC', () => client.createTopic('x'.repeat(250))],
    ["creating one of the broker's own topics", 'INVALID_TOPIC', () => client.createTopic('__mine')],
    ["deleting one of the broker's own topics", 'INVALID_TOPIC', () => client.admin.deleteTopic({ name: '__groups' })],
    ['creating too many partitions', 'INVALID_PARTITIONS', () => client.createTopic('orders', 10_001)],
    ['creating less than no partitions', 'INVALID_PARTITIONS', () => client.createTopic('orders', -1)],
    [
      'creating a topic with an unknown setting',
      'INVALID_CONFIG',
      () => client.admin.createTopic({ name: 'a', config: { b: 'c' } }),
    ],
    [
      'describing a group that does not exist',
      'GROUP_ID_NOT_FOUND',
      () => client.admin.describeGroup({ groupId: 'nope' }),
    ],
    [
      'publishing nothing',
      'INVALID_REQUEST',
      async () => {
        await client.createTopic('orders');
        await client.publisher.publish({ topic: 'orders', records: [] });
      },
    ],
    [
      'growing a topic that would lose the order of keys',
      'KEY_REORDER_NOT_ALLOWED',
      async () => {
        await client.createTopic('orders');
        await client.admin.addPartitions({ name: 'orders', partitionCount: 2 });
      },
    ],
    [
      'resetting offsets to nowhere',
      'INVALID_REQUEST',
      () => client.admin.resetOffsets({ groupId: 'g', topics: ['orders'] }),
    ],
    [
      'resetting offsets of a bad group id',
      'INVALID_GROUP_ID',
      () => client.admin.resetOffsets({ groupId: ' g', topics: ['orders'], to: BEGINNING }),
    ],
    [
      'asking for more partitions than there are',
      'INVALID_REQUEST',
      async () => {
        await client.createTopic('orders');
        await client.admin.listOffsets({ topic: 'orders', partitions: [0, 0], position: BEGINNING });
      },
    ],
  ])('%s is refused with %s', async (_name, code, call) => {
    const error = await client.error(call());
    expect(error).toMatchObject({ code, retriable: false });
    expect(error?.message.length).toBeGreaterThan(10);
  });

  function describeTopic(name: string): Promise<unknown> {
    return client.admin.describeTopic({ topic: { case: 'name', value: name } });
  }

  it('that publishes refuses the bad records one by one, and stores the others', async () => {
    await client.createTopic('orders', 2);
    const { results } = await client.publisher.publish({
      topic: 'orders',
      records: [
        { value: Buffer.from('good'), partition: 0 },
        { value: new Uint8Array(2 * 1024 * 1024), partition: 0 },
        { value: Buffer.from('nowhere'), partition: 2 },
        { value: Buffer.from('before time'), partition: 1, timestampMs: -5n },
        { value: Buffer.from('good too'), partition: 0 },
      ],
    });
    expect(results.map(({ error, offset }) => error?.code ?? Number(offset))).toEqual([
      0,
      'RECORD_TOO_LARGE',
      'UNKNOWN_TOPIC_OR_PARTITION',
      'INVALID_RECORD',
      1,
    ]);
  });

  it('that publishes records just below the largest stores them', async () => {
    await client.createTopic('orders');
    const value = new Uint8Array(1024 * 1024);
    const { results } = await client.publisher.publish({
      topic: 'orders',
      records: [{ value }, { value }, { value: new Uint8Array(1) }],
    });
    expect(results.map(({ error, offset }) => error?.message ?? Number(offset))).toEqual([0, 1, 2]);
  });

  it("cannot write to the broker's own topics", async () => {
    const results = await client.publish('__groups', 0, ['garbage']);
    expect(results[0]?.error).toBe('INVALID_TOPIC');
  });

  it('with a message that is not one is refused as a bad request', async () => {
    const url = `http://${broker.bootstrap}/naru.v1.AdminService/CreateTopic`;
    const post = (body: string, type = 'application/json') =>
      fetch(url, { method: 'POST', body, headers: { 'content-type': type } });
    expect((await post('{')).status).toBe(400);
    expect((await post('{"nme":"orders"}')).status).toBe(400);
    // The library calls this its own fault, but says what it was.
    expect(await (await post('\xff\xff\xff', 'application/proto')).json()).toMatchObject({
      message: expect.stringContaining('parse'),
    });
    expect((await post('x', 'text/plain')).status).toBe(415);
    expect((await fetch(`${url}Nothing`, { method: 'POST' })).status).toBe(404);
  });
});

describe('a publish stream', () => {
  it('refuses bad batches one by one, and stores the others', async () => {
    const topicId = await client.createTopic('orders');
    const publisher = await openPublisher();
    const flipped = batchOf('flipped');
    flipped[flipped.length - 1] = (flipped[flipped.length - 1] as number) ^ 1;
    const control = encodeBatch([{ key: new Uint8Array(4), value: new Uint8Array(6), timestampMs: 1 }], {
      isControl: true,
    });
    const { topic: groups } = await client.admin.describeTopic({ topic: { case: 'name', value: '__groups' } });
    publisher.batch(0, topicId, batchOf('good'));
    publisher.batch(1, topicId, flipped);
    publisher.batch(2, topicId, new Uint8Array(3));
    publisher.batch(3, topicId, new Uint8Array(0));
    publisher.batch(4, topicId, batchOf('x'), 9);
    publisher.batch(5, topicId, batchOf('x'), -1);
    publisher.batch(6, new Uint8Array(16), batchOf('x'));
    publisher.batch(7, new Uint8Array(3), batchOf('x'));
    publisher.batch(8, topicId, batchOf('y'.repeat(2 * 1024 * 1024)));
    publisher.batch(9, topicId, control);
    publisher.batch(10, topicId, Buffer.concat([batchOf('two'), batchOf('batches')]));
    publisher.batch(11, groups?.topicId ?? new Uint8Array(), batchOf('garbage'));
    publisher.batch(12, topicId, batchOf('ahead', 5, 7));
    publisher.batch(13, topicId, batchOf('good too'));
    expect(Object.fromEntries(await publisher.acks(14))).toEqual({
      0: 0,
      1: 'CORRUPT_MESSAGE',
      2: 'CORRUPT_MESSAGE',
      3: 'CORRUPT_MESSAGE',
      4: 'UNKNOWN_TOPIC_OR_PARTITION',
      5: 'UNKNOWN_TOPIC_OR_PARTITION',
      6: 'UNKNOWN_TOPIC_OR_PARTITION',
      7: 'INVALID_REQUEST',
      8: 'RECORD_TOO_LARGE',
      9: 'INVALID_RECORD',
      10: 'CORRUPT_MESSAGE',
      11: 'INVALID_TOPIC',
      12: 'UNKNOWN_PRODUCER_ID',
      13: 1,
    });
    publisher.finish();
    expect(await publisher.ended).toBeNull();
  });

  it('ends with an error when its messages are in the wrong order', async () => {
    const topicId = await client.createTopic('orders');
    const unopened = client.openPublishing();
    unopened.batch(1, topicId, batchOf('x'));
    expect(await unopened.error()).toMatchObject({ code: 'INVALID_REQUEST', retriable: false });
    const twice = await openPublisher();
    twice.send({ case: 'open', value: {} });
    expect(await twice.error()).toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it.each([
    ['a message that is not one', new Uint8Array([0, 0, 0, 0, 3, 255, 255, 255])],
    ['a frame that says more than is allowed', new Uint8Array([0, 255, 255, 255, 255, 1, 2, 3])],
    ['a frame that is compressed without saying how', new Uint8Array([1, 0, 0, 0, 1, 0])],
  ])('ends with an error when it is sent %s', async (_name, bytes) => {
    const publisher = await openPublisher();
    publisher.sendBytes(bytes);
    const failure = ConnectError.from(await publisher.ended);
    expect(failure.message).not.toContain('broke off');
    expect(failure.message).not.toContain('see its log');
  });

  it('ends with an error when it stops inside a message', async () => {
    const publisher = await openPublisher();
    publisher.sendBytes(new Uint8Array([0, 0, 0, 0, 9, 1]));
    publisher.finish();
    expect(await publisher.error()).toMatchObject({ code: 'INVALID_REQUEST' });
  });

  it("says what is wrong to clients that use the library's streams too", async () => {
    const responses = client.publisher.publishStream(
      (async function* () {
        yield { message: { case: 'batch', value: {} } } as const;
        await new Promise(() => {});
      })(),
    );
    const error = await client.error(responses[Symbol.asyncIterator]().next());
    expect(error).toMatchObject({ code: 'INVALID_REQUEST' });
  });
});

describe('a subscription', () => {
  const joining = { groupId: 'payment', memberId: 'm', topics: ['orders'], start: BEGINNING };

  it.each([
    ['of a topic that does not exist', 'UNKNOWN_TOPIC_OR_PARTITION', { topics: ['nope'] }],
    ['of no topic', 'INVALID_REQUEST', { topics: [] }],
    ['with a group id that begins with a space', 'INVALID_GROUP_ID', { groupId: ' payment' }],
    ['with a group id that cannot be printed', 'INVALID_GROUP_ID', { groupId: 'pay\nment' }],
    ['with a group id that is too long', 'INVALID_GROUP_ID', { groupId: 'x'.repeat(250) }],
    ['without a member id', 'INVALID_REQUEST', { memberId: '' }],
    ['with a session time-out that is too short', 'INVALID_REQUEST', { sessionTimeoutMs: 1 }],
    ['with an epoch that nobody gave', 'UNKNOWN_MEMBER_ID', { memberEpoch: 7 }],
    ['that holds a partition without an id', 'INVALID_REQUEST', { memberEpoch: 1, owned: [{ nextOffset: 0n }] }],
    ['from an offset below zero', 'INVALID_REQUEST', { start: { position: { case: 'offset', value: -1n } } as const }],
  ])('%s is refused with %s', async (_name, code, bad) => {
    await client.createTopic('orders');
    const stream = client.subscribe({ case: 'join', value: { ...joining, ...bad } });
    expect(await stream.error()).toMatchObject({ code, retriable: false });
  });

  it('ends with an error when it asks for what makes no sense', async () => {
    await client.createTopic('orders');
    const asks = [
      (stream: ReturnType<typeof client.subscribe>) => stream.send({ case: 'join', value: joining }),
      (stream: ReturnType<typeof client.subscribe>) => stream.send({ case: 'seek', value: {} }),
      (stream: ReturnType<typeof client.subscribe>) =>
        stream.send({ case: 'commit', value: { partitions: [{ offset: 1n }] } }),
      (stream: ReturnType<typeof client.subscribe>) => {
        for (let poll = 0; poll < 9; poll++) stream.poll(60_000);
      },
    ];
    for (const ask of asks) {
      const stream = client.subscribe({ case: 'join', value: joining });
      await stream.take('joined');
      ask(stream);
      expect(await stream.error()).toMatchObject({ code: 'INVALID_REQUEST' });
    }
  });

  it('refuses commits one by one', async () => {
    const topicId = await client.createTopic('orders');
    await client.publish('orders', 0, ['a', 'b', 'c']);
    const stream = client.subscribe({ case: 'join', value: joining });
    const [assigned] = await stream.assigned(1);
    expect(await stream.commit({ $typeName: 'naru.v1.PartitionRef', topicId, partition: 3 }, 0)).toEqual([
      'STALE_MEMBER_EPOCH',
    ]);
    expect(await stream.commit(assigned?.partition, 4)).toEqual(['OFFSET_OUT_OF_RANGE']);
    expect(await stream.commit(assigned?.partition, 1, [[2, 9]])).toEqual(['OFFSET_OUT_OF_RANGE']);
    expect(await stream.commit(assigned?.partition, 1, [[2, 2]])).toEqual(['INVALID_REQUEST']);
    expect(await stream.commit(assigned?.partition, 1, [], 'm'.repeat(5_000))).toEqual(['OFFSET_METADATA_TOO_LARGE']);
    expect(await stream.commit(assigned?.partition, 1)).toEqual([]);
  });

  it('is told that a partition cannot be read on, when its topic is deleted', async () => {
    await client.createTopic('orders');
    const stream = client.subscribe({ case: 'join', value: { ...joining, groupId: '' } });
    await stream.assigned(1);
    stream.poll(60_000);
    await client.admin.deleteTopic({ name: 'orders' });
    const { error } = await stream.take('partitionFailed');
    expect(error?.code).toBe('UNKNOWN_TOPIC_OR_PARTITION');
  });
});

describe('a connection', () => {
  it.each([
    ['garbage', new Uint8Array([1, 0, 0, 12, 1, 2, 3, 4])],
    ['text that is no method', 'HELO there\r\n'],
    ['a TLS hello', new Uint8Array([0x16, 3, 1, 2, 0, 1, 0, 1, 252])],
    ['an SSH greeting', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ])('that begins with %s is closed, and counted', async (_name, bytes) => {
    const { closed } = await said(bytes);
    expect(await closed).toBe('');
    expect(await metric('connections_refused_total')).toBe(1);
  });

  it('that begins like HTTP/2 and goes on with garbage is closed', async () => {
    const { closed } = await said(
      Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), Buffer.alloc(100, 0xff)]),
    );
    expect(await closed).not.toContain('200');
  });

  it('that begins like HTTP/1 and goes on with garbage is closed', async () => {
    const { closed } = await said('GET / HTTP/9.9 what\r\n\r\n');
    expect(await closed).not.toContain('200');
  });

  it.each([
    ['nothing', ''],
    ['half a greeting', 'PRI * HT'],
    ['half a method', 'PO'],
  ])('that says %s is closed when its time for it is over, and not before', async (_name, text) => {
    const before = await metric('connections_accepted_total');
    const { socket, closed } = await said(text);
    while ((await metric('connections_accepted_total')) === before) await turns(1);
    clock.advance(GREETING_TIMEOUT_MS - 1);
    await metric('connections');
    expect(socket.closed).toBe(false);
    clock.advance(1);
    await closed;
  });

  it('that says its greeting byte by byte is served', async () => {
    const { socket, closed } = await said('');
    socket.setNoDelay(true);
    for (const byte of 'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n') {
      await new Promise<void>((resolve) => socket.write(byte, () => resolve()));
      await turns(1);
    }
    expect(await closed).toContain('200 OK');
  });

  it('beyond the most that are allowed is closed, and there is room again when others go', async () => {
    const open = await Promise.all(Array.from({ length: 25 }, () => said('')));
    const left = (): typeof open => open.filter(({ socket }) => !socket.closed);
    while (left().length > 20) await turns(1);
    // One of them goes: the next one is served.
    const first = left()[0];
    first?.socket.destroy();
    await first?.closed;
    for (const { socket } of left().slice(0, 5)) socket.destroy();
    for (;;) {
      const { socket, closed } = await said('GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
      const answer = await closed;
      socket.destroy();
      if (answer.includes('200 OK')) break;
    }
    for (const { socket } of open) socket.destroy();
    expect(await metric('connections_refused_total')).toBeGreaterThanOrEqual(5);
  });
});
