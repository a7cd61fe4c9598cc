/** The SDK and the broker together, over gRPC on a real port. */
import { connect, isNaruError, serdes } from '@naru/client';
import type { Naru, SettingsInput } from '@naru/client';
import { Broker } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';

let broker: Broker;
let naru: Naru;

async function connected(settings: SettingsInput = {}): Promise<Naru> {
  const { host, port } = broker.address;
  const client = await connect({ brokers: [`${host}:${port}`], ...settings });
  onTestFinished(() => client.close());
  return client;
}

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  naru = await connect({ brokers: [`${broker.address.host}:${broker.address.port}`] });
});

afterEach(async () => {
  await naru.close();
  await broker.close();
});

/** Resolves when `count` things were counted. */
function counter(count: number): { add(): void; reached: Promise<void> } {
  let left = count;
  const { promise, resolve } = Promise.withResolvers<void>();
  const add = (): void => {
    left -= 1;
    if (left === 0) resolve();
  };
  return { add, reached: promise };
}

describe('publishing', () => {
  it('stores events and says where', async () => {
    await naru.admin.createTopic('orders', { partitions: 3 });
    const sent = await naru.publish('orders', { id: 1 }, { key: 'a' });
    const again = await naru.publish('orders', { id: 2 }, { key: 'a' });
    expect(again).toMatchObject({ topic: 'orders', partition: sent.partition, offset: 1n });
    expect(JSON.parse(JSON.stringify(again))).toMatchObject({ offset: '1', requestId: again.requestId });
    expect(again.requestId).not.toBe(sent.requestId);
  });

  it('refuses an unknown topic', async () => {
    await expect(naru.publish('nowhere', 1)).rejects.toSatisfy((error) =>
      isNaruError(error, 'UNKNOWN_TOPIC_OR_PARTITION'),
    );
  });

  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'round trips %s batches, headers and raw bytes',
    async (compression) => {
      const client = await connected({ publisher: { compression, cloudEvents: false } });
      await client.admin.createTopic('raw', { partitions: 1 });
      const value = new Uint8Array(5_000).fill(7);
      const headers = [
        { key: 'h', value: null },
        { key: 'h', value: Uint8Array.of(1, 2) },
      ];
      const serde = serdes.bytes;
      await client.publish('raw', value, { key: Uint8Array.of(0xff), headers, serde, timestamp: 1_234 });
      await client.publish('raw', null, { key: 'gone' });
      const seen = [];
      for await (const batch of client.poll({ topics: ['raw'], serde })) {
        seen.push(...batch);
        if (seen.length === 2) break;
      }
      expect(seen[0]?.value).toEqual(value);
      expect(seen[0]?.keyBytes).toEqual(Uint8Array.of(0xff));
      expect(seen[0]?.timestampMs).toBe(1_234);
      expect([...(seen[0]?.headers ?? [])]).toEqual(headers);
      expect(seen[1]).toMatchObject({ key: 'gone', value: null });
    },
  );
});

describe('subscribing', () => {
  it('handles every event once and in order by key, shared by members that come and go', async () => {
    await naru.admin.createTopic('orders', { partitions: 6 });
    const total = 3_000;
    const seen = new Map<string, number[]>();
    const all = counter(total);
    const start = (): { stop: AbortController; over: Promise<void> } => {
      const stop = new AbortController();
      const member = naru.subscriber('billing', { autoCommitIntervalMs: 50 });
      member.handle<{ i: number }>('orders', async (event) => {
        await Promise.resolve();
        const key = event.key ?? '';
        seen.set(key, [...(seen.get(key) ?? []), event.value.i]);
        all.add();
      });
      return { stop, over: member.run({ concurrency: 8, signal: stop.signal }) };
    };
    const first = start();
    const publish = async (from: number, to: number): Promise<void> => {
      const sent = [];
      for (let i = from; i < to; i++) sent.push(naru.publish('orders', { i }, { key: `key-${i % 40}` }));
      await Promise.all(sent);
    };
    await publish(0, 1_000);
    const second = start();
    await publish(1_000, 2_000);
    first.stop.abort();
    await first.over;
    const third = start();
    await publish(2_000, total);
    await all.reached;
    second.stop.abort();
    third.stop.abort();
    await Promise.all([second.over, third.over]);
    for (const values of seen.values()) expect(values).toEqual(values.toSorted((a, b) => a - b));
    expect([...seen.values()].flat().length).toBe(total);
    const { offsets } = await naru.admin.describeGroup('billing');
    expect(offsets.map(({ lag }) => lag)).toEqual(Array(6).fill(0n));
  });

  it('goes on after what was committed, finished events beyond it included', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    for (const name of ['a1', 'b1', 'a2']) await naru.publish('orders', name, { key: name[0] });
    const first = naru.subscriber('billing', {
      retry: { attempts: 1 },
      deadLetter: { use: false },
    });
    const b1 = Promise.withResolvers<void>();
    first.handle<string>('orders', async ({ value }) => {
      if (value === 'b1') b1.resolve();
      else {
        await b1.promise;
        throw new Error('not today');
      }
    });
    await expect(first.run({ concurrency: 2 })).rejects.toMatchObject({ code: 'HANDLER_FAILED', offset: 0n });
    const { offsets } = await naru.admin.describeGroup('billing');
    expect(offsets).toMatchObject([{ committedOffset: 0n, finished: [{ from: 1n, to: 2n }], lag: 2n }]);

    const seen: string[] = [];
    const two = counter(2);
    const second = naru.subscriber('billing').handle<string>('orders', ({ value }) => {
      seen.push(value);
      two.add();
    });
    const over = second.run();
    await two.reached;
    await second.close();
    await over;
    expect(seen).toEqual(['a1', 'a2']);
  });

  it('hands batches of one partition over in order', async () => {
    await naru.admin.createTopic('orders', { partitions: 2 });
    await Promise.all(Array.from({ length: 500 }, (_, i) => naru.publish('orders', i, { partition: i % 2 })));
    const seen: number[][] = [[], []];
    const all = counter(500);
    const subscriber = naru.subscriber('billing', { maxBatchEvents: 100 }).handleBatch<number>('orders', (events) => {
      expect(events.length).toBeLessThanOrEqual(100);
      for (const { partition, value } of events) {
        seen[partition]?.push(value);
        all.add();
      }
    });
    const over = subscriber.run({ concurrency: 4 });
    await all.reached;
    await subscriber.close();
    await over;
    expect(seen.map((values) => values.toSorted((a, b) => a - b))).toEqual(seen);
    expect(seen.flat().length).toBe(500);
  });

  it('seeks, pauses and resumes while it runs', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    for (let i = 0; i < 5; i++) await naru.publish('orders', i);
    const seen: number[] = [];
    const five = counter(5);
    const eight = counter(8);
    const subscriber = naru.subscriber('billing', { pollWaitMs: 20 }).handle<number>('orders', ({ value }) => {
      seen.push(value);
      five.add();
      eight.add();
    });
    const over = subscriber.run();
    await five.reached;
    subscriber.pause();
    await subscriber.seek({ topic: 'orders', partition: 0 }, 2n);
    subscriber.resume();
    await eight.reached;
    await subscriber.close();
    await over;
    expect(seen).toEqual([0, 1, 2, 3, 4, 2, 3, 4]);
  });

  it('starts at the end, at an offset or at a time', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    for (let i = 0; i < 5; i++) await naru.publish('orders', i, { timestamp: 1_000 * i });
    const firstFrom = async (from: 'beginning' | bigint | Date): Promise<unknown> => {
      for await (const batch of naru.poll({ topics: ['orders'], from })) return batch.events[0]?.value;
      return undefined;
    };
    expect(await firstFrom('beginning')).toBe(0);
    expect(await firstFrom(3n)).toBe(3);
    expect(await firstFrom(new Date(1_500))).toBe(2);
    const reader = naru.poll({ topics: ['orders'], from: 'none', group: 'nobody' });
    await expect(reader.next()).rejects.toMatchObject({ code: 'NO_OFFSET' });
  });
});

