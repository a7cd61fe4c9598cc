import { silentLogger } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { Naru } from '../naru.ts';
import { parseSettings } from '../settings-file.ts';
import type { SettingsInput } from '../settings.ts';
import { settingsSchema } from '../settings.ts';
import { FakePublishBroker } from '../testing/fake-publish-broker.ts';
import { VirtualTime, seededRandom, settle } from '../testing/virtual-time.ts';
import type { Delivery } from './publish-result.ts';

function setUp(publisher: SettingsInput['publisher'] = {}) {
  const time = new VirtualTime();
  const broker = new FakePublishBroker(time);
  const settings = settingsSchema.parse({ publisher });
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  return { time, broker, naru: new Naru(settings, broker, runtime) };
}

const text = new TextDecoder();
const values = (records: readonly { value: Uint8Array | null }[]): unknown[] =>
  records.map(({ value }) => (value === null ? null : (JSON.parse(text.decode(value)) as unknown)));

/** What a promise came to, once it has. */
function outcome(promise: Promise<unknown>): { value?: unknown; error?: { code?: string; message: string } } {
  const result: { value?: unknown; error?: { code?: string; message: string } } = {};
  promise.then(
    (value) => (result.value = value),
    (error: unknown) => (result.error = error as NaruError),
  );
  return result;
}

describe('publishing', () => {
  it('resolves with place and request id once the batch is acknowledged', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    const sent = outcome(naru.publish('orders', { id: 1 }, { key: 'a', headers: { kind: 'x' } }));
    await time.advance(0);
    expect(sent.value).toMatchObject({ topic: 'orders', partition: 0, offset: 0n, timestampMs: time.nowMs() });
    expect(JSON.parse(JSON.stringify(sent.value))).toMatchObject({ offset: '0', requestId: expect.any(String) });
    expect(values(partition?.records ?? [])).toEqual([{ id: 1 }]);
    expect(text.decode(partition?.records[0]?.key ?? new Uint8Array())).toBe('a');
    expect(partition?.records[0]?.headers.map(({ key }) => key)).toContain('kind');
  });

  it('puts publishes made together into one batch', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    await naru.flush();
    const all = Promise.all(Array.from({ length: 100 }, (_, i) => naru.publish('orders', i)));
    await time.advance(0);
    expect((await all).map(({ offset }) => Number(offset))).toEqual(Array.from({ length: 100 }, (_, i) => i));
    expect(partition?.batches).toBe(1);
  });

  it('sends a lone event at once, and gathers the next ones while it is stored', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    broker.delayMs = () => 5;
    const first = naru.publish('orders', 'first');
    await time.until(() => broker.received.length === 1);
    const rest = Array.from({ length: 50 }, (_, i) => naru.publish('orders', i));
    await time.advance(5);
    expect(broker.received.length).toBe(1);
    await time.advance(20);
    await Promise.all([first, ...rest]);
    expect(partition?.batches).toBe(2);
  });

  it('waits for others as long as lingerMs says, and not when flushed', async () => {
    const { time, broker, naru } = setUp({ lingerMs: '50ms' });
    broker.createTopic('orders', 1);
    void naru.publish('orders', 1);
    await time.advance(49);
    expect(broker.received.length).toBe(0);
    await time.advance(1);
    expect(broker.received.length).toBe(1);
    void naru.publish('orders', 2);
    const flushed = naru.flush();
    await time.advance(0);
    await flushed;
    expect(broker.received.length).toBe(2);
  });

  it('refuses an unknown topic at once, and finds it when it exists later', async () => {
    const { time, broker, naru } = setUp();
    const refused = outcome(naru.publish('orders', 1));
    await time.advance(0);
    expect(refused.error?.code).toBe('UNKNOWN_TOPIC_OR_PARTITION');
    broker.createTopic('orders', 1);
    const stored = outcome(naru.publish('orders', 1));
    await time.advance(0);
    expect(stored.value).toMatchObject({ offset: 0n });
  });

  it('refuses what cannot be published: no JSON form, bad topic, unknown partition, too large', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 2);
    broker.maxBatchBytes = 1_000;
    await expect(naru.publish('orders', undefined)).rejects.toMatchObject({ code: 'SERIALIZATION' });
    await expect(naru.publish('orders', 1n)).rejects.toMatchObject({ code: 'SERIALIZATION' });
    await expect(naru.publish('no/slash', 1)).rejects.toMatchObject({ code: 'INVALID_TOPIC' });
    const noPartition = outcome(naru.publish('orders', 1, { partition: 2 }));
    void naru.publish('orders', 1);
    await time.advance(0);
    expect(noPartition.error?.code).toBe('UNKNOWN_TOPIC_OR_PARTITION');
    await expect(naru.publish('orders', 'x'.repeat(1_000))).rejects.toMatchObject({ code: 'RECORD_TOO_LARGE' });
  });

  it('compresses when told to', async () => {
    const { time, broker, naru } = setUp({ compression: 'zstd' });
    const [partition] = broker.createTopic('orders', 1);
    const sent = outcome(naru.publish('orders', 'x'.repeat(10_000)));
    await time.advance(0);
    expect(sent.value).toBeDefined();
    expect(broker.received[0]?.records.length).toBeLessThan(1_000);
    expect(values(partition?.records ?? [])).toEqual(['x'.repeat(10_000)]);
  });

  it('keeps events of one key in one partition, and spreads keys', async () => {
    const { time, broker, naru } = setUp();
    const partitions = broker.createTopic('orders', 4);
    const all = Array.from({ length: 100 }, (_, i) => naru.publish('orders', i, { key: `k${i % 20}` }));
    await time.advance(10);
    await Promise.all(all);
    expect(partitions.filter(({ records }) => records.length > 0).length).toBeGreaterThan(1);
    const placesOfKeys = new Map<string, Set<number>>();
    for (const [index, { records }] of partitions.entries()) {
      for (const { key } of records) {
        const name = text.decode(key ?? new Uint8Array());
        placesOfKeys.set(name, (placesOfKeys.get(name) ?? new Set()).add(index));
      }
    }
    expect([...placesOfKeys.values()].every((places) => places.size === 1)).toBe(true);
  });
});

