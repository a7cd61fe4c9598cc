/**
 * Publishers against a broker that delays, refuses, forgets to answer and breaks connections at random. Whatever happens:
 * what is acknowledged is stored, once, at the offset that was told; nothing is stored twice; each key stays in order.
 */
import { silentLogger } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { Naru } from '../naru.ts';
import { settingsSchema } from '../settings.ts';
import type { FakePartition, Fault } from '../testing/fake-publish-broker.ts';
import { FakePublishBroker } from '../testing/fake-publish-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';
import type { PublishResult } from './publish-result.ts';

const RUNS = process.env['NARU_TEST_LONG'] === '1' ? 1_000 : 60;
const EVENTS = 300;
const KEYS = 7;

interface Sent {
  readonly key: string;
  readonly value: number;
  result: PublishResult | null;
  code: string | null;
}

async function run(seed: number) {
  const random = seededRandom(seed);
  const time = new VirtualTime();
  const broker = new FakePublishBroker(time);
  const partitions = broker.createTopic('orders', 3);
  const settings = settingsSchema.parse({
    requestTimeoutMs: '5s',
    publisher: { batchBytes: 1024, bufferBytes: '16KiB', deliveryTimeoutMs: random.float() < 0.5 ? '4s' : '120s' },
  });
  const naru = new Naru(settings, broker, { clock: time, timers: time, random, logger: silentLogger });
  const isCalm = { value: false };
  const faults: readonly (Fault | null)[] = [
    { refuse: 'OVERLOADED' },
    { refuse: 'RECORD_TOO_LARGE' },
    { storeAndRefuse: 'STORAGE_ERROR' },
    'silent',
    'swallow',
  ];
  broker.delayMs = () => random.integer(4);
  broker.fault = () => (isCalm.value || random.float() > 0.15 ? null : (faults[random.integer(faults.length)] ?? null));

  const sent: Sent[] = [];
  for (let value = 0; value < EVENTS; value++) {
    const entry: Sent = { key: `key-${random.integer(KEYS)}`, value, result: null, code: null };
    sent.push(entry);
    const padding = 'x'.repeat(random.integer(300));
    naru.publish('orders', { value, padding }, { key: entry.key }).then(
      (result) => (entry.result = result),
      (error: unknown) => (entry.code = (error as NaruError).code),
    );
    if (random.float() < 0.3) await time.advance(random.integer(30));
    if (random.float() < 0.03) broker.breakStream();
  }
  isCalm.value = true;
  await time.until(() => sent.every(({ result, code }) => result !== null || code !== null));
  return { sent, partitions, time, naru };
}

function valuesOf({ records }: FakePartition): { key: string; value: number }[] {
  const text = new TextDecoder();
  return records.map((record) => ({
    key: text.decode(record.key ?? new Uint8Array()),
    value: (JSON.parse(text.decode(record.value ?? new Uint8Array())) as { value: number }).value,
  }));
}

describe('a publisher among faults', () => {
  it.each(Array.from({ length: RUNS }, (_, i) => i + 1))('keeps its promises (seed %i)', async (seed) => {
    const { sent, partitions, time, naru } = await run(seed);
    const stored = partitions.map(valuesOf);
    const all = stored.flat().map(({ value }) => value);
    expect(all.length, 'an event is stored twice').toBe(new Set(all).size);
    for (const { result, value } of sent) {
      if (result !== null) expect(stored[result.partition]?.[Number(result.offset)]?.value).toBe(value);
    }
    for (const partition of stored) {
      for (const key of new Set(partition.map((event) => event.key))) {
        const values = partition.filter((event) => event.key === key).map(({ value }) => value);
        expect(values, `order of ${key}`).toEqual(values.toSorted((a, b) => a - b));
      }
    }
    expect(sent.some(({ result }) => result !== null)).toBe(true);
    // What else the broker says, the publisher deals with.
    const codes = new Set(sent.flatMap(({ code }) => (code === null ? [] : [code])));
    expect([...codes.difference(new Set(['RECORD_TOO_LARGE', 'DELIVERY_TIMEOUT']))]).toEqual([]);
    const closed = naru.close();
    await time.advance(1_000);
    await closed;
    expect(time.pendingTimers).toBe(0);
  });
});
