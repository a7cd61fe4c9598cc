/** Transactions of the SDK against a broker: what readers of committed events see, when, and what a crash leaves. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConnectTransport, TransactionFencedError, connect } from '@naru/client';
import type { Naru, SettingsInput } from '@naru/client';
import { Broker } from '@naru/broker';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';

let address: string;
let naru: Naru;

async function connected(settings: SettingsInput = {}): Promise<Naru> {
  const client = await connect({ brokers: [address], ...settings });
  onTestFinished(() => client.close({ timeoutMs: 0 }));
  return client;
}

/** A client, and what ends it as a crash does: it says nothing any more. */
async function mortal(settings: SettingsInput): Promise<{ client: Naru; crash: () => Promise<void> }> {
  const transport = new ConnectTransport({ brokers: [address] });
  const client = await connect({ connectTimeoutMs: 0, ...settings }, { transport });
  let isDead = false;
  const dead = (): never => {
    throw new Error('this client is dead');
  };
  const crash = async (): Promise<void> => {
    isDead = true;
    await transport.close();
    Object.assign(transport, { call: () => Promise.reject(new Error('dead')), openPublishStream: dead });
  };
  onTestFinished(() => void (isDead || client.close({ timeoutMs: 0 })));
  return { client, crash };
}

/** Reads values of topics until `isEnough`. */
async function read<T>(topics: string[], isEnough: (values: readonly T[]) => boolean): Promise<T[]> {
  const values: T[] = [];
  for await (const batch of naru.poll<T>({ topics, pollWaitMs: 50 })) {
    values.push(...batch.events.map(({ value }) => value));
    if (isEnough(values)) return values;
  }
  return values;
}

beforeEach(async () => {
  const broker = await Broker.start({ storage: 'memory', port: 0 });
  onTestFinished(() => broker.close());
  address = `${broker.address.host}:${broker.address.port}`;
  naru = await connected();
  await naru.admin.createTopic('orders', { partitions: 3 });
  await naru.admin.createTopic('bills', { partitions: 1 });
});

