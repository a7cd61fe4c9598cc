/**
 * Exactly-once pipelines with a real broker over gRPC: what readers of committed events get has each input once, and each key in its
 * order, whatever fails meanwhile.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broker } from '@naru/broker';
import { NonRetriableError, connect } from '@naru/client';
import type { HandlerContext, Naru, NaruEvent, Subscriber } from '@naru/client';
import { describe, expect, it, onTestFinished } from 'vitest';

const QUICK = {
  autoCommitIntervalMs: 15,
  pollWaitMs: 50,
  concurrency: 8,
  guarantee: 'exactly-once',
  retry: { attempts: 3, backoff: { initialMs: 1, factor: 1, maxMs: 3, jitter: 0 } },
} as const;
const KEYS = 12;
const RECONNECT = { initial: 5, max: 50 };

interface Output {
  readonly key: string;
  readonly input: number;
}

/** Passes connections on to a broker, and breaks them when it is told to. */
class Proxy {
  readonly #server: net.Server;
  readonly #sockets = new Set<Socket>();

  private constructor(server: net.Server) {
    this.#server = server;
  }

  static async start(port: number): Promise<Proxy> {
    const server = net.createServer();
    const proxy = new Proxy(server);
    server.on('connection', (client) => {
      const upstream = net.connect(port, '127.0.0.1');
      for (const socket of [client, upstream]) {
        proxy.#sockets.add(socket);
        socket.on('error', () => {});
        socket.on('close', () => {
          client.destroy();
          upstream.destroy();
          proxy.#sockets.delete(socket);
        });
      }
      client.pipe(upstream).pipe(client);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => {
      proxy.breakAll();
      server.close();
    });
    return proxy;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  breakAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }
}

async function start(options: { data?: string; port?: number } = {}): Promise<Broker> {
  const { data, port = 0 } = options;
  return Broker.start(data === undefined ? { storage: 'memory', port } : { storage: 'file', data, port });
}

async function connected(address: string): Promise<Naru> {
  const naru = await connect({ brokers: [address], reconnect: RECONNECT });
  onTestFinished(() => naru.close());
  return naru;
}

function run(subscriber: Subscriber): { over: Promise<void> } {
  const over = subscriber.run();
  over.catch(() => {});
  onTestFinished(async () => {
    await subscriber.close();
    await over;
  });
  return { over };
}

/** Resolves when `condition` holds, looked at whenever the event loop comes round. */
async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setImmediate(resolve));
}

/** Everything committed in the topic, in the order of each partition, from now on. */
function reader(naru: Naru): Output[] {
  const seen: Output[] = [];
  const poller = naru.poll<number>({ topics: ['out'], pollWaitMs: 50 });
  const reading = (async () => {
    for await (const batch of poller) for (const { key, value } of batch) seen.push({ key: key ?? '', input: value });
  })();
  onTestFinished(async () => {
    await poller.close();
    await reading;
  });
  return seen;
}

function publishAll(naru: Naru, count: number, from = 0): Promise<unknown> {
  const sent = Array.from({ length: count }, (_, i) => {
    const input = from + i;
    return naru.publish('orders', input, { key: `key-${input % KEYS}` });
  });
  return Promise.all(sent);
}

/** Everything up to here, with whatever came twice: markers are published behind it, and read. */
async function upToNow(naru: Naru, seen: Output[]): Promise<Output[]> {
  const isMarker = ({ key }: Output): boolean => key === 'marker';
  for (const partition of range(3)) await naru.publish('out', -1, { key: 'marker', partition });
  await until(() => seen.filter(isMarker).length === 3);
  return seen.filter((output) => !isMarker(output));
}

function expectOnceInOrder(seen: readonly Output[], inputs: readonly number[]): void {
  expect(seen.map(({ input }) => input).toSorted((a, b) => a - b)).toEqual(inputs);
  for (let key = 0; key < KEYS; key++) {
    const ofKey = seen.filter((output) => output.key === `key-${key}`).map(({ input }) => input);
    expect(ofKey).toEqual(ofKey.toSorted((a, b) => a - b));
  }
}

