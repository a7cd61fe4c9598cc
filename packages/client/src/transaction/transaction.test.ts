import { delay } from '@naru/base';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { PublishOptions } from '../publish-options.ts';
import type { Serde } from '../serde/serde.ts';
import { over, setUp } from '../testing/transaction-world.ts';
import { TransactionFencedError } from './transaction-fenced-error.ts';
import type { Transaction } from './transaction.ts';

const sorted = (values: unknown[]): unknown[] => values.toSorted((a, b) => Number(a) - Number(b));

const unhandled: unknown[] = [];
const onUnhandled = (reason: unknown): void => void unhandled.push(reason);
beforeEach(() => {
  unhandled.length = 0;
  process.on('unhandledRejection', onUnhandled);
});
afterEach(async () => {
  await new Promise(setImmediate);
  process.off('unhandledRejection', onUnhandled);
  if (unhandled.length > 0) throw new Error(`unhandled rejections: ${unhandled.map(String).join(', ')}`);
});

const ascending = (a: unknown, b: unknown): number => Number(a) - Number(b);

/** The producer has its identity, and knows the topics. */
async function warmUp(world: ReturnType<typeof setUp>): Promise<void> {
  const { error } = await over(
    world,
    world.naru.transaction(async (tx) => {
      await tx.publish('bills', 0);
      await tx.publish('orders', 0);
      world.broker.calls.length = 0;
      tx.abort(new RangeError('warm'));
    }),
  );
  expect(error).toBeInstanceOf(RangeError);
}

describe('a transaction', () => {
  it('commits everything that its function published, awaited or not, and resolves with what it returned', async () => {
    const world = setUp();
    const { broker, naru } = world;
    const { value } = await over(
      world,
      naru.transaction(async (tx) => {
        const first = await tx.publish('orders', 1, { key: 'a' });
        expect(broker.committed('orders')).toEqual([]);
        void tx.publish('orders', 2, { key: 'a' });
        void tx.publish('bills', 3);
        return first.topic;
      }),
    );
    expect(value).toBe('orders');
    expect(broker.committed('orders')).toEqual([1, 2]);
    expect(broker.committed('bills')).toEqual([3]);
    expect(broker.calls).toEqual(['initTransactions', 'commit']);
  });

  it('has an epoch of its own, sequences from 0, and no call at its beginning', async () => {
    const world = setUp();
    const { broker, naru } = world;
    for (const value of [1, 2, 3]) {
      await over(
        world,
        naru.transaction((tx) => void tx.publish('bills', value)),
      );
    }
    expect(broker.committed('bills')).toEqual([1, 2, 3]);
    expect(broker.calls).toEqual(['initTransactions', 'commit', 'commitBehind', 'commitBehind']);
    expect(broker.ids.get('shop-0')).toMatchObject({ epoch: 3, status: 'committed' });
  });

  it('costs no call when nothing was published', async () => {
    const world = setUp();
    const { value } = await over(
      world,
      world.naru.transaction(() => 'nothing'),
    );
    expect(value).toBe('nothing');
    expect(world.broker.calls).toEqual(['initTransactions']);
  });

  it('is aborted when its function throws, which is rethrown as it is', async () => {
    const world = setUp();
    const { broker, naru } = world;
    const mine = new RangeError('out of stock');
    const { error } = await over(
      world,
      naru.transaction(async (tx) => {
        await tx.publish('orders', 1);
        void tx.publish('bills', 2);
        throw mine;
      }),
    );
    expect(error).toBe(mine);
    expect(broker.calls).toEqual(['initTransactions', 'abort']);
    const next = await over(
      world,
      naru.transaction((tx) => tx.publish('orders', 3)),
    );
    expect(next.error).toBeUndefined();
    expect(broker.committed('orders')).toEqual([3]);
  });

  it('is aborted when asked to, with the reason', async () => {
    const world = setUp();
    const { naru, broker } = world;
    const text = await over(
      world,
      naru.transaction(async (tx) => {
        await tx.publish('orders', 1);
        tx.abort('no stock');
        expect(tx.signal.aborted).toBe(true);
        await expect(tx.publish('orders', 2)).rejects.toMatchObject({ code: 'ABORTED' });
      }),
    );
    expect(text.error).toMatchObject({ code: 'ABORTED', message: 'the transaction was aborted: no stock' });
    const reason = new TypeError('mine');
    expect(
      (
        await over(
          world,
          naru.transaction((tx) => tx.abort(reason)),
        )
      ).error,
    ).toBe(reason);
    expect(broker.committed('orders')).toEqual([]);
  });

  it('is aborted when an event cannot be published, also when nobody waited for it', async () => {
    const world = setUp();
    const { naru, broker } = world;
    const late: Serde<unknown> = {
      name: 'late',
      serialize: () => Promise.reject(new Error('no schema')),
      deserialize: () => 0,
    };
    for (const [work, code] of [
      [(tx: Transaction) => void tx.publish('nowhere', 1), 'UNKNOWN_TOPIC_OR_PARTITION'],
      [(tx: Transaction) => void tx.publish('no/slash', 1), 'INVALID_TOPIC'],
      [(tx: Transaction) => void tx.publish('orders', 1, { serde: late }), 'SERIALIZATION'],
      [(tx: Transaction) => void tx.publish('orders', 1, { partition: 7 }), 'UNKNOWN_TOPIC_OR_PARTITION'],
      [(tx: Transaction) => tx.publish('orders', 1, { signal: AbortSignal.abort() }).catch(() => {}), 'ABORTED'],
      [(tx: Transaction) => void tx.publish('orders', 1, { until: 'processed' } as PublishOptions), 'INVALID_REQUEST'],
    ] as const) {
      const { error } = await over(
        world,
        naru.transaction(async (tx) => {
          await tx.publish('bills', 1);
          await work(tx);
        }),
      );
      expect(error).toMatchObject({ code });
    }
    expect(broker.committed('bills')).toEqual([]);
    expect(broker.calls.filter((name) => name === 'commit')).toEqual([]);
  });

  it('takes nothing any more when its function is over', async () => {
    const world = setUp();
    const { naru, broker } = world;
    let leaked: Transaction | undefined;
    await over(
      world,
      naru.transaction((tx) => {
        leaked = tx;
      }),
    );
    await expect(leaked?.publish('orders', 1)).rejects.toMatchObject({ code: 'CLOSED' });
    expect(() => leaked?.abort()).toThrow('over');
    expect(() =>
      leaked?.commit({ joinTransaction: () => ({ commitWith: () => Promise.reject(new Error()) }) }),
    ).toThrow('over');
    expect(broker.received).toEqual([]);
  });

  it('is aborted by its caller’s signal at once, whatever its function does', async () => {
    const world = setUp();
    const { naru, broker, time } = world;
    const stop = new AbortController();
    let seen: AbortSignal | undefined;
    const running = naru.transaction(
      async (tx) => {
        seen = tx.signal;
        await tx.publish('orders', 1);
        stop.abort();
        await new Promise(() => {});
      },
      { signal: stop.signal },
    );
    expect((await over(world, running)).error).toMatchObject({ code: 'ABORTED' });
    await time.advance(10);
    expect(seen?.aborted).toBe(true);
    expect(broker.calls).toEqual(['initTransactions', 'abort']);
    const slow = naru.transaction(() => new Promise(() => {}), { timeoutMs: 500 });
    expect((await over(world, slow)).error).toMatchObject({ code: 'REQUEST_TIMED_OUT' });
  });
});