describe('memory', () => {
  it('lets enqueue refuse and ready wait when the buffer is full', async () => {
    const { time, broker, naru } = setUp({ bufferBytes: 4096 });
    const [partition] = broker.createTopic('orders', 1);
    broker.fault = () => 'swallow';
    let taken = 0;
    while (naru.enqueue('orders', 'x'.repeat(400))) taken += 1;
    expect(taken).toBeGreaterThan(5);
    expect(taken).toBeLessThan(11);
    let isReady = false;
    void naru.ready().then(() => (isReady = true));
    await time.advance(100);
    expect(isReady).toBe(false);
    broker.fault = () => null;
    broker.breakStream();
    await time.advance(1_000);
    expect(isReady).toBe(true);
    expect(partition?.records.length).toBe(taken);
    expect(naru.enqueue('orders', 'x'.repeat(400))).toBe(true);
  });

  it('makes publish wait, in order, and take an abort', async () => {
    const { time, broker, naru } = setUp({ bufferBytes: 1024, maxWaiting: 3 });
    const [partition] = broker.createTopic('orders', 1);
    const stop = new AbortController();
    const value = (i: number): string => `${i}`.padEnd(600, 'x');
    const first = outcome(naru.publish('orders', value(0)));
    const second = outcome(naru.publish('orders', value(1)));
    const aborted = outcome(naru.publish('orders', value(2), { signal: stop.signal }));
    const third = outcome(naru.publish('orders', value(3)));
    const beyond = outcome(naru.publish('orders', value(4)));
    stop.abort();
    await settle();
    expect(aborted.error?.code).toBe('ABORTED');
    expect(beyond.error?.code).toBe('BUFFER_FULL');
    await time.advance(100);
    expect([first.value, second.value, third.value]).toMatchObject([{ offset: 0n }, { offset: 1n }, { offset: 2n }]);
    expect(values(partition?.records ?? []).map((stored) => parseInt(stored as string, 10))).toEqual([0, 1, 3]);
  });
});