describe('a transaction', () => {
  it('is there for a subscriber of two topics all at once when it is committed, and not before', async () => {
    const seen: number[] = [];
    const { promise: sawAll, resolve } = Promise.withResolvers<void>();
    const subscriber = naru.subscriber('audit', { pollWaitMs: 50 });
    const handler = ({ value }: { value: number }): void => {
      seen.push(value);
      if (seen.length === 41) resolve();
    };
    subscriber.handle<number>('orders', handler);
    subscriber.handle<number>('bills', handler);
    const over = subscriber.run();
    await naru.publish('bills', -1);
    const result = await naru.transaction(async (tx) => {
      for (let i = 0; i < 20; i++) {
        await tx.publish('orders', i, { key: `${i}` });
        await tx.publish('bills', 100 + i);
      }
      expect(seen.filter((value) => value >= 0)).toEqual([]);
      return 'done';
    });
    expect(result).toBe('done');
    await sawAll;
    await subscriber.close();
    await over;
    const expected = [-1, ...Array.from({ length: 20 }, (_, i) => [i, 100 + i]).flat()];
    expect(seen.toSorted((a, b) => a - b)).toEqual(expected.toSorted((a, b) => a - b));
    expect(seen.filter((value) => value >= 100)).toEqual(Array.from({ length: 20 }, (_, i) => 100 + i));
  });

  it('that fails leaves nothing to see, and the next one of its producer does', async () => {
    const mine = new Error('no stock');
    await expect(
      naru.transaction(async (tx) => {
        await tx.publish('bills', 'lost');
        void tx.publish('bills', 'lost, too');
        throw mine;
      }),
    ).rejects.toBe(mine);
    await naru.transaction((tx) => tx.publish('bills', 'kept'));
    await naru.publish('bills', 'last');
    expect(await read(['bills'], (values) => values.includes('last'))).toEqual(['kept', 'last']);
  });

  it('goes with others at a time, each of them whole', async () => {
    const all = Array.from({ length: 40 }, (_, i) =>
      naru.transaction(async (tx) => {
        for (let part = 0; part < 5; part++) void tx.publish('orders', { i, part }, { key: `${part}` });
        if (i % 4 === 3) throw new Error('not this one');
        await tx.publish('bills', { i, part: 5 });
      }),
    );
    const results = await Promise.allSettled(all);
    expect(results.map(({ status }) => status === 'fulfilled')).toEqual(all.map((_, i) => i % 4 !== 3));
    const values = await read<{ i: number; part: number }>(['orders', 'bills'], ({ length }) => length >= 30 * 6);
    const parts = Map.groupBy(values, ({ i }) => i);
    expect([...parts.keys()].toSorted((a, b) => a - b)).toEqual(all.map((_, i) => i).filter((i) => i % 4 !== 3));
    for (const [, one] of parts)
      expect(one.map(({ part }) => part).toSorted((a, b) => a - b)).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('that takes longer than its time is aborted by the broker, and run again', async () => {
    const client = await connected({ publisher: { transaction: { timeoutMs: 100 } } });
    let runs = 0;
    await client.transaction(async (tx) => {
      const run = ++runs;
      await tx.publish('bills', run);
      // Visible behind the open transaction: so it is over.
      await naru.publish('bills', 'behind');
      if (run === 1) await read(['bills'], (values) => values.includes('behind'));
    });
    expect(runs).toBe(2);
    await naru.publish('bills', 'last');
    const values = await read(['bills'], (seen) => seen.includes('last'));
    expect(values.filter((value) => value !== 'behind')).toEqual([2, 'last']);
  });

  it('commits a batch with what was published for it, or neither', async () => {
    for (let i = 0; i < 6; i++) await naru.publish('orders', i, { partition: 0 });
    const handle = async (isFailing: boolean): Promise<number[]> => {
      for await (const batch of naru.poll<number>({ group: 'billing', topics: ['orders'], maxBatchEvents: 3 })) {
        const values = batch.events.map(({ value }) => value);
        await naru.transaction(async (tx) => {
          for (const value of values) void tx.publish('bills', value);
          tx.commit(batch);
          if (isFailing) throw new Error('not now');
        });
        return values;
      }
      return [];
    };
    await expect(handle(true)).rejects.toThrow('not now');
    expect(await handle(false)).toEqual([0, 1, 2]);
    expect(await handle(false)).toEqual([3, 4, 5]);
    expect(await read(['bills'], ({ length }) => length >= 6)).toEqual([0, 1, 2, 3, 4, 5]);
  });
});

describe('a client that is gone', () => {
  const forEver = (): Promise<never> => new Promise(() => {});

  it('holds readers up for the time-out of its transaction, and no longer', async () => {
    const { client, crash } = await mortal({ publisher: { transaction: { timeoutMs: 300 } } });
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    void client.transaction(async (tx) => {
      await tx.publish('bills', 'of the dead');
      resolve();
      await forEver();
    });
    await begun;
    await crash();
    await naru.publish('bills', 'of the living');
    expect(await read(['bills'], ({ length }) => length > 0)).toEqual(['of the living']);
  });

  it('is cleared up after at once by the next one with its id', async () => {
    const settings = { publisher: { transaction: { id: 'shop', timeoutMs: '15m' } } } as const;
    const { client, crash } = await mortal(settings);
    const { promise: begun, resolve } = Promise.withResolvers<void>();
    void client.transaction(async (tx) => {
      await tx.publish('bills', 'of the dead');
      resolve();
      await forEver();
    });
    await begun;
    await crash();
    await naru.publish('bills', 'of the living');
    const next = await connected(settings);
    await next.transaction((tx) => tx.publish('bills', 'of the next'));
    expect(await read(['bills'], ({ length }) => length >= 2)).toEqual(['of the living', 'of the next']);
  });

  it('that is not gone after all is told that it was fenced', async () => {
    const settings = { publisher: { transaction: { id: 'shop' } } } as const;
    const [first, second] = [await connected(settings), await connected(settings)];
    const fenced = first.transaction(async (tx) => {
      await tx.publish('bills', 'first');
      await second.transaction((other) => other.publish('bills', 'second'));
      await tx.publish('bills', 'first again');
    });
    await expect(fenced).rejects.toBeInstanceOf(TransactionFencedError);
    expect(await read(['bills'], ({ length }) => length > 0)).toEqual(['second']);
  });
});

it('transactions are whole across restarts of the broker', async () => {
  const data = await mkdtemp(join(tmpdir(), 'naru-transactions-'));
  onTestFinished(() => rm(data, { recursive: true }));
  let broker = await Broker.start({ storage: 'file', data, port: 0 });
  onTestFinished(() => broker.close());
  const { port } = broker.address;
  address = `${broker.address.host}:${port}`;
  naru = await connected({ reconnect: { initial: 5, max: 50 }, publisher: { transaction: { maxConcurrent: 4 } } });
  await naru.admin.createTopic('orders', { partitions: 3 });

  const mine = new Error('not this one');
  let ended = 0;
  const run = async (i: number): Promise<boolean> => {
    const committed = await naru
      .transaction(async (tx) => {
        for (let part = 0; part < 20; part++) {
          const sent = tx.publish('orders', { i, part }, { key: `${part}` });
          if (part % 7 === 0) await sent;
        }
        if (i % 5 === 4) throw mine;
      })
      .then(
        () => true,
        (error: unknown) => {
          if (error !== mine) throw error;
          return false;
        },
      );
    ended += 1;
    return committed;
  };
  const results: Promise<boolean>[] = [];
  for (let i = 0; i < 120; i++) {
    results.push(run(i));
    if (i % 8 === 7) await Promise.race(results.slice(-8));
    if (i === 40 || i === 85) {
      // Some are in the middle.
      expect(ended).toBeLessThan(i);
      await broker.close();
      broker = await Broker.start({ storage: 'file', data, port });
    }
  }
  const committed = await Promise.all(results);
  expect(committed).toEqual(results.map((_, i) => i % 5 !== 4));
  const values = await read<{ i: number; part: number }>(['orders'], ({ length }) => length >= 96 * 20);
  const parts = Map.groupBy(values, ({ i }) => i);
  expect([...parts.keys()].toSorted((a, b) => a - b)).toEqual(results.map((_, i) => i).filter((i) => committed[i]));
  for (const [, one] of parts)
    expect(one.map(({ part }) => part).toSorted((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
});

describe('a topic with more ends of transactions than a commit can tell of', () => {
  const COUNT = 1_600;

  beforeEach(async () => {
    for (let i = 0; i < COUNT; i++) await naru.transaction((tx) => void tx.publish('bills', i));
  });

  it('is read to its end without a group', async () => {
    const values = await read<number>(['bills'], ({ length }) => length === COUNT);
    expect(values).toEqual(Array.from({ length: COUNT }, (_, i) => i));
  });

  it('is read to its end by who commits only then', async () => {
    const values: number[] = [];
    for await (const batch of naru.poll<number>({ group: 'audit', topics: ['bills'], pollWaitMs: 50 })) {
      values.push(...batch.events.map(({ value }) => value));
      if (values.length < COUNT) continue;
      await batch.commit();
      break;
    }
    expect(values).toEqual(Array.from({ length: COUNT }, (_, i) => i));
    const { offsets } = await naru.admin.describeGroup('audit');
    expect(offsets).toMatchObject([{ committedOffset: BigInt(2 * COUNT - 1) }]);
  });
});
