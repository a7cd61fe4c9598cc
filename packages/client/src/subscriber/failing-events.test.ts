import { silentLogger } from '@naru/base';
import { describe, expect, it } from 'vitest';
import { memoryIdempotency } from '../idempotency/memory-idempotency.ts';
import { Naru } from '../naru.ts';
import type { SyncSerde } from '../serde/serde.ts';
import { settingsSchema } from '../settings.ts';
import { FakeGroupBroker } from '../testing/fake-group-broker.ts';
import { VirtualTime, seededRandom } from '../testing/virtual-time.ts';
import type { HandlerContext, NaruEvent } from './event.ts';
import { NonRetriableError } from './handler-error.ts';
import type { Subscriber, SubscriberOptions } from './subscriber.ts';

type Handle = (event: NaruEvent<string>, context: HandlerContext) => unknown;

const backoff = { initialMs: 10, factor: 1, maxMs: 10, jitter: 0 };

/** @param register registers handlers; default: `handle` for every event */
async function setUp(handle: Handle, options: SubscriberOptions = {}, register?: (subscriber: Subscriber) => unknown) {
  const time = new VirtualTime();
  const broker = new FakeGroupBroker(time);
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  const naru = new Naru(settingsSchema.parse({ subscriber: { concurrency: 4 } }), broker, runtime);
  const subscriber = naru.subscriber('billing', { retry: { attempts: 3, backoff }, ...options });
  const calls: string[] = [];
  const called: Handle = (event, context) => {
    calls.push(`${event.value}#${context.attempt}`);
    return handle(event, context);
  };
  if (register === undefined) subscriber.handle<string>('orders', called);
  else register(subscriber);
  const end: { error?: unknown } = {};
  void subscriber.run().catch((error: unknown) => (end.error = error));
  await time.advance(0);
  return { time, broker, subscriber, calls, end };
}

const events = (...names: string[]) => names.map((name) => ({ key: name[0] as string, value: name }));
const boom = (): never => {
  throw new Error('boom');
};