describe('what is lost on the way', () => {
  it('is sent again with the same sequences after a broken connection', async () => {
    const world = setUp();
    const { broker, naru } = world;
    let arrived = 0;
    broker.fault = () => (++arrived <= 2 ? 'silent' : null);
    const running = naru.transaction(async (tx) => {
      void tx.publish('orders', 1, { partition: 0 });
      void tx.publish('orders', 2, { partition: 1 });
      await delay(world.time, 5);
      broker.breakStream();
    });
    expect((await over(world, running)).error).toBeUndefined();
    expect(broker.committed('orders')).toEqual([1, 2]);
    expect(broker.streams.length).toBe(2);
    expect(broker.received.length).toBe(4);
    expect(broker.calls).toEqual(['initTransactions', 'commitBehind']);
  });

  it('is committed behind its batches without a wait for them, and their publishes resolve first', async () => {
    const world = setUp();
    const { broker, naru } = world;
    const told: string[] = [];
    await warmUp(world);
    const running = naru.transaction((tx) => {
      for (const value of [1, 2, 3]) void tx.publish('orders', value).then(() => told.push(String(value)));
    });
    await over(
      world,
      running.then(() => told.push('committed')),
    );
    expect(told.toSorted()).toEqual(['1', '2', '3', 'committed']);
    expect(told.at(-1)).toBe('committed');
    expect(broker.calls).toEqual(['abort', 'commitBehind']);
    expect(broker.committed('orders').toSorted(ascending)).toEqual([1, 2, 3]);
  });

  it.each([
    ['lost', ['abort', 'commitBehind']],
    ['unanswered', ['commitBehind', 'abort']],
  ] as const)('is asked about when the commit behind its batches was %s', async (fault, calls) => {
    const world = setUp();
    const { broker, naru } = world;
    await warmUp(world);
    let isFirst = true;
    broker.callFault = (name) => {
      const isFaulty = name === 'commitBehind' && isFirst;
      if (isFaulty) isFirst = false;
      return isFaulty ? fault : null;
    };
    const runs: number[] = [];
    const { error } = await over(
      world,
      naru.transaction((tx) => {
        runs.push(runs.length);
        void tx.publish('orders', runs.length);
        void tx.publish('bills', runs.length);
      }),
    );
    expect(error).toBeUndefined();
    // Lost, it was aborted by the question, and run again; else it had been committed.
    expect(runs.length).toBe(fault === 'lost' ? 2 : 1);
    expect(broker.committed('orders')).toEqual([runs.length]);
    expect(broker.calls).toEqual(['abort', ...calls]);
  });

  it('is committed by a call when a batch before the commit has to be sent again', async () => {
    const world = setUp();
    const { broker, naru } = world;
    await warmUp(world);
    let isFirst = true;
    broker.fault = () => {
      const isFaulty = isFirst;
      isFirst = false;
      return isFaulty ? { refuse: 'OVERLOADED' } : null;
    };
    const { error } = await over(
      world,
      naru.transaction((tx) => {
        void tx.publish('orders', 1, { partition: 0 });
        void tx.publish('orders', 2, { partition: 1 });
      }),
    );
    expect(error).toBeUndefined();
    expect(broker.committed('orders').toSorted(ascending)).toEqual([1, 2]);
    expect(broker.calls.at(-1)).toBe('commit');
  });

  it.each(['lost', 'unanswered'] as const)('is asked for again: the end was %s', async (fault) => {
    const world = setUp();
    const { broker, naru } = world;
    let failures = 3;
    broker.callFault = (name) => (name === 'commit' && failures-- > 0 ? fault : null);
    const { value } = await over(
      world,
      naru.transaction(async (tx) => (await tx.publish('orders', 1)).offset),
    );
    expect(value).toBe(0n);
    expect(broker.committed('orders')).toEqual([1]);
    await over(
      world,
      naru.transaction((tx) => tx.publish('orders', 2)),
    );
    expect(sorted(broker.committed('orders'))).toEqual([1, 2]);
  });

  it('is said to be unknown when the broker stays away after the end was asked for', async () => {
    const world = setUp({ deliveryTimeoutMs: '10s' });
    const { broker, naru } = world;
    broker.callFault = (name) => (name === 'commit' ? 'unanswered' : null);
    const { error } = await over(
      world,
      naru.transaction((tx) => tx.publish('orders', 1)),
    );
    expect(error).toMatchObject({ code: 'DELIVERY_TIMEOUT' });
    expect(error?.message).toContain('not known whether');
    broker.callFault = () => null;
    const next = await over(
      world,
      naru.transaction((tx) => tx.publish('orders', 2)),
    );
    expect(next.error).toBeUndefined();
    expect(broker.calls.filter((name) => name === 'initTransactions').length).toBe(2);
  });

  it('keeps the function’s own error when the abort is not answered, and the next transaction works', async () => {
    const world = setUp();
    const { broker, naru } = world;
    broker.callFault = (name) => (name === 'abort' ? 'lost' : null);
    const mine = new Error('mine');
    const { error } = await over(
      world,
      naru.transaction(async (tx) => {
        await tx.publish('orders', 1);
        throw mine;
      }),
    );
    expect(error).toBe(mine);
    await over(
      world,
      naru.transaction((tx) => tx.publish('orders', 2)),
    );
    expect(broker.committed('orders')).toEqual([2]);
  });
});

