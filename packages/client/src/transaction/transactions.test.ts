import { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { over, setUp } from '../testing/transaction-world.ts';
import type { Committable, CommitTarget } from './commit-target.ts';

function gate(): { promise: Promise<void>; open: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { promise, open: resolve };
}

const sorted = (values: unknown[]): unknown[] => values.toSorted((a, b) => Number(a) - Number(b));

describe('a commit of batches', () => {
  function batchOf(target: CommitTarget): Committable {
    return {
      joinTransaction: (current) => {
        if (current !== null && current !== target) throw new NaruError('INVALID_REQUEST', 'another subscriber');
        return target;
      },
    };
  }

  it('ends the transaction in place of the usual end', async () => {
    const world = setUp();
    const { broker, naru } = world;
    const batch = batchOf({ commitWith: (ref) => Promise.resolve(broker.commitWith(ref)) });
    for (const value of [1, 2]) {
      const { error } = await over(
        world,
        naru.transaction((tx) => {
          void tx.publish('orders', value);
          tx.commit(batch);
          tx.commit(batch);
        }),
      );
      expect(error).toBeUndefined();
    }
    expect(broker.calls).toEqual(['initTransactions', 'commitWith', 'commitWith']);
    expect(sorted(broker.committed('orders'))).toEqual([1, 2]);
  });

  it.each(['committed', 'not committed'])('finds out what a lost answer meant: %s', async (fate) => {
    const world = setUp();
    const { broker, naru } = world;
    let asked = 0;
    const batch = batchOf({
      commitWith: (ref) => {
        const next = ++asked === 1 && fate !== 'committed' ? null : broker.commitWith(ref);
        return asked === 1 || next === null
          ? Promise.reject(new NaruError('NETWORK', 'connection reset'))
          : Promise.resolve(next);
      },
    });
    let runs = 0;
    const { error } = await over(
      world,
      naru.transaction((tx) => {
        runs += 1;
        void tx.publish('orders', runs);
        tx.commit(batch);
      }),
    );
    expect(error).toBeUndefined();
    expect(runs).toBe(fate === 'committed' ? 1 : 2);
    expect(broker.committed('orders')).toEqual([runs]);
  });

  it('aborts the transaction when it is refused', async () => {
    const world = setUp();
    const { broker, naru } = world;
    const refused = new NaruError('STALE_MEMBER_EPOCH', 'the partition is another member’s');
    const batch = batchOf({ commitWith: () => Promise.reject(refused) });
    const { error } = await over(
      world,
      naru.transaction((tx) => {
        void tx.publish('orders', 1);
        tx.commit(batch);
      }),
    );
    expect(error).toBe(refused);
    expect(broker.calls.at(-1)).toBe('abort');
  });

  it('is of one subscriber', async () => {
    const world = setUp();
    const { naru } = world;
    const never = (): Promise<never> => Promise.reject(new Error('not called'));
    const { error } = await over(
      world,
      naru.transaction((tx) => {
        tx.commit(batchOf({ commitWith: never }));
        tx.commit(batchOf({ commitWith: never }));
      }),
    );
    expect(error).toMatchObject({ code: 'INVALID_REQUEST' });
    const plain = await over(
      world,
      naru.transaction((tx) => tx.commit({} as Committable)),
    );
    expect(plain.error).toMatchObject({ code: 'INVALID_REQUEST' });
  });
});

describe('many transactions', () => {
  it('run concurrently, as many as the settings say, and the rest in turn', async () => {
    const world = setUp({ transaction: { id: 'shop', maxConcurrent: 3 }, maxWaiting: 4 });
    const { broker, naru, time } = world;
    const start = gate();
    const running = new Set<number>();
    let most = 0;
    const all = Array.from({ length: 8 }, (_, i) =>
      naru.transaction(async (tx) => {
        running.add(i);
        most = Math.max(most, running.size);
        await start.promise;
        await tx.publish('orders', i);
        running.delete(i);
        return i;
      }),
    );
    const results = Promise.allSettled(all);
    await time.advance(10);
    expect([...running]).toEqual([0, 1, 2]);
    start.open();
    const settled = (await over(world, results)).value ?? [];
    expect(settled.slice(0, 7).map((one) => one.status === 'fulfilled' && one.value)).toEqual([0, 1, 2, 3, 4, 5, 6]);
    expect(settled[7]).toMatchObject({ reason: { code: 'BUFFER_FULL' } });
    expect(most).toBe(3);
    expect([...broker.ids.keys()]).toEqual(['shop-0', 'shop-1', 'shop-2']);
    expect(sorted(broker.committed('orders'))).toEqual([0, 1, 2, 3, 4, 5, 6]);
  });

  it('have ids of their own where the settings name none', async () => {
    const world = setUp({ transaction: {} });
    await over(
      world,
      world.naru.transaction((tx) => tx.publish('orders', 1)),
    );
    expect([...world.broker.ids.keys()]).toEqual([expect.stringMatching(/^naru-client-[0-9a-f]{32}-0$/)]);
  });
});

describe('closing the connection', () => {
  it('waits for open transactions', async () => {
    const world = setUp();
    const { broker, naru, time } = world;
    const go = gate();
    const running = naru.transaction(async (tx) => {
      await go.promise;
      await tx.publish('orders', 1);
    });
    await time.advance(10);
    const closed = naru.close();
    await expect(naru.transaction(() => {})).rejects.toMatchObject({ code: 'CLOSED' });
    go.open();
    expect((await over(world, running)).error).toBeUndefined();
    await over(world, closed);
    expect(broker.committed('orders')).toEqual([1]);
    expect(time.pendingTimers).toBe(0);
  });

  it('aborts them when they take too long, also those that wait', async () => {
    const world = setUp({ transaction: { id: 'shop', maxConcurrent: 1 } });
    const { broker, naru, time } = world;
    const hanging = naru.transaction(async (tx) => {
      await tx.publish('orders', 1);
      await new Promise(() => {});
    });
    const waiting = naru.transaction(() => {});
    const both = Promise.allSettled([hanging, waiting]);
    await time.advance(10);
    await over(world, naru.close({ timeoutMs: 1_000 }));
    expect((await both).map((one) => one.status === 'rejected' && (one.reason as NaruError).code)).toEqual([
      'CLOSED',
      'CLOSED',
    ]);
    expect(broker.calls).toEqual(['initTransactions', 'abort']);
    expect(broker.committed('orders')).toEqual([]);
  });
});
