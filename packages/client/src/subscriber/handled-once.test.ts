import { silentLogger } from '@naru/base';
import type { NaruError } from '@naru/protocol';
import { ClaimState } from '@naru/protocol/proto';
import { describe, expect, it } from 'vitest';
import { memoryIdempotency } from '../idempotency/memory-idempotency.ts';
import { Naru } from '../naru.ts';
import { settingsSchema } from '../settings.ts';
import { FakeGroupBroker } from '../testing/fake-group-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';
import type { Subscriber, SubscriberOptions } from './subscriber.ts';

const backoff = { initialMs: 10, factor: 1, maxMs: 10, jitter: 0 };

function connect() {
  const time = new VirtualTime();
  const broker = new FakeGroupBroker(time);
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  return { time, broker, naru: new Naru(settingsSchema.parse({ subscriber: { concurrency: 4 } }), broker, runtime) };
}

async function setUp(options: SubscriberOptions, register: (subscriber: Subscriber) => unknown) {
  const { time, broker, naru } = connect();
  const subscriber = naru.subscriber('billing', { retry: { attempts: 3, backoff }, ...options });
  register(subscriber);
  const end: { error?: unknown } = {};
  void subscriber.run().catch((error: unknown) => (end.error = error));
  await time.advance(0);
  return { time, broker, subscriber, end };
}

const keyless = (...values: string[]) => values.map((value) => ({ key: null, value }));

describe('handling by ids', () => {
  it('takes two events of one id in a batch for one and its duplicate', async () => {
    const batches: string[][] = [];
    const { time, broker } = await setUp({ idempotency: memoryIdempotency() }, (subscriber) =>
      subscriber.handleBatch<string>('orders', (events) => batches.push(events.map(({ value }) => value))),
    );
    broker.assign(0);
    broker.records(0, 0, [
      { key: 'a', value: 'a0', id: 'same' },
      { key: 'a', value: 'a1', id: 'same' },
      { key: 'b', value: 'b2', id: 'other' },
    ]);
    await time.advance(10_000);
    expect(batches).toEqual([['a0', 'b2']]);
    expect(broker.commits.at(-1)).toBe('0: 3');
  });

  it('keeps an event its own for all its attempts, though they take longer than the lease', async () => {
    const time = new VirtualTime();
    const store = memoryIdempotency({ clock: time, windowMs: 1e9 });
    const broker = new FakeGroupBroker(time);
    const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
    const naru = new Naru(settingsSchema.parse({}), broker, runtime);
    const options = { idempotency: store, retry: { attempts: 9, backoff } };
    const attempts: number[] = [];
    const subscriber = naru.subscriber('billing', options).handle<string>('orders', (_event, context) => {
      attempts.push(context.attempt);
      context.retryIn(50_000);
    });
    void subscriber.run();
    await time.advance(0);
    broker.assign(0);
    broker.records(0, 0, [{ key: 'a', value: 'a0', id: 'x' }]);
    await time.advance(0);
    // Longer than the lease of five minutes: 50 s and again.
    for (let i = 0; i < 4; i++) await time.advance(50_000);
    const other = await store.claim('billing', 'x', 1_000_000);
    expect(other.state, 'the lease is kept up between attempts').toBe('busy');
    await time.advance(145_000);
    expect((await store.claim('billing', 'x', 1_000_000)).state).toBe('busy');
    expect(attempts.length).toBe(7);
  });

  it('is not stopped by an id that is longer than the broker takes, or empty', async () => {
    const handled: string[] = [];
    const { time, broker } = await setUp({ idempotency: { use: true } }, (subscriber) =>
      subscriber.handle<string>('orders', ({ value }) => handled.push(value)),
    );
    broker.assign(0);
    broker.records(0, 0, [
      { key: 'a', value: 'a0', id: 'x'.repeat(300) },
      { key: 'b', value: 'b1', id: '' },
    ]);
    await time.advance(1);
    const claims = broker.told('claim');
    const ids = claims.flatMap((claim) => claim.ids);
    expect(ids.map((id) => id.length > 0 && Buffer.byteLength(id) <= 256)).toEqual([true, true]);
    for (const { claimId, ids: asked } of claims) {
      const results = asked.map(() => ({ state: ClaimState.CLAIMED }));
      broker.say({ case: 'claimed', value: { claimId, results } });
    }
    await time.advance(10);
    expect(handled.toSorted()).toEqual(['a0', 'b1']);
    const outcomes = broker.told('commit').flatMap(({ partitions }) => partitions.flatMap((one) => one.outcomes));
    expect(outcomes.map(({ idempotencyId }) => idempotencyId).toSorted()).toEqual(ids.toSorted());
  });

  it('tells the broker’s store also of what is committed before it is handled', async () => {
    const handled: string[] = [];
    const { time, broker } = await setUp({ idempotency: { use: true }, guarantee: 'at-most-once' }, (subscriber) =>
      subscriber.handle<string>('orders', ({ value }) => handled.push(value)),
    );
    broker.assign(0);
    broker.records(0, 0, [{ key: 'a', value: 'a0', id: 'x' }]);
    await time.advance(1);
    const [claim] = broker.told('claim');
    broker.say({ case: 'claimed', value: { claimId: claim?.claimId ?? 0, results: [{ state: ClaimState.CLAIMED }] } });
    await time.advance(10);
    expect(handled).toEqual(['a0']);
    const outcomes = broker.told('commit').flatMap(({ partitions }) => partitions.flatMap((one) => one.outcomes));
    expect(outcomes.map(({ idempotencyId }) => idempotencyId)).toEqual(['x']);
  });
});

