import { silentLogger } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { deferred } from '../deferred.ts';
import { Naru } from '../naru.ts';
import type { Serde } from '../serde/serde.ts';
import { settingsSchema } from '../settings.ts';
import type { SettingsInput } from '../settings.ts';
import { FakePublishBroker } from '../testing/fake-publish-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';
import { MAX_PENDING_VALUES } from './pending-values.ts';
import type { Delivery } from './publish-result.ts';

function setUp(publisher: SettingsInput['publisher'] = {}) {
  const time = new VirtualTime();
  const broker = new FakePublishBroker(time);
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  return { time, broker, naru: new Naru(settingsSchema.parse({ publisher }), broker, runtime) };
}

/** Serializes when told to. */
function slowSerde() {
  const waiting = new Map<string, ReturnType<typeof deferred<void>>>();
  const serde: Serde<string> = {
    name: 'slow',
    async serialize(value) {
      const go = deferred<void>();
      waiting.set(value, go);
      await go.promise;
      return Buffer.from(value);
    },
    deserialize: String,
  };
  const finish = (value: string, error?: Error): void => {
    const go = waiting.get(value);
    if (error === undefined) go?.resolve();
    else go?.reject(error);
  };
  return { serde: serde as Serde<unknown>, finish };
}

const quick: Serde<unknown> = { name: 'quick', serialize: (value) => Buffer.from(String(value)), deserialize: String };
const texts = (records: readonly { value: Uint8Array | null }[] = []): string[] =>
  records.map(({ value }) => Buffer.from(value ?? []).toString());

function outcome(promise: Promise<unknown>): { value?: unknown; error?: NaruError } {
  const result: { value?: unknown; error?: NaruError } = {};
  promise.then(
    (value) => (result.value = value),
    (error: unknown) => (result.error = error as NaruError),
  );
  return result;
}