describe('a transaction that the broker has aborted', () => {
  it.each(['while it writes', 'before its end'])('is run again: %s', async (when) => {
    const world = setUp({ transaction: { id: 'shop', timeoutMs: '1s' } });
    const { broker, naru, time } = world;
    let runs = 0;
    const { value, error } = await over(
      world,
      naru.transaction(async (tx) => {
        const run = ++runs;
        await tx.publish('orders', run);
        if (run < 3) await delay(time, 2_000);
        if (when === 'while it writes') void tx.publish('bills', run);
        return run;
      }),
    );
    expect(error).toBeUndefined();
    expect(value).toBe(3);
    expect(broker.committed('orders')).toEqual([3]);
  });

  it('is given up after so many attempts, with the reason', async () => {
    const world = setUp();
    const { broker, naru } = world;
    let runs = 0;
    const { error } = await over(
      world,
      naru.transaction(
        async (tx) => {
          runs += 1;
          await tx.publish('orders', runs);
          broker.abortOpen('shop-0');
        },
        { attempts: 2 },
      ),
    );
    expect(runs).toBe(2);
    expect(error).toMatchObject({ code: 'TRANSACTION_ABORTABLE' });
  });

  it('is not run again for what another run does not change', async () => {
    const world = setUp();
    const { broker, naru } = world;
    broker.callFault = (name) => (name === 'commit' ? { refuse: 'TRANSACTION_TOO_LARGE' } : null);
    let runs = 0;
    const { error } = await over(
      world,
      naru.transaction(async (tx) => {
        runs += 1;
        await tx.publish('orders', 1);
      }),
    );
    expect(error).toMatchObject({ code: 'TRANSACTION_TOO_LARGE' });
    expect(runs).toBe(1);
    expect(broker.calls.at(-1)).toBe('abort');
  });

  it('rejects with a fencing error when another process has the id', async () => {
    const world = setUp();
    const { broker, naru } = world;
    let runs = 0;
    for (const isWriting of [true, false]) {
      const { error } = await over(
        world,
        naru.transaction(async (tx) => {
          runs += 1;
          await tx.publish('orders', 1);
          broker.init('shop-0', 60_000);
          if (isWriting) await tx.publish('bills', 2);
        }),
      );
      expect(error).toBeInstanceOf(TransactionFencedError);
      expect(error).toMatchObject({ code: 'PRODUCER_FENCED', transactionalId: 'shop-0' });
    }
    expect(runs).toBe(2);
    expect(broker.committed('orders')).toEqual([]);
  });
});