const range = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

/** Publishes its event; now and then it fails after that. */
async function flaky(event: NaruEvent<number>, context: HandlerContext): Promise<void> {
  await context.publish('out', event.value, { key: event.key });
  if (event.value % 7 === 3 && context.attempt === 1) throw new Error('not now');
}

async function pipelineTopics(naru: Naru): Promise<void> {
  await naru.admin.createTopic('orders', { partitions: 4 });
  await naru.admin.createTopic('out', { partitions: 3 });
}

describe('an exactly-once pipeline gives each input once, in order by key', () => {
  it('through failing handlers, and dead letters in the same transaction', async () => {
    const broker = await start();
    onTestFinished(() => broker.close());
    const naru = await connected(`${broker.address.host}:${broker.address.port}`);
    await pipelineTopics(naru);
    const seen = reader(naru);
    let isFixed = false;
    const subscriber = naru.subscriber('billing', QUICK).handle<number>('orders', async (event, context) => {
      await flaky(event, context);
      if (event.value % 50 === 13 && !isFixed) throw new NonRetriableError('bad');
    });
    run(subscriber);
    await publishAll(naru, 400);
    const good = range(400).filter((input) => input % 50 !== 13);
    await until(() => seen.length >= good.length);
    const dead = async (): Promise<number> => {
      const ids: string[] = [];
      for await (const { id } of naru.deadLetters.list('billing')) ids.push(id);
      return ids.length;
    };
    await until(async () => (await dead()) === 8);
    expectOnceInOrder(seen, good);
    isFixed = true;
    await naru.deadLetters.redrive('billing');
    await until(() => seen.length >= 400);
    await until(async () => (await naru.admin.describeGroup('billing')).offsets.every(({ lag }) => lag === 0n));
    const all = await upToNow(naru, seen);
    expect(all.map(({ input }) => input).toSorted((a, b) => a - b)).toEqual(range(400));
  });

  it('while members join, leave and lose their connections', async () => {
    const broker = await start();
    onTestFinished(() => broker.close());
    const proxy = await Proxy.start(broker.address.port);
    const naru = await connected(`${broker.address.host}:${broker.address.port}`);
    await pipelineTopics(naru);
    const seen = reader(naru);
    const member = async (): Promise<Subscriber> => {
      const connection = await connected(proxy.address);
      const subscriber = connection.subscriber('billing', QUICK).handle<number>('orders', flaky);
      run(subscriber);
      return subscriber;
    };
    const first = await member();
    await publishAll(naru, 300);
    await until(() => seen.length > 20);
    const second = await member();
    await publishAll(naru, 300, 300);
    await until(() => second.assigned().length > 0);
    for (const enough of [200, 350, 450]) {
      await until(() => seen.length > enough);
      proxy.breakAll();
    }
    await publishAll(naru, 300, 600);
    await until(() => seen.length > 650);
    await first.close();
    await publishAll(naru, 100, 900);
    await until(() => seen.length >= 1_000);
    await second.close();
    expectOnceInOrder(await upToNow(naru, seen), range(1_000));
    const { offsets } = await naru.admin.describeGroup('billing');
    expect(offsets.map(({ lag }) => lag)).toEqual([0n, 0n, 0n, 0n]);
  });

  it('across restarts of the broker', async () => {
    const data = await mkdtemp(join(tmpdir(), 'naru-exactly-once-'));
    onTestFinished(() => rm(data, { recursive: true }));
    let broker = await start({ data });
    onTestFinished(() => broker.close());
    const { port } = broker.address;
    const naru = await connected(`127.0.0.1:${port}`);
    await pipelineTopics(naru);
    const seen = reader(naru);
    const subscriber = naru.subscriber('billing', QUICK).handle<number>('orders', flaky);
    run(subscriber);
    for (const from of [0, 200, 400]) {
      const sent = publishAll(naru, 200, from);
      await until(() => seen.length > from + 30);
      await broker.close();
      broker = await start({ data, port });
      await sent;
    }
    await until(() => seen.length >= 600);
    await subscriber.close();
    expectOnceInOrder(await upToNow(naru, seen), range(600));
  });

  it.each(['one by one', 'in batches'] as const)(
    'though outputs are refused for good now and then, %s',
    async (how) => {
      const broker = await start();
      onTestFinished(() => broker.close());
      const naru = await connected(`${broker.address.host}:${broker.address.port}`);
      await pipelineTopics(naru);
      await naru.admin.createTopic('small', { partitions: 1, config: { 'max.message.bytes': '2000' } });
      const seen = reader(naru);
      const refusedOnce = new Set<number>();
      const publish = async ({ key, value }: NaruEvent<number>, context: HandlerContext): Promise<void> => {
        await context.publish('out', value, { key });
        if (value % 31 !== 5 || refusedOnce.has(value)) return;
        refusedOnce.add(value);
        await context.publish('small', `poison${Math.random()}`.repeat(500), { key });
      };
      const subscriber = naru.subscriber('billing', {
        ...QUICK,
        maxBatchEvents: 10,
        retry: { ...QUICK.retry, attempts: 20 },
      });
      if (how === 'one by one') subscriber.handle<number>('orders', publish);
      else {
        subscriber.handleBatch<number>('orders', async (some, context) => {
          for (const event of some) await publish(event, context);
        });
      }
      const { over } = run(subscriber);
      await publishAll(naru, 300);
      await Promise.race([over, until(() => seen.length >= 300)]);
      await until(async () => (await naru.admin.describeGroup('billing')).offsets.every(({ lag }) => lag === 0n));
      expect(refusedOnce.size).toBe(10);
      expectOnceInOrder(await upToNow(naru, seen), range(300));
      await subscriber.close();
    },
  );

  it('in batches', async () => {
    const broker = await start();
    onTestFinished(() => broker.close());
    const naru = await connected(`${broker.address.host}:${broker.address.port}`);
    await pipelineTopics(naru);
    const seen = reader(naru);
    let failures = 0;
    const subscriber = naru.subscriber('billing', { ...QUICK, maxBatchEvents: 20 });
    subscriber.handleBatch<number>('orders', async (events, context) => {
      for (const { key, value } of events) void context.publish('out', value, { key });
      if (context.attempt === 1 && failures++ % 3 === 0) throw new Error('not now');
    });
    run(subscriber);
    await publishAll(naru, 500);
    await until(() => seen.length >= 500);
    await subscriber.close();
    expectOnceInOrder(await upToNow(naru, seen), range(500));
  });
});

describe('the pull form', () => {
  it('commits batches with transactions, which fail now and then, and are taken by another member after a crash', async () => {
    const broker = await start();
    onTestFinished(() => broker.close());
    const proxy = await Proxy.start(broker.address.port);
    const naru = await connected(`${broker.address.host}:${broker.address.port}`);
    await pipelineTopics(naru);
    const seen = reader(naru);
    await publishAll(naru, 400);
    let transactions = 0;
    const work = async (limit: number): Promise<void> => {
      const connection = await connected(proxy.address);
      for await (const batch of connection.poll<number>({
        group: 'billing',
        topics: ['orders'],
        maxBatchEvents: 15,
        pollWaitMs: 50,
      })) {
        transactions += 1;
        const isBroken = transactions % 5 === 0;
        await connection.transaction(async (tx) => {
          for (const { key, value } of batch) void tx.publish('out', value, { key });
          tx.commit(batch);
          if (isBroken) proxy.breakAll();
        });
        if (transactions >= limit || seen.length >= 400) return; // leaves with what it has taken and not committed
      }
    };
    await work(10);
    await Promise.race([work(Number.POSITIVE_INFINITY), until(() => seen.length >= 400)]);
    expectOnceInOrder(await upToNow(naru, seen), range(400));
  });
});