describe('at most once', () => {
  it('leaves out an event whose partition was lost before its commit was sent', async () => {
    const handled: string[] = [];
    const { time, broker } = await setUp({ guarantee: 'at-most-once' }, (subscriber) =>
      subscriber.handle<string>('orders', ({ value }) => handled.push(value)),
    );
    broker.answersCommits = false;
    broker.assign(0);
    broker.records(0, 0, [{ key: 'a', value: 'a0' }]);
    await time.advance(0);
    broker.records(0, 1, [{ key: 'b', value: 'b1' }]);
    await time.advance(0);
    broker.revoke(0, true);
    const [commit] = broker.told('commit');
    broker.say({ case: 'committed', value: { commitId: commit?.commitId ?? 0 } });
    await time.advance(100);
    expect(broker.told('commit').length, 'the second is never committed').toBe(1);
    expect(handled).not.toContain('b1');
  });

  it('leaves out a record of a parallel topic whose settlement is not answered before the subscriber is closed', async () => {
    const handled: string[] = [];
    const { time, broker, subscriber } = await setUp({ guarantee: 'at-most-once', drainTimeoutMs: 1_000 }, (one) =>
      one.handle<string>('orders', ({ value }) => handled.push(value)),
    );
    broker.assignParallel(0);
    broker.answersSettlements = false;
    broker.acquired(0, 0, keyless('a'));
    await time.advance(10);
    broker.breakStream();
    broker.refuseJoin = 'NETWORK';
    const closing = subscriber.close();
    await time.advance(60_000);
    await closing;
    expect(handled).toEqual([]);
  });
});

describe('what handlers say', () => {
  it('ends nothing when it is out of bounds', async () => {
    const calls: number[] = [];
    const { time, broker, end } = await setUp({}, (subscriber) =>
      subscriber.handle<string>('orders', (event, context) => {
        calls.push(context.attempt);
        context.note('n'.repeat(1e6));
        if (event.value === 'never') context.retryIn(Number.POSITIVE_INFINITY);
        if (event.value === 'late') context.retryIn(1e300);
        throw new Error('e'.repeat(1e6));
      }),
    );
    broker.assign(0);
    broker.records(0, 0, [
      { key: 'a', value: 'never' },
      { key: 'b', value: 'late' },
      { key: 'c', value: 'long' },
    ]);
    await time.advance(1_000);
    expect(end).toEqual({});
    const outcomes = broker.told('commit').flatMap(({ partitions }) => partitions.flatMap((one) => one.outcomes));
    expect(outcomes.filter(({ nextAttemptMs }) => nextAttemptMs > BigInt(Number.MAX_SAFE_INTEGER))).toEqual([]);
    expect(Math.max(...outcomes.map(({ error, note }) => error.length + note.length))).toBeLessThan(4_000);
    expect(outcomes.length).toBeGreaterThan(0);
  });

  it('about more time goes before its last word, not in place of it', async () => {
    const { time, broker } = await setUp({}, (subscriber) =>
      subscriber.handle<string>('orders', (_event, context) => context.extend(1_000)),
    );
    broker.assignParallel(0);
    broker.acquired(0, 0, keyless('a'));
    await time.advance(50);
    expect(broker.settlements, 'of two in one message the broker would take the first').toEqual(['0: 0-1 ACCEPT']);
  });
});

describe('a record of a parallel topic that comes again before the end of its lock was noticed', () => {
  it('aborts what handles it, and its memory is given back', async () => {
    const signals: AbortSignal[] = [];
    const { time, broker } = await setUp({ bufferBytes: 1_000_000, pollBytes: 100_000 }, (subscriber) =>
      subscriber.handle<string>('orders', (_event, context) => {
        signals.push(context.signal);
        return signals.length === 1 ? new Promise(() => {}) : undefined;
      }),
    );
    broker.assignParallel(0);
    broker.acquired(0, 0, keyless('x'.repeat(950_000)));
    await time.advance(10);
    broker.acquired(0, 0, keyless('x'.repeat(950_000)), 30_000, 2);
    await time.advance(10);
    expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
    expect(broker.polls.length, 'there is room again').toBeGreaterThan(0);
  });
});

describe('the pull form', () => {
  it('answers every call of next, however many there are at a time', async () => {
    const { time, broker, naru } = connect();
    const poller = naru.poll({ group: 'billing', topics: ['orders'] });
    const calls = [poller.next(), poller.next()];
    await time.advance(0);
    broker.assign(0);
    await time.advance(0);
    const closing = poller.close();
    await time.advance(10);
    expect((await Promise.all(calls)).map(({ done }) => done)).toEqual([true, true]);
    await closing;
  });

  it('says when what it commits of a parallel topic is not its own any more', async () => {
    const { time, broker, naru } = connect();
    const poller = naru.poll<string>({ group: 'billing', topics: ['orders'] });
    const next = poller.next();
    await time.advance(0);
    broker.assignParallel(0);
    broker.acquired(0, 0, keyless('a'));
    await time.advance(10);
    const batch = (await next).value;
    broker.revoke(0, true);
    await time.advance(10);
    const committed = batch?.commit().then(
      () => 'durable',
      (error: unknown) => (error as NaruError).code,
    );
    await time.advance(10);
    expect(await committed).toBe('RECORD_LOCK_LOST');
    const closing = poller.close();
    await time.advance(10);
    await closing;
  });
});
