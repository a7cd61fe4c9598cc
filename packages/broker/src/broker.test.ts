/** Starting a broker, closing it, and what is left in between. */
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:http';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { encodeBatch } from '@naru/protocol/batch';
import { NaruError } from '@naru/protocol';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Broker } from './broker.ts';
import type { BrokerConfigInput } from './config.ts';
import { RawClient } from './doors/grpc/raw-client.ts';

const BEGINNING = { position: { case: 'beginning', value: true } } as const;

let directory: string;
let data: string;
const brokers: Broker[] = [];
const clients: RawClient[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-broker-'));
  data = join(directory, 'data');
});

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const broker of brokers.splice(0)) await broker.close();
  await rm(directory, { recursive: true });
});

async function start(config: BrokerConfigInput = { storage: 'file' }): Promise<Broker> {
  const broker = await Broker.start({ port: 0, data, ...config });
  brokers.push(broker);
  return broker;
}

function clientOf(broker: Broker): RawClient {
  const client = new RawClient(broker.bootstrap);
  clients.push(client);
  return client;
}

/** An HTTP/1.1 connection that was used once and is kept open. */
async function keepConnection({ address }: Broker): Promise<void> {
  await new Promise<void>((resolve) => {
    const agent = new Agent({ keepAlive: true });
    request({ ...address, path: '/healthz', agent }, (response) => {
      response.resume().on('end', () => resolve());
    }).end();
  });
}

async function refusalOf(start: Promise<unknown>): Promise<NaruError> {
  const error = await start.then(
    () => null,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(NaruError);
  return error as NaruError;
}

/** A broker that was used and closed. */
async function leaveData(): Promise<void> {
  const broker = await start();
  const client = clientOf(broker);
  await client.createTopic('orders');
  await client.publish('orders', 0, ['kept']);
  await broker.close();
}

async function expectKept(): Promise<void> {
  const client = clientOf(await start());
  const { partitions } = await client.admin.describeTopic({ topic: { case: 'name', value: 'orders' } });
  expect(partitions[0]?.highWatermark).toBe(1n);
  expect(await client.publish('orders', 0, ['more'])).toEqual([{ offset: 1, partition: 0, error: null }]);
}

describe('a broker does not start', () => {
  it('on a port that is in use, and leaves its data for the next one', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    await leaveData();
    const error = await refusalOf(start({ storage: 'file', port }));
    expect(error.code).toBe('PORT_IN_USE');
    expect(error.message).toContain(String(port));
    await new Promise((resolve) => server.close(resolve));
    await expectKept();
  });

  it('on a data directory that another one has, which goes on', async () => {
    const first = await start();
    const client = clientOf(first);
    await client.createTopic('orders');
    const error = await refusalOf(start());
    expect(error.code).toBe('DATA_DIRECTORY_IN_USE');
    expect(error.message).toContain(data);
    expect((await client.publish('orders', 0, ['x']))[0]?.error).toBeNull();
    await first.close();
    await start();
  });

  it('on a data directory that it cannot write', async () => {
    await writeFile(data, 'a file');
    expect((await refusalOf(start())).code).toBe('DATA_DIRECTORY_NOT_WRITABLE');
    expect((await refusalOf(start({ storage: 'file', data: '/proc/naru' }))).code).toBe('DATA_DIRECTORY_NOT_WRITABLE');
  });

  it.skipIf(process.getuid?.() === 0)('on a data directory that belongs to somebody else', async () => {
    await mkdir(data);
    await chmod(data, 0o500);
    expect((await refusalOf(start())).code).toBe('DATA_DIRECTORY_NOT_WRITABLE');
  });

  it('on data of another version, and changes nothing of it', async () => {
    await leaveData();
    const file = join(data, 'naru-data.json');
    const before = await readFile(file, 'utf8');
    await writeFile(file, before.replace('1', '2'));
    expect((await refusalOf(start())).code).toBe('DATA_DIRECTORY_VERSION');
    await writeFile(file, before);
    await expectKept();
  });

  it.each([
    'metadata.db is missing',
    'metadata.db is empty',
    'metadata.db is garbage',
    'metadata.db is of another broker',
  ])('when %s beside a log, and changes nothing of the log', async (what) => {
    await leaveData();
    const file = join(data, 'metadata.db');
    const kept = join(directory, 'kept.db');
    await rename(file, kept);
    if (what.includes('empty')) await writeFile(file, '');
    if (what.includes('garbage')) await writeFile(file, Buffer.alloc(8192, 'garbage'));
    if (what.includes('another')) {
      const other = await Broker.start({ port: 0, data: join(directory, 'other') });
      await other.close();
      await rename(join(directory, 'other', 'metadata.db'), file);
    }
    for (let attempt = 0; attempt < 2; attempt++) {
      const error = await refusalOf(start());
      expect(error.code).toBe('DATA_CORRUPT');
      expect(error.message).toContain('nothing was changed');
    }
    await rename(kept, file);
    await expectKept();
  });

  it('when the log is missing beside metadata that knows topics', async () => {
    await leaveData();
    const kept = join(directory, 'kept');
    await mkdir(kept);
    const parts = ['naru-data.json', 'journal', 'segments', 'checkpoint'];
    for (const part of parts) await rename(join(data, part), join(kept, part));
    const error = await refusalOf(start());
    expect(error.code).toBe('DATA_CORRUPT');
    for (const part of parts) await rename(join(kept, part), join(data, part));
    await expectKept();
  });

  it.each(['0.0.0.0', '::', '192.168.0.1', '127.example.com'])(
    'on %s unless it is told that this is meant',
    async (host) => {
      const error = await refusalOf(start({ storage: 'memory', host }));
      expect(error.code).toBe('INVALID_CONFIGURATION');
      expect(error.message).toContain('allowRemote');
    },
  );

  it('with settings that make no sense', async () => {
    expect((await refusalOf(start({ storage: 'paper' as never }))).code).toBe('INVALID_CONFIGURATION');
    expect((await refusalOf(start({ host: '127.0.0.1.1', allowRemote: true }))).code).toBe('INVALID_CONFIGURATION');
  });
});