describe('a failing handler', () => {
  it('has its event dead-lettered after the attempts, and the offset committed with it', async () => {
    const { time, broker, calls } = await setUp((event) => (event.value === 'a0' ? boom() : undefined));
    broker.assign(0);
    broker.records(0, 0, events('a0', 'b1', 'a2'));
    await time.advance(15);
    expect(broker.commits, 'nothing of the event is committed while it is tried again').toEqual([]);
    await time.advance(100);
    expect(calls).toEqual(['a0#1', 'b1#1', 'a0#2', 'a0#3', 'a2#1']);
    expect(broker.outcomes).toEqual(['0 DEAD_LETTERED #3 attempts-exhausted']);
    expect(broker.commits[0]).toBe('0: 2');
  });

  it('keeps its key waiting until the dead letter is durable', async () => {
    const { time, broker, calls } = await setUp((event) => (event.value === 'a0' ? boom() : undefined));
    broker.answersCommits = false;
    broker.assign(0);
    broker.records(0, 0, events('a0', 'a1', 'b2'));
    await time.advance(5_000);
    expect(calls).toEqual(['a0#1', 'b2#1', 'a0#2', 'a0#3']);
    const [commit] = broker.told('commit');
    broker.say({ case: 'committed', value: { commitId: commit?.commitId ?? 0 } });
    await time.advance(0);
    expect(calls.at(-1)).toBe('a1#1');
  });

  it('says when to try again, why not to, and what it wants to be remembered', async () => {
    const { time, broker, calls } = await setUp((event, context) => {
      const { attempt } = context;
      if (event.value === 'a0' && attempt === 1) context.retryIn(500);
      if (event.value === 'b1') context.deadLetter('not for us');
      if (event.value === 'c2') throw new NonRetriableError('never');
      context.note(`done in ${attempt}`);
    });
    broker.assign(0);
    broker.records(0, 0, events('a0', 'b1', 'c2'));
    await time.advance(499);
    expect(calls).toEqual(['a0#1', 'b1#1', 'c2#1']);
    await time.advance(2_000);
    expect(calls.at(-1)).toBe('a0#2');
    expect(broker.outcomes).toContain('1 DEAD_LETTERED #1 rejected');
    expect(broker.outcomes).toContain('2 DEAD_LETTERED #1 non-retriable');
    expect(broker.outcomes.at(-1)).toBe('0 PROCESSED #2 done in 2');
    expect(broker.commits.at(-1)).toBe('0: 3');
  });

  it('is heard when it catches what retryIn throws', async () => {
    const { time, broker, calls } = await setUp((_event, context) => {
      if (context.attempt > 1) return;
      try {
        context.retryIn(20);
      } catch {
        // swallowed
      }
    });
    broker.assign(0);
    broker.records(0, 0, events('a0'));
    await time.advance(50);
    expect(calls).toEqual(['a0#1', 'a0#2']);
  });

  it('has its lane given to the broker when too many events wait, and what is read of the key after it', async () => {
    const { time, broker } = await setUp(boom, {
      retry: { attempts: 9, backoff: { ...backoff, initialMs: 1e4, maxMs: 1e4 }, maxWaitingEvents: 2 },
    });
    broker.assign(0);
    broker.records(0, 0, events('a0', 'a1', 'b2', 'a3'));
    await time.advance(10);
    const heldSoFar = (): string[] => broker.outcomes.filter((outcome) => outcome.includes('HELD')).toSorted();
    expect(heldSoFar()).toEqual(['0 HELD #1', '1 HELD #0', '3 HELD #0']);
    broker.records(0, 4, events('b4', 'a5'));
    await time.advance(10);
    expect(heldSoFar()).toEqual(['0 HELD #1', '1 HELD #0', '3 HELD #0', '5 HELD #0']);
    expect(broker.commits.at(-1)).toBe('0: 2 +3-4 +5-6');
  });

  it('gets a whole batch again, then its events one by one, of which only the bad one is dead', async () => {
    const batches: string[] = [];
    const { time, broker } = await setUp(boom, { retry: { attempts: 2, backoff } }, (subscriber) =>
      subscriber.handleBatch<string>('orders', (batch) => {
        batches.push(batch.map(({ value }) => value).join('+'));
        if (batch.some(({ value }) => value === 'b1')) boom();
      }),
    );
    broker.assign(0);
    broker.records(0, 0, events('a0', 'b1', 'a2'));
    await time.advance(2_000);
    expect(batches).toEqual(['a0+b1+a2', 'a0+b1+a2', 'a0', 'b1', 'a2']);
    expect(broker.outcomes.filter((outcome) => outcome.includes('DEAD'))).toEqual([
      '1 DEAD_LETTERED #2 attempts-exhausted',
    ]);
    expect(broker.commits.at(-1)).toBe('0: 3');
  });

  it('never sees what cannot be read', async () => {
    const picky: SyncSerde<unknown> = { name: 'picky', serialize: () => null, deserialize: () => boom() };
    const { time, broker, calls } = await setUp(
      () => {},
      {},
      (subscriber) => subscriber.handle('orders', { serde: picky }, () => void calls.push('called')),
    );
    broker.assign(0);
    broker.records(0, 0, events('a0'));
    await time.advance(50);
    expect(calls).toEqual([]);
    expect(broker.outcomes).toEqual(['0 DEAD_LETTERED #1 deserialization']);
  });
});

describe('events that the broker kept', () => {
  const kept = (broker: FakeGroupBroker, offset: number, value: string, attempts: number): void => {
    broker.giveHeld(0, offset, { key: value[0] as string, value }, attempts);
  };

  it('are handled before what is read of their key, which is held until the key is free', async () => {
    const { time, broker, calls } = await setUp(() => {});
    broker.assign(0, 5, [], ['a']);
    kept(broker, 2, 'a2', 2);
    broker.records(0, 5, events('a5', 'b6'));
    await time.advance(50);
    expect(calls).toEqual(['a2#3', 'b6#1']);
    expect(broker.outcomes.toSorted()).toEqual(['2 PROCESSED #3', '5 HELD #0']);
    broker.unblock(0, 'a');
    broker.records(0, 7, events('a7'));
    await time.advance(0);
    expect(calls.at(-1)).toBe('a7#1');
  });

  it('go back to the broker when they fail again, and are dead when their attempts are used up', async () => {
    const { time, broker, calls } = await setUp(boom);
    broker.assign(0, 5);
    kept(broker, 2, 'a2', 1);
    await time.advance(50);
    kept(broker, 2, 'a2', 2);
    await time.advance(50);
    expect(calls).toEqual(['a2#2', 'a2#3']);
    expect(broker.outcomes).toEqual(['2 HELD #2', '2 DEAD_LETTERED #3 attempts-exhausted']);
  });
});

