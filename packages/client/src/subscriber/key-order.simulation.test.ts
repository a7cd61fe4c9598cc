/**
 * Order per key through failing handlers, held and dead-lettered events, redrives and broken connections, against a broker that
 * keeps events as the real one does: for a seed, always the same story.
 */
import { silentLogger } from '@naru/base';
import { describe, expect, it } from 'vitest';
import { Naru } from '../naru.ts';
import { settingsSchema } from '../settings.ts';
import { HeldBroker } from '../testing/held-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';
import type { HandlerContext, NaruEvent } from './event.ts';

interface Story {
  readonly trace: string[];
  readonly violations: string[];
  readonly broker: HeldBroker;
  readonly isDone: boolean;
}

const KEYS = ['a', 'b', 'c', 'd', 'e'];
const EVENTS = 60;

/** @param limit of held events, until everything was published */
async function tell(seed: number, parks: boolean, limit?: number): Promise<Story> {
  const random = seededRandom(seed);
  const time = new VirtualTime();
  const trace: string[] = [];
  const violations: string[] = [];
  const succeeded = new Set<number>();
  const dead = new Set<number>();
  const atWork = new Map<string, number>();
  const last = new Map<string, number>();
  const maxDelayMs = random.integer(30);
  const broker = new HeldBroker({
    time,
    random,
    parks,
    maxDelayMs,
    succeeded: (offset) => succeeded.has(offset),
  });
  if (limit !== undefined) broker.limit = limit;
  const poison = 0.02 + random.float() * 0.1;
  const failing = random.float() * 0.5;
  const isPoison = Array.from({ length: EVENTS }, () => random.float() < poison);

  const settings = settingsSchema.parse({
    subscriber: {
      concurrency: 1 + random.integer(6),
      autoCommitIntervalMs: 50,
      retry: { attempts: 3, maxWaitingEvents: 1 + random.integer(6), backoff: { initial: 5, max: 80 } },
    },
  });
  const runtime = { clock: time, timers: time, random: seededRandom(seed + 1), logger: silentLogger };
  const naru = new Naru(settings, broker, runtime);
  const subscriber = naru.subscriber('billing');
  let isHealed = false;
  subscriber.handle<string>('orders', async (event: NaruEvent<string>, context: HandlerContext) => {
    const offset = Number(event.offset);
    const { key } = event;
    trace.push(`${time.monotonicMs()} ${key}@${offset} #${context.attempt}`);
    if (key !== null) {
      if (atWork.has(key)) violations.push(`${key}@${offset} beside ${key}@${atWork.get(key)}`);
      atWork.set(key, offset);
    }
    await new Promise<void>((resolve) => void time.after(random.integer(20), resolve));
    if (key !== null) atWork.delete(key);
    if (context.signal.aborted) return;
    if (isPoison[offset] === true && !isHealed) throw new Error('poison');
    if (random.float() < failing && !isHealed) throw new Error('not now');
    const before = key === null ? -1 : (last.get(key) ?? -1);
    const isExempt = !parks && broker.held.get(offset)?.redriven === true;
    if (before > offset && !isExempt && !succeeded.has(offset)) violations.push(`${key}@${offset} after ${before}`);
    if (key !== null && !isExempt) last.set(key, Math.max(before, offset));
    succeeded.add(offset);
  });
  const running = subscriber.run();
  for (let i = 0; i < EVENTS; i++) {
    broker.append(random.float() < 0.1 ? null : (KEYS[random.integer(KEYS.length)] as string), `e${i}`);
    await time.advance(random.integer(15));
    if (random.float() < 0.03) broker.breakStream();
    if (random.float() < 0.1)
      for (const [offset, { state }] of broker.held) if (state === 'dead') broker.redrive(offset);
  }
  isHealed = random.float() < 0.7;
  await time.advance(60_000);
  broker.limit = Number.POSITIVE_INFINITY;
  await time.advance(60_000);
  if (isHealed) {
    for (const [offset, { state }] of broker.held) if (state === 'dead') broker.redrive(offset);
    await time.advance(60_000);
  }
  for (const [offset, { state }] of broker.held) if (state === 'dead') dead.add(offset);
  for (let offset = 0; offset < EVENTS; offset++) {
    const isAccounted = succeeded.has(offset) || broker.held.has(offset);
    if (!isAccounted) violations.push(`${offset} is neither handled nor kept`);
  }
  if (isHealed && broker.held.size > 0) violations.push(`${broker.held.size} events are kept for ever`);
  const { isDone } = broker;
  const closing = subscriber.close();
  await time.advance(60_000);
  await Promise.all([closing, running]);
  return { trace, violations: [...violations, ...broker.violations], broker, isDone };
}

describe.each([
  ['continue', false],
  ['park', true],
])('after a dead letter: %s', (_name, parks) => {
  it('keeps keys in order and loses nothing', async () => {
    const seeds = process.env['NARU_TEST_LONG'] === '1' ? 2_000 : 60;
    let held = 0;
    for (let seed = 1; seed <= seeds; seed++) {
      const { violations, broker, isDone } = await tell(seed, parks);
      expect(violations, `seed ${seed}`).toEqual([]);
      const isParked = parks && [...broker.held.values()].some(({ state }) => state === 'dead');
      expect(isDone || isParked, `seed ${seed} comes to an end: ${broker.committed} of ${EVENTS}`).toBe(true);
      held = Math.max(held, broker.maxHeld);
    }
    expect(held, 'events were held at all').toBeGreaterThan(3);
  });

  it('loses nothing while the broker has room for two events only', async () => {
    let refusals = 0;
    for (let seed = 1; seed <= 20; seed++) {
      const { violations, broker } = await tell(seed, parks, 2);
      expect(violations, `seed ${seed}`).toEqual([]);
      refusals += broker.refusals;
    }
    expect(refusals).toBeGreaterThan(0);
  });

  it('tells the same story for the same seed', async () => {
    const [first, second] = [await tell(7, parks), await tell(7, parks)];
    expect(first.trace.length).toBeGreaterThan(EVENTS / 2);
    expect(second.trace).toEqual(first.trace);
  });
});