describe('a broker', () => {
  it('listens everywhere when it is told that this is meant', async () => {
    const { address } = await start({ storage: 'memory', host: '0.0.0.0', allowRemote: true });
    expect(address.host).toBe('0.0.0.0');
  });

  it('gives another epoch with each start, and the same cluster id', async () => {
    await leaveData();
    const describe = async (): Promise<{ clusterId: string; epoch: number | undefined }> => {
      const broker = await start();
      const client = clientOf(broker);
      await client.publish('orders', 0, ['x']);
      const { clusterId } = await client.admin.describeCluster({});
      const { partitions } = await client.admin.describeTopic({ topic: { case: 'name', value: 'orders' } });
      await broker.close();
      return { clusterId, epoch: partitions[0]?.leaderEpoch };
    };
    const [first, second] = [await describe(), await describe()];
    expect(second.clusterId).toBe(first.clusterId);
    expect(second.epoch).toBe((first.epoch ?? 0) + 1);
  });

  it('gives no producer id twice, over restarts', async () => {
    const seen = new Set<bigint>();
    for (let round = 0; round < 3; round++) {
      const broker = await start();
      const client = clientOf(broker);
      for (let stream = 0; stream < 3; stream++) {
        const publisher = client.openPublishing();
        publisher.send({ case: 'open', value: {} });
        seen.add((await publisher.take('opened')).producerId);
      }
      await broker.close();
    }
    expect(seen.size).toBe(9);
  });

  it('deletes a topic for good, and gives its name another life', async () => {
    const first = await start();
    const client = clientOf(first);
    const before = await client.createTopic('orders');
    await client.publish('orders', 0, ['old']);
    await client.admin.deleteTopic({ name: 'orders' });
    const after = await client.createTopic('orders');
    expect(Buffer.from(after).equals(before)).toBe(false);
    expect(await client.publish('orders', 0, ['new'])).toEqual([{ offset: 0, partition: 0, error: null }]);
    await first.close();
    const again = clientOf(await start());
    const { partitions } = await again.admin.describeTopic({ topic: { case: 'name', value: 'orders' } });
    expect(partitions[0]?.highWatermark).toBe(1n);
  });

  it('takes one of two creations of a topic at the same time', async () => {
    const client = clientOf(await start({ storage: 'memory' }));
    const results = await Promise.allSettled([client.createTopic('orders'), client.createTopic('orders')]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });
});

describe('closing a broker', () => {
  it('tells open streams that it goes, which they may try again, and keeps what it acknowledged', async () => {
    const broker = await start();
    const client = clientOf(broker);
    const topicId = await client.createTopic('orders');
    const join = (groupId: string, memberId: string) =>
      client.subscribe({ case: 'join', value: { groupId, memberId, topics: ['orders'], start: BEGINNING } });
    const [member, reader, idle] = [join('payment', 'm'), join('', 'r'), join('', 'idle')];
    for (const stream of [member, reader, idle]) await stream.assigned(1);
    for (const stream of [member, reader]) stream.poll(60_000);
    const publisher = client.openPublishing();
    publisher.send({ case: 'open', value: {} });
    await publisher.take('opened');
    const batches = 500;
    for (let index = 0; index < batches; index++) {
      publisher.batch(index, topicId, encodeBatch([{ key: null, value: Buffer.from(`v${index}`), timestampMs: 1 }]));
    }
    const first = await publisher.acks(1);
    await broker.close();
    for (const stream of [member, reader, idle])
      expect(await stream.error()).toMatchObject({ code: 'SHUTTING_DOWN', retriable: true });
    expect(await publisher.error()).toMatchObject({ code: 'SHUTTING_DOWN', retriable: true });
    const acknowledged = [...first.values()];
    for (const { message } of publisher.inbox) {
      if (message.case !== 'acks') continue;
      for (const ack of message.value.acks) acknowledged.push(ack.error?.code ?? Number(ack.baseOffset));
    }
    const offsets = acknowledged.filter((ack) => typeof ack === 'number');
    expect(acknowledged.filter((ack) => typeof ack === 'string' && ack !== 'SHUTTING_DOWN')).toEqual([]);
    const again = clientOf(await start());
    const { partitions } = await again.admin.describeTopic({ topic: { case: 'name', value: 'orders' } });
    expect(Number(partitions[0]?.highWatermark)).toBeGreaterThan(Math.max(...offsets));
  });

  it('waits for no time-out, whatever is open', async () => {
    // Nobody moves this clock: waiting for it would never end.
    const clock = new VirtualClock();
    const broker = await Broker.start({ port: 0, storage: 'memory' }, { clock, timers: clock });
    const client = clientOf(broker);
    await client.createTopic('orders');
    const join = (groupId: string, memberId: string) =>
      client.subscribe({ case: 'join', value: { groupId, memberId, topics: ['orders'], start: BEGINNING } });
    const [member, reader] = [join('payment', 'm'), join('', 'r')];
    for (const stream of [member, reader]) await stream.assigned(1);
    member.poll(60_000);
    const publisher = client.openPublishing();
    publisher.send({ case: 'open', value: {} });
    await publisher.take('opened');
    await keepConnection(broker);
    const { host, port } = broker.address;
    const silent = connect({ host, port }).on('error', () => {});
    await new Promise((resolve) => silent.write('PRI', resolve));
    await broker.close();
    for (const stream of [member, reader, publisher]) {
      expect(await stream.error()).toMatchObject({ code: 'SHUTTING_DOWN', retriable: true });
    }
    expect(clock.pendingTimers, 'nothing keeps the process alive').toBe(0);
    // Sooner than the platform itself closes a kept connection, which is 5 s.
  }, 4_000);

  it('can be asked for twice, and leaves the port free', async () => {
    const broker = await start({ storage: 'memory' });
    const { port } = broker.address;
    await Promise.all([broker.close(), broker.close()]);
    const socket = connect(port, '127.0.0.1');
    const code = await new Promise((resolve) =>
      socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code)),
    );
    expect(code).toBe('ECONNREFUSED');
    await start({ storage: 'memory', port });
  });
});