describe('the pull form', () => {
  it('commits batches, and leaves the group when the loop is left', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    for (let i = 0; i < 10; i++) await naru.publish('orders', i);
    const seen: unknown[] = [];
    for await (const batch of naru.poll({ group: 'audit', topics: ['orders'], maxBatchEvents: 4 })) {
      seen.push(...batch.events.map(({ value }) => value));
      await batch.commit();
      if (seen.length === 8) break;
    }
    const group = await naru.admin.describeGroup('audit');
    expect(group).toMatchObject({ state: 'empty', offsets: [{ committedOffset: 8n, lag: 2n }] });
    const rest = await naru.poll({ group: 'audit', topics: ['orders'] }).next();
    expect(rest.value?.events.map(({ value }) => value)).toEqual([8, 9]);
  });

  it('ends when idle, and when its signal aborts', async () => {
    await naru.admin.createTopic('orders', { partitions: 1 });
    await naru.publish('orders', 1);
    let count = 0;
    for await (const batch of naru.poll({ topics: ['orders'], idleTimeoutMs: 50 })) count += batch.events.length;
    expect(count).toBe(1);
    const stop = new AbortController();
    const next = naru.poll({ topics: ['orders'], from: 'end', signal: stop.signal }).next();
    stop.abort();
    expect(await next).toEqual({ done: true, value: undefined });
  });
});

describe('admin', () => {
  it('manages topics, offsets and groups', async () => {
    const { admin } = naru;
    await admin.createTopic('orders', { partitions: 2 });
    await expect(admin.createTopic('orders')).rejects.toMatchObject({ code: 'TOPIC_ALREADY_EXISTS' });
    await expect(admin.addPartitions('orders', 4)).rejects.toMatchObject({ code: 'KEY_REORDER_NOT_ALLOWED' });
    expect(await admin.addPartitions('orders', 4, { allowKeyReorder: true })).toMatchObject({ partitions: 4 });
    expect((await admin.listTopics()).map(({ name }) => name)).toEqual(['orders']);
    await naru.publish('orders', 1, { partition: 3 });
    expect((await admin.describeTopic('orders')).partitionDetails[3]).toMatchObject({ highWatermark: 1n });
    expect(await admin.listOffsets('orders', 'end', { partitions: [3] })).toEqual([{ partition: 3, offset: 1n }]);
    for await (const batch of naru.poll({ group: 'g', topics: ['orders'] })) {
      await batch.commit();
      break;
    }
    expect((await admin.listGroups()).map(({ groupId }) => groupId)).toEqual(['g']);
    const preview = await admin.resetOffsets('g', { to: 'beginning' });
    expect(preview).toMatchObject({ executed: false, changes: [{ topic: 'orders', partition: 3, from: 1n, to: 0n }] });
    await admin.deleteGroup('g');
    await admin.deleteTopic('orders');
    await expect(admin.describeTopic('orders')).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    expect(await admin.describeCluster()).toMatchObject({ storage: 'memory' });
  });
});

describe('a broker that goes away', () => {
  it('is waited for, and then named', async () => {
    const started = connect({ brokers: ['127.0.0.1:1'], connectTimeoutMs: 200 });
    await expect(started).rejects.toMatchObject({ code: 'NETWORK', message: expect.stringContaining('127.0.0.1:1') });
  });
});