describe('enqueued events', () => {
  it('are reported to listeners, with what they were when they failed', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 1);
    const deliveries: Delivery[] = [];
    naru.onDelivery((delivery) => deliveries.push(delivery));
    naru.enqueue('orders', 'a', { key: 'k1' });
    await time.advance(0);
    broker.fault = () => ({ refuse: 'RECORD_TOO_LARGE' });
    naru.enqueue('orders', 'b', { key: 'k2' });
    await time.advance(0);
    naru.enqueue('nowhere', 'c', { key: 'k3' });
    await time.advance(0);
    expect(deliveries).toMatchObject([
      { ok: true, result: { offset: 0n } },
      { ok: false, topic: 'orders', error: { code: 'RECORD_TOO_LARGE' } },
      { ok: false, topic: 'nowhere', error: { code: 'UNKNOWN_TOPIC_OR_PARTITION' } },
    ]);
    const keys = deliveries.map((delivery) => (delivery.ok || delivery.key === null ? '' : text.decode(delivery.key)));
    expect(keys).toEqual(['', 'k2', 'k3']);
  });
});

describe('failures', () => {
  it('sends unacknowledged batches again after a reconnection, stored once', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    broker.fault = () => 'silent';
    const sent = outcome(naru.publish('orders', 'a'));
    await time.advance(0);
    expect(partition?.records.length).toBe(1);
    broker.fault = () => null;
    broker.breakStream();
    await time.advance(1_000);
    expect(sent.value).toMatchObject({ offset: 0n });
    expect(partition?.records.length).toBe(1);
    expect(broker.streams.length).toBe(2);
  });

  it('breaks off a connection on which nothing is answered', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 1);
    broker.fault = () => 'swallow';
    const sent = outcome(naru.publish('orders', 'a'));
    await time.advance(29_000);
    broker.fault = () => null;
    expect(sent.value).toBeUndefined();
    await time.advance(3_000);
    expect(sent.value).toMatchObject({ offset: 0n });
  });

  it('goes on in order, in a new epoch, after a batch that is refused for good', async () => {
    const { time, broker, naru } = setUp({ batchBytes: 1024 });
    const [partition] = broker.createTopic('orders', 1);
    broker.delayMs = () => 1;
    let arrived = 0;
    broker.fault = () => (arrived++ === 1 ? { refuse: 'RECORD_TOO_LARGE' } : null);
    const value = (i: number): string => `${i}`.padEnd(900, 'x');
    const sent = Array.from({ length: 8 }, (_, i) => outcome(naru.publish('orders', value(i))));
    await time.advance(1_000);
    expect(sent.map(({ error }) => error?.code)).toEqual([undefined, 'RECORD_TOO_LARGE', ...Array(6).fill(undefined)]);
    expect(values(partition?.records ?? []).map((stored) => parseInt(stored as string, 10))).toEqual([
      0, 2, 3, 4, 5, 6, 7,
    ]);
    expect([...(partition?.producers.values() ?? [])].map(({ epoch }) => epoch)).toEqual([1]);
  });

  it('keeps the order when the broker refuses a batch for a while', async () => {
    const { time, broker, naru } = setUp({ batchBytes: 1024 });
    const [partition] = broker.createTopic('orders', 1);
    broker.delayMs = () => 1;
    let arrived = 0;
    broker.fault = () => (arrived++ < 2 ? { refuse: 'OVERLOADED' } : null);
    const value = (i: number): string => `${i}`.padEnd(900, 'x');
    const sent = Array.from({ length: 8 }, (_, i) => outcome(naru.publish('orders', value(i))));
    await time.advance(5_000);
    expect(sent.map((result) => result.value)).toMatchObject(
      Array.from({ length: 8 }, (_, i) => ({ offset: BigInt(i) })),
    );
    expect(values(partition?.records ?? []).map((stored) => parseInt(stored as string, 10))).toEqual([
      0, 1, 2, 3, 4, 5, 6, 7,
    ]);
  });

  it('gives up after the delivery time-out, says what may have happened, and goes on', async () => {
    const { time, broker, naru } = setUp({ deliveryTimeoutMs: '10s' });
    const [partition] = broker.createTopic('orders', 1);
    broker.fault = () => 'swallow';
    const lost = outcome(naru.publish('orders', 'a'));
    await time.advance(5_000);
    const later = outcome(naru.publish('orders', 'b'));
    broker.fault = () => null;
    await time.advance(8_000);
    expect(lost.error?.code).toBe('DELIVERY_TIMEOUT');
    expect(lost.error?.message).toContain('may have been stored');
    expect(later.value).toMatchObject({ offset: 0n });
    expect(values(partition?.records ?? [])).toEqual(['b']);
    expect([...(partition?.producers.values() ?? [])].map(({ epoch }) => epoch)).toEqual([1]);
  });

  it('gives up with the reason when no broker can be reached, and leaves no timer behind', async () => {
    const { time, broker, naru } = setUp({ deliveryTimeoutMs: '10s' });
    broker.isReachable = false;
    const lost = outcome(naru.publish('orders', 'a'));
    await time.advance(15_000);
    expect(lost.error?.code).toBe('DELIVERY_TIMEOUT');
    expect(lost.error?.message).toContain('connection refused');
    await time.advance(10_000);
    expect(time.pendingTimers).toBe(0);
  });

  it('goes on trying while the disk of the broker is full, and gives up with that as the reason', async () => {
    const { time, broker, naru } = setUp({ deliveryTimeoutMs: '10s' });
    const [partition] = broker.createTopic('orders', 1);
    broker.fault = () => ({ refuse: 'STORAGE_FULL' });
    const lost = outcome(naru.publish('orders', 'a'));
    await time.advance(8_000);
    const later = outcome(naru.publish('orders', 'b'));
    await time.advance(5_000);
    expect(lost.error).toMatchObject({ code: 'DELIVERY_TIMEOUT', cause: { code: 'STORAGE_FULL' } });
    broker.fault = () => null;
    await time.advance(3_000);
    expect(later.value).toBeDefined();
    expect(values(partition?.records ?? [])).toEqual(['b']);
  });

  it('begins a new epoch when the broker has forgotten the producer', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    void naru.publish('orders', 'a');
    await time.advance(0);
    partition?.producers.clear();
    const sent = outcome(naru.publish('orders', 'b'));
    await time.advance(1_000);
    expect(sent.value).toMatchObject({ offset: 1n });
  });

  it('moves to new partitions only when what was sent before is settled', async () => {
    const { time, broker, naru } = setUp({ metadataMaxAgeMs: '1s' });
    const [old] = broker.createTopic('orders', 1);
    void naru.publish('orders', 0, { key: 'k' });
    await time.advance(0);
    broker.addPartitions('orders', 8);
    broker.fault = () => 'swallow';
    const early = outcome(naru.publish('orders', 1, { key: 'k7' }));
    await time.advance(5_000); // the new count is known now
    const late = outcome(naru.publish('orders', 2, { key: 'k7' }));
    await time.advance(1_000);
    expect(late.value).toBeUndefined();
    broker.fault = () => null;
    broker.breakStream();
    await time.advance(1_000);
    expect(early.value).toMatchObject({ partition: 0 });
    expect(late.value).toMatchObject({ partition: expect.any(Number) });
    expect(values(old?.records ?? []).slice(0, 2)).toEqual([0, 1]);
    expect(broker.topicLookups).toBeGreaterThan(1);
  });

  it('rejects what is open when it is closed, and everything after', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 1);
    broker.fault = () => 'swallow';
    const open = outcome(naru.publish('orders', 'a'));
    await time.advance(0);
    const closed = naru.close({ timeoutMs: 1_000 });
    await time.advance(2_000);
    await closed;
    expect(open.error).toMatchObject({ code: 'CLOSED', message: expect.stringContaining('may have been stored') });
    await expect(naru.publish('orders', 'b')).rejects.toMatchObject({ code: 'CLOSED' });
    expect(() => naru.enqueue('orders', 'b')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(() => naru.subscriber('g')).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    expect(time.pendingTimers).toBe(0);
  });
});

describe('settings', () => {
  it('reach the publisher in milliseconds and bytes', () => {
    expect(parseSettings('publisher: { lingerMs: 5ms, batchBytes: 1KiB }', 'naru.yaml').publisher).toMatchObject({
      lingerMs: 5,
      batchBytes: 1024,
    });
  });
});