describe('values that take a while', () => {
  it('are sent in the order of their publishes, whichever is ready first', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    const { serde, finish } = slowSerde();
    const sent = [
      naru.publish('orders', 'a', { key: 'k', serde }),
      naru.publish('orders', 'b', { key: 'k', serde }),
      naru.publish('orders', 'c', { key: 'k', serde: quick }),
    ];
    naru.enqueue('orders', 'd', { key: 'k', serde: quick });
    await time.advance(0);
    finish('b');
    await time.advance(0);
    expect(partition?.records).toEqual([]);
    finish('a');
    await time.advance(0);
    await Promise.all(sent);
    expect(texts(partition?.records)).toEqual(['a', 'b', 'c', 'd']);
  });

  it('hold up neither other topics nor what comes when they are through', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 1);
    const [others] = broker.createTopic('others', 1);
    const { serde, finish } = slowSerde();
    const first = naru.publish('orders', 'a', { serde });
    const other = naru.publish('others', 'x', { serde: quick });
    await time.advance(0);
    await other;
    expect(texts(others?.records)).toEqual(['x']);
    finish('a');
    await time.advance(0);
    await first;
    const next = outcome(naru.publish('orders', 'b', { serde: quick }));
    await time.advance(0);
    expect(next.value).toMatchObject({ offset: 1n });
  });

  it('that fail fail alone, and what is behind them goes on', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    const { serde, finish } = slowSerde();
    const failed = outcome(naru.publish('orders', 'a', { serde }));
    const behind = naru.publish('orders', 'b', { serde: quick });
    finish('a', new Error('no such thing'));
    await time.advance(0);
    await behind;
    expect(failed.error).toMatchObject({
      code: 'SERIALIZATION',
      retriable: false,
      message: 'value for orders is not slow: no such thing',
    });
    expect(texts(partition?.records)).toEqual(['b']);
  });

  it('are told to listeners when an enqueued one fails', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 1);
    const { serde, finish } = slowSerde();
    const told: Delivery[] = [];
    naru.onDelivery((delivery) => told.push(delivery));
    expect(naru.enqueue('orders', 'a', { key: 'k', serde })).toBe(true);
    finish('a', new Error('no'));
    await time.advance(0);
    expect(told).toMatchObject([{ ok: false, topic: 'orders', value: null, error: { code: 'SERIALIZATION' } }]);
  });

  it('are given up after the delivery time-out, and taken back by an abort', async () => {
    const { time, broker, naru } = setUp({ deliveryTimeoutMs: '1s' });
    const [partition] = broker.createTopic('orders', 1);
    const { serde, finish } = slowSerde();
    const abort = new AbortController();
    const aborted = outcome(naru.publish('orders', 'a', { serde, signal: abort.signal }));
    const late = outcome(naru.publish('orders', 'b', { serde }));
    const behind = outcome(naru.publish('orders', 'c', { serde: quick }));
    await time.advance(10);
    abort.abort();
    await time.advance(980);
    expect(aborted.error?.code).toBe('ABORTED');
    expect(late.error).toBeUndefined();
    await time.advance(20);
    expect(late.error).toMatchObject({ code: 'DELIVERY_TIMEOUT' });
    finish('a');
    finish('b');
    await time.advance(0);
    expect(behind.value).toMatchObject({ offset: 0n });
    expect(texts(partition?.records)).toEqual(['c']);
  });

  it('are waited for by flush, and end with the connection', async () => {
    const { time, broker, naru } = setUp({ deliveryTimeoutMs: '1s' });
    const [partition] = broker.createTopic('orders', 1);
    const { serde, finish } = slowSerde();
    void naru.publish('orders', 'a', { serde });
    const flushed = outcome(naru.flush().then(() => 'flushed'));
    await time.advance(0);
    expect(flushed.value).toBeUndefined();
    finish('a');
    await time.advance(0);
    expect(flushed.value).toBe('flushed');
    expect(texts(partition?.records)).toEqual(['a']);
    const stuck = outcome(naru.publish('orders', 'b', { serde }));
    const behind = outcome(naru.publish('orders', 'c', { serde: quick }));
    const closed = outcome(naru.close({ timeoutMs: 100 }).then(() => 'closed'));
    await time.advance(100);
    expect(closed.value).toBe('closed');
    expect([stuck.error?.code, behind.error?.code]).toEqual(['CLOSED', 'CLOSED']);
    expect(partition?.records.length).toBe(1);
  });

  it('are taken up to a limit', async () => {
    const { time, broker, naru } = setUp();
    const [partition] = broker.createTopic('orders', 1);
    const { serde, finish } = slowSerde();
    for (let i = 0; i < MAX_PENDING_VALUES; i++)
      expect(naru.enqueue('orders', i === 0 ? 'a' : `${i}`, { serde: i === 0 ? serde : quick })).toBe(true);
    expect(naru.enqueue('orders', 'x', { serde: quick })).toBe(false);
    const refused = outcome(naru.publish('orders', 'x', { serde }));
    const ready = outcome(naru.ready().then(() => 'ready'));
    await time.advance(0);
    expect(refused.error?.code).toBe('BUFFER_FULL');
    expect(ready.value).toBeUndefined();
    finish('a');
    await time.advance(0);
    expect(ready.value).toBe('ready');
    await time.until(() => partition?.records.length === MAX_PENDING_VALUES);
  });

  it('that are no bytes are refused at once, or as soon as they come', async () => {
    const { time, broker, naru } = setUp();
    broker.createTopic('orders', 1);
    const text = { name: 'text', serialize: () => 'text', deserialize: String } as unknown as Serde<unknown>;
    const later = {
      name: 'later',
      serialize: () => Promise.resolve(5),
      deserialize: String,
    } as unknown as Serde<unknown>;
    const results = [
      outcome(naru.publish('orders', 1, { serde: text })),
      outcome(naru.publish('orders', 1, { serde: later })),
    ];
    await time.advance(0);
    expect(results.map(({ error }) => error?.message)).toEqual([
      'value for orders is not text: its serializer returned string, expected a Uint8Array',
      'value for orders is not later: its serializer resolved with number, expected a Uint8Array',
    ]);
  });
});