describe('a subscriber’s settings', () => {
  it('at-most-once: commits before it handles, and tries nothing again', async () => {
    const seen: string[][] = [];
    const { time, broker, calls } = await setUp(
      () => {
        seen.push(broker.commits);
        boom();
      },
      { guarantee: 'at-most-once' },
    );
    broker.assign(0);
    broker.records(0, 0, events('a0'));
    await time.advance(5_000);
    expect(calls).toEqual(['a0#1']);
    expect(seen).toEqual([['0: 1']]);
  });

  it('idempotency: an event id that was handled is left out, also at the same time', async () => {
    const clock = new VirtualTime();
    const { time, broker, calls } = await setUp(
      (event) => new Promise<void>((resolve) => void time.after(event.value === 'b1' ? 0 : 200, resolve)),
      { idempotency: memoryIdempotency({ clock }) },
    );
    broker.assign(0);
    const ids = ['one', 'two', 'one'];
    broker.records(
      0,
      0,
      events('a0', 'b1', 'c2').map((event, i) => ({ ...event, id: ids[i] })),
    );
    await time.advance(2_000);
    expect(calls).toEqual(['a0#1', 'b1#1']);
    expect(broker.commits.at(-1)).toBe('0: 3');
  });

  it.each([
    ['skip', '2 SKIPPED #0 unhandled'],
    ['fail', '2 DEAD_LETTERED #0 unhandled'],
  ] as const)('handlers by type, and unhandled: %s for the others', async (unhandled, outcome) => {
    const seen: string[] = [];
    const { time, broker } = await setUp(
      () => {},
      { unhandled },
      (subscriber) =>
        subscriber
          .handle<string>('orders', { type: 'placed' }, (event) => void seen.push(`placed ${event.value}`))
          .handle<string>('orders', (event) => void seen.push(`sent ${event.value}`), { type: 'sent' }),
    );
    broker.assign(0);
    const types = ['placed', 'sent', 'else'];
    broker.records(
      0,
      0,
      events('a0', 'b1', 'c2').map((event, i) => ({ ...event, type: types[i] })),
    );
    await time.advance(2_000);
    expect(seen).toEqual(['placed a0', 'sent b1']);
    expect(broker.outcomes).toEqual([outcome]);
    expect(broker.commits.at(-1)).toBe('0: 3');
  });
});

describe('records of parallel topics', () => {
  it('are settled by how handling went, several at a time', async () => {
    const { time, broker, calls } = await setUp((event) => (event.value === 'x' ? boom() : undefined));
    broker.assignParallel(0);
    const values = ['a', 'b', 'x', 'c'].map((value) => ({ key: null, value }));
    broker.acquired(0, 10, values);
    await time.advance(50);
    expect(calls.length).toBe(4);
    expect(broker.settlements).toEqual(['0: 10-12 ACCEPT', '0: 12-13 FAIL in 10', '0: 13-14 ACCEPT']);
    broker.acquired(0, 12, [{ key: null, value: 'x' }], 30_000, 3);
    await time.advance(50);
    expect(calls.at(-1)).toBe('x#3');
    expect(broker.settlements.at(-1)).toBe('0: 12-13 REJECT attempts-exhausted');
  });

  it('keep their locks while they are handled, and are returned when nobody begins with them', async () => {
    const open = Promise.withResolvers<void>();
    const { time, broker, subscriber } = await setUp(() => open.promise);
    broker.assignParallel(0);
    broker.acquired(
      0,
      0,
      ['a', 'b', 'c', 'd', 'e'].map((value) => ({ key: null, value })),
      1_000,
    );
    await time.advance(700);
    expect(broker.settlements.filter((one) => one.includes('RETURN'))).toEqual(['0: 4-5 RETURN']);
    expect(broker.settlements.filter((one) => one.includes('RENEW')).length).toBeGreaterThan(0);
    await time.advance(3_000);
    broker.acquired(0, 5, [{ key: null, value: 'f' }], 1_000);
    await time.advance(0);
    const closing = subscriber.close();
    await time.advance(0);
    open.resolve();
    await time.advance(1_000);
    await closing;
    expect(broker.settlements.slice(-2).toSorted()).toEqual(['0: 0-4 ACCEPT', '0: 5-6 RETURN']);
  });

  it('abort their signal when the lock is lost, and their result is dropped', async () => {
    const open = Promise.withResolvers<void>();
    const contexts: HandlerContext[] = [];
    const { time, broker } = await setUp((_event, context) => {
      contexts.push(context);
      return open.promise;
    });
    broker.assignParallel(0);
    broker.acquired(0, 0, [{ key: null, value: 'a' }], 1_000);
    await time.advance(10);
    expect(contexts[0]?.signal.aborted).toBe(false);
    broker.refuseJoin = 'NETWORK';
    broker.breakStream();
    await time.advance(1_200);
    expect(contexts[0]?.signal.reason).toMatchObject({ code: 'RECORD_LOCK_LOST' });
    open.resolve();
    await time.advance(100);
    expect(broker.settlements).toEqual([]);
  });
});
