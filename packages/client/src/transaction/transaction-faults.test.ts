/**
 * Transactions against a broker that delays, refuses, forgets to answer, aborts and breaks connections at random. Whatever happens:
 * the events of a transaction that resolved are committed, all and once; of one that was aborted, none; of one whose outcome is not
 * known, all or none. Events of one key, of transactions one after the other, are in order.
 */
import { silentLogger } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { Naru } from '../naru.ts';
import { settingsSchema } from '../settings.ts';
import type { Fault } from '../testing/fake-publish-broker.ts';
import { FakeTransactionBroker } from '../testing/fake-transaction-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';

const RUNS = process.env['NARU_TEST_LONG'] === '1' ? 1_000 : 40;
const TRANSACTIONS = 24;
const WRITERS = 3;

class Mine extends Error {}

interface Done {
  readonly events: readonly string[];
  readonly isCommitted: boolean;
  readonly error: unknown;
}

function faultyBroker(time: VirtualTime, random: ReturnType<typeof seededRandom>, isCalm: () => boolean) {
  const broker = new FakeTransactionBroker(time);
  broker.createTopic('orders', 3);
  broker.createTopic('bills', 1);
  const faults: readonly Fault[] = [
    { refuse: 'OVERLOADED' },
    { refuse: 'RECORD_TOO_LARGE' },
    { storeAndRefuse: 'STORAGE_ERROR' },
    { refuse: 'TRANSACTION_ABORTABLE' },
    'silent',
    'swallow',
  ];
  const callFaults = ['lost', 'unanswered', { refuse: 'NOT_READY' }] as const;
  broker.delayMs = () => random.integer(4);
  broker.fault = () => (isCalm() || random.float() > 0.08 ? null : (faults[random.integer(faults.length)] ?? null));
  broker.callFault = () =>
    isCalm() || random.float() > 0.2 ? null : (callFaults[random.integer(callFaults.length)] ?? null);
  return broker;
}

async function run(seed: number) {
  const random = seededRandom(seed);
  const time = new VirtualTime();
  const isCalm = { value: false };
  const broker = faultyBroker(time, random, () => isCalm.value);
  const settings = settingsSchema.parse({
    requestTimeoutMs: '5s',
    publisher: {
      batchBytes: 1024,
      deliveryTimeoutMs: random.float() < 0.3 ? '2s' : '120s',
      transaction: { id: 'shop', timeoutMs: random.float() < 0.5 ? '3s' : '60s', maxConcurrent: 2 },
    },
  });
  const naru = new Naru(settings, broker, { clock: time, timers: time, random, logger: silentLogger });
  const done: Done[] = [];
  let next = 0;

  const transact = async (writer: number): Promise<void> => {
    let events: string[] = [];
    const isFailing = random.float() < 0.15;
    const padding = 'x'.repeat(random.integer(300));
    try {
      await naru.transaction(async (tx) => {
        events = [];
        for (let count = random.integer(12); count >= 0; count--) {
          const event = `${writer}:${next++}`;
          events.push(event);
          const sent = tx.publish(count % 4 === 0 ? 'bills' : 'orders', { event, padding }, { key: `key-${writer}` });
          if (random.float() < 0.3) await sent;
        }
        if (isFailing) throw new Mine();
      });
      done.push({ events, isCommitted: true, error: null });
    } catch (error) {
      done.push({ events, isCommitted: false, error });
    }
  };
  const writers = Array.from({ length: WRITERS }, async (_, writer) => {
    for (let i = 0; i < TRANSACTIONS / WRITERS; i++) await transact(writer);
  });
  for (let step = 0; step < 200 && done.length < TRANSACTIONS; step++) {
    await time.advance(random.integer(40));
    if (random.float() < 0.03) broker.breakStream();
    if (random.float() < 0.05 && broker.ids.get('shop-1')?.status === 'ongoing') broker.abortOpen('shop-1');
  }
  isCalm.value = true;
  await time.until(() => done.length === TRANSACTIONS);
  await Promise.all(writers);
  return { done, broker, time, naru };
}

describe('transactions among faults', () => {
  it.each(Array.from({ length: RUNS }, (_, i) => i + 1))('are all or nothing (seed %i)', async (seed) => {
    const { done, broker, time, naru } = await run(seed);
    const all = ['orders', 'bills'].map((topic) => broker.committed(topic) as { event: string }[]);
    const committed = all.flat().map(({ event }) => event);
    const found = new Set(committed);
    expect(committed.length, 'an event is committed twice').toBe(found.size);
    const told = new Set<string>();
    for (const { events, isCommitted, error } of done) {
      const there = events.filter((event) => found.has(event));
      for (const event of events) told.add(event);
      const isUnknown = isNaruError(error) && error.message.includes('not known whether');
      if (isCommitted) expect(there).toEqual(events);
      else if (isUnknown) expect([0, events.length]).toContain(there.length);
      else expect(there).toEqual([]);
    }
    expect([...found.difference(told)], 'committed by a run that was said to be aborted').toEqual([]);
    for (const topic of all) {
      for (let writer = 0; writer < WRITERS; writer++) {
        const numbers = topic
          .filter(({ event }) => event.startsWith(`${writer}:`))
          .map(({ event }) => Number(event.slice(2)));
        expect(numbers).toEqual(numbers.toSorted((a, b) => a - b));
      }
    }
    expect(done.some(({ isCommitted }) => isCommitted)).toBe(true);
    const codes = done.map(({ error }) => (error instanceof Mine || error === null ? '' : (error as Error).message));
    const expected = /^$|RECORD_TOO_LARGE|not acknowledged within|not known whether|aborted by the broker/;
    expect(codes.filter((message) => !expected.test(message))).toEqual([]);
    const closed = naru.close();
    await time.advance(1_000);
    await closed;
    for (const [id] of broker.ids) broker.abortOpen(id);
    expect(time.pendingTimers).toBe(0);
  });
});
