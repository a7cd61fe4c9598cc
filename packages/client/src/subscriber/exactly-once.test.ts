/** Exactly-once handling and commits in transactions, against brokers that a test plays. */
import type { Commit } from '@naru/protocol/proto';
import { describe, expect, it } from 'vitest';
import { memoryIdempotency } from '../idempotency/memory-idempotency.ts';
import {
  INTERVAL_MS,
  boom,
  brokers,
  connectionOf,
  echo,
  events,
  refusal,
  setUp,
} from '../testing/exactly-once-world.ts';
import type { CommittedFields } from '../testing/fake-group-broker.ts';
import { VirtualTime } from '../testing/virtual-time.ts';
import type { NaruEvent } from './event.ts';

describe('an exactly-once subscriber', () => {
  it('commits offsets in one transaction with what the handlers of their events published', async () => {
    const { time, group, log, commits } = await setUp(echo);
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'a2'));
    await time.advance(INTERVAL_MS / 2);
    expect(log.received, 'nothing is published before the interval is over').toHaveLength(0);
    await time.advance(INTERVAL_MS);
    expect(log.committed('out')).toEqual(['a0!', 'b1!', 'a2!']);
    expect(commits).toEqual(['0: 3']);
    expect(log.calls).toEqual(['initTransactions', 'commitWith']);
    expect(group.outcomes, 'nothing is said of single events').toEqual([]);
  });

  it('makes no transaction where nothing is published', async () => {
    const { time, group, log } = await setUp(() => {});
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(2 * INTERVAL_MS);
    expect(group.commits).toEqual(['0: 2']);
    expect(log.calls).toEqual([]);
  });

  it('publishes in the order in which events were finished, however long serializers take, and so within a key', async () => {
    const waits: Readonly<Record<string, number>> = { a0: 30, b1: 5, a2: 1, c3: 20 };
    const serde = {
      name: 'slow',
      serialize: (value: unknown) =>
        new Promise<Uint8Array>((resolve) => {
          const done = (): void => resolve(Buffer.from(JSON.stringify(value)));
          time.after(String(value).endsWith('1') ? 7 : 0, done);
        }),
      deserialize: () => undefined,
    };
    const { time, group, log } = await setUp(async ({ value }, context) => {
      await new Promise<void>((resolve) => void time.after(waits[value] ?? 0, resolve));
      void context.publish('out', `${value}-1`, { key: 'same', serde });
      await context.publish('out', `${value}-2`, { key: 'same', serde });
    });
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'a2', 'c3'));
    await time.advance(2 * INTERVAL_MS);
    expect(log.committed('out')).toEqual(['b1-1', 'b1-2', 'c3-1', 'c3-2', 'a0-1', 'a0-2', 'a2-1', 'a2-2']);
  });

  it('stores nothing that a failing handler published, and a dead letter with the offset', async () => {
    const { time, group, log, commits, calls } = await setUp(async (event, context) => {
      await context.publish('out', `${event.value}#${context.attempt}`, { key: event.key });
      if (event.value === 'a0' && context.attempt < 2) boom();
      if (event.value === 'b1') boom();
    });
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'c2'));
    await time.advance(5 * INTERVAL_MS);
    expect(calls.filter((call) => call.startsWith('b1'))).toEqual(['b1#1', 'b1#2', 'b1#3']);
    expect((log.committed('out') as string[]).toSorted()).toEqual(['a0#2', 'c2#1']);
    expect(group.outcomes).toContain('1 DEAD_LETTERED #3 attempts-exhausted');
    expect(commits.at(-1)).toBe('0: 3');
  });

  it('fails an event whose publish fails, also when that is caught or not awaited', async () => {
    const { time, group, log, calls } = await setUp(({ value }, context) => {
      void context.publish(value === 'a0' ? 'no-such-topic' : 'out', value);
    });
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(5 * INTERVAL_MS);
    expect(calls).toEqual(['a0#1', 'b1#1', 'a0#2', 'a0#3']);
    expect(log.committed('out')).toEqual(['b1']);
    expect(group.outcomes).toEqual([expect.stringContaining('0 DEAD_LETTERED #3 attempts-exhausted')]);
  });

  it('sends the same again when a transaction is aborted, without handling again', async () => {
    const { time, group, log, commits, faults, calls } = await setUp(echo);
    const abortable = { code: 'TRANSACTION_ABORTABLE', message: 'begin anew', retriable: false };
    faults.push(() => ({ transactionError: abortable }));
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(5 * INTERVAL_MS);
    expect(calls).toEqual(['a0#1', 'b1#1']);
    expect(commits).toEqual(['0: 2', '0: 2']);
    expect(log.calls).toEqual(['initTransactions', 'abort', 'commitWith']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
  });

  it.each(['committed', 'aborted'] as const)('finds out that a transaction without an answer was %s', async (fate) => {
    const { time, group, log, commits, faults, calls, succeed } = await setUp(echo);
    faults.push((commit) => {
      if (fate === 'committed') succeed(commit);
      group.breakStream();
      return 'silent';
    });
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(5 * INTERVAL_MS);
    expect(calls).toEqual(['a0#1', 'b1#1']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
    expect(commits).toHaveLength(fate === 'committed' ? 1 : 2);
    group.records(0, 2, events('c2'));
    await time.advance(2 * INTERVAL_MS);
    expect(commits.at(-1)).toBe('0: 3');
    expect(log.committed('out')).toEqual(['a0!', 'b1!', 'c2!']);
  });

  it('commits the others when a partition is refused, and drops what was finished of one that is lost', async () => {
    const { time, group, log, commits, faults } = await setUp(echo);
    faults.push(() => refusal(0, 'NOT_ASSIGNED'));
    group.assign(0);
    group.assign(1);
    group.records(0, 0, events('a0'));
    group.records(1, 0, events('b0'));
    await time.advance(INTERVAL_MS + 50);
    expect(commits).toEqual(['0: 1, 1: 1', '1: 1']);
    expect(log.committed('out')).toEqual(['b0!']);
    group.revoke(0, true);
    await time.advance(3 * INTERVAL_MS);
    expect(commits).toHaveLength(2);
    expect(log.committed('out')).toEqual(['b0!']);
  });

  it('leaves out a partition that is lost while its transaction is under way', async () => {
    const { time, group, log, commits } = await setUp(echo);
    log.delayMs = () => 20;
    group.assign(0);
    group.assign(1);
    group.records(0, 0, events('a0'));
    group.records(1, 0, events('b0'));
    await time.until(() => log.streams.length > 0);
    group.revoke(0, true);
    await time.advance(5 * INTERVAL_MS);
    expect(commits).toEqual(['1: 1']);
    expect(log.committed('out')).toEqual(['b0!']);
  });

  it('releases a partition only after the transaction that has its events', async () => {
    const { time, group, log, commits } = await setUp(echo);
    log.delayMs = () => 20;
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(10);
    group.revoke(0);
    await time.advance(15);
    expect(group.told('released')).toHaveLength(0);
    await time.until(() => group.told('released').length > 0);
    expect(commits).toEqual(['0: 1']);
    expect(log.committed('out')).toEqual(['a0!']);
  });

  it('commits what is finished when it is closed', async () => {
    const { time, group, log, commits, subscriber, end } = await setUp(echo);
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(10);
    void subscriber.close();
    await time.advance(50);
    expect(end).toEqual({ isOver: true });
    expect(commits).toEqual(['0: 2']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
    expect(group.told('leave')).toHaveLength(1);
  });

  it('makes smaller transactions when one is too large for the broker', async () => {
    const { time, group, log, commits, faults } = await setUp(echo);
    const tooLarge = { code: 'TRANSACTION_TOO_LARGE', message: 'too large', retriable: false };
    faults.push(() => ({ transactionError: tooLarge }));
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'c2', 'd3'));
    await time.advance(3 * INTERVAL_MS);
    expect(commits).toEqual(['0: 4', '0: 2', '0: 4']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!', 'c2!', 'd3!']);
  });

  it('has the events of one call handled one by one when they are too large for a transaction', async () => {
    const { time, group, faults, commits, end } = await setUp(
      () => {},
      {},
      (subscriber) =>
        subscriber.handleBatch<string>('orders', async (some, context) => {
          for (const { value } of some) await context.publish('out', value);
        }),
    );
    const tooLarge = { code: 'TRANSACTION_TOO_LARGE', message: 'too large', retriable: false };
    faults.push(() => ({ transactionError: tooLarge }));
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'c2', 'd3'));
    await time.advance(10_000);
    expect(commits).toEqual(['0: 4']);
    expect(group.outcomes).toEqual(['0 HELD #1', '1 HELD #1', '2 HELD #1', '3 HELD #1']);
    expect(end).toEqual({});
  });

  it('starts no handlers while too much waits to be committed', async () => {
    const MiB = 1024 * 1024;
    const { time, group, log, calls, subscriber } = await setUp(
      ({ value }, context) => context.publish('out', `${value}${'.'.repeat(MiB)}`),
      { autoCommit: false, concurrency: 1 },
    );
    log.maxBatchBytes = 4 * MiB;
    group.assign(0);
    group.records(0, 0, events(...Array.from({ length: 40 }, (_, i) => `k${i}`)));
    await time.advance(INTERVAL_MS);
    expect(calls.length).toBe(16);
    void subscriber.commit();
    await time.advance(INTERVAL_MS);
    expect(calls.length).toBe(32);
    expect(log.committed('out')).toHaveLength(16);
  });

  it('puts the outputs of a batch into one transaction with all of its events', async () => {
    const batches: string[][] = [];
    const { time, group, log, commits } = await setUp(
      () => {},
      { maxBatchEvents: 2 },
      (subscriber) =>
        subscriber.handleBatch<string>('orders', async (some, context) => {
          batches.push(some.map(({ value }) => value));
          for (const { value } of some) await context.publish('out', `${value}!`);
          if (batches.length === 1) boom();
        }),
    );
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'c2'));
    await time.advance(3 * INTERVAL_MS);
    expect(batches).toEqual([['a0', 'b1'], ['a0', 'b1'], ['c2']]);
    expect(commits.at(-1)).toBe('0: 3');
    expect(log.committed('out')).toEqual(['a0!', 'b1!', 'c2!']);
  });

  it('records an id as handled only with the commit, where it has a store', async () => {
    const clock = new VirtualTime();
    const store = memoryIdempotency({ clock });
    const completed: string[] = [];
    const { time, group, log, calls } = await setUp(echo, {
      idempotency: {
        claim: (...args) => store.claim(...args),
        release: (...args) => store.release(...args),
        complete: (name, id, token) => {
          completed.push(id);
          return store.complete(name, id, token);
        },
      },
    });
    group.assign(0);
    const ids = ['one', 'one'];
    group.records(
      0,
      0,
      events('a0', 'a1').map((event, i) => ({ ...event, id: ids[i] })),
    );
    await time.advance(0);
    expect(completed).toEqual([]);
    await time.advance(20 * INTERVAL_MS);
    expect(completed).toEqual(['one']);
    expect(calls).toEqual(['a0#1']);
    expect(log.committed('out')).toEqual(['a0!']);
  });

  it('refuses parallel topics without a store', async () => {
    const { time, group, end } = await setUp(echo);
    group.assignParallel(0);
    await time.advance(0);
    expect(end.error).toMatchObject({
      code: 'INVALID_CONFIGURATION',
      message: expect.stringContaining('orders is a parallel topic'),
    });
  });
});

describe('publishing from a handler with another guarantee', () => {
  it('is plain, and the event is not finished before it is stored', async () => {
    const { time, group, log } = await setUp((event, context) => void echo(event, context), {
      guarantee: 'at-least-once',
    });
    log.delayMs = () => 2 * INTERVAL_MS;
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(3 * INTERVAL_MS);
    expect(group.commits).toEqual([]);
    await time.advance(5 * INTERVAL_MS);
    expect(group.commits).toEqual(['0: 1']);
    expect(log.topics.get('out')?.partitions[0]?.records).toHaveLength(1);
    expect(log.calls).toEqual([]);
  });

  it('fails the event when it fails', async () => {
    const { time, group, calls } = await setUp(
      async (_event, context) => {
        await context.publish('no topic', 1).catch(() => {});
      },
      { guarantee: 'at-least-once' },
    );
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(10 * INTERVAL_MS);
    expect(calls).toEqual(['a0#1', 'a0#2', 'a0#3']);
  });
});

describe('a batch that is committed with a transaction', () => {
  async function polled(fault?: (commit: Commit) => CommittedFields | 'silent') {
    const time = new VirtualTime();
    const all = brokers(time);
    if (fault !== undefined) all.faults.push(fault);
    const naru = connectionOf(time, all.transport);
    const poller = naru.poll<string>({ group: 'audit', topics: ['orders'] });
    const next = poller.next();
    await time.advance(0);
    all.group.assign(0);
    all.group.records(0, 0, events('a0', 'b1'));
    await time.advance(0);
    const { value: batch } = await next;
    if (batch === undefined) throw new Error('expected a batch');
    return { time, ...all, naru, poller, batch };
  }

  it('is finished with it', async () => {
    const { time, group, log, naru, commits, batch } = await polled();
    const done = naru.transaction(async (tx) => {
      for (const { value } of batch) await tx.publish('out', `${value}!`);
      tx.commit(batch);
    });
    await time.advance(100);
    await done;
    expect(commits).toEqual(['0: 2']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
    expect(group.commits).toEqual(['0: 2']);
  });

  it('is not finished when it is refused, nor by a later commit of another batch', async () => {
    const { time, group, log, naru, commits, batch, poller } = await polled(() => refusal(0, 'NOT_ASSIGNED'));
    batch.retry(batch.events[0] as NaruEvent<string>, 0);
    const done = naru.transaction(async (tx) => {
      await tx.publish('out', 'lost');
      tx.commit(batch);
    });
    const [error] = await Promise.all([done.catch((thrown: unknown) => thrown), time.advance(1_000)]);
    expect(error).toMatchObject({ code: 'NOT_ASSIGNED' });
    expect(commits).toEqual(['0: 2']);
    expect(log.committed('out')).toEqual([]);
    await time.advance(5_000);
    expect(group.commits, 'nothing commits it by the way').toHaveLength(1);
    const next = poller.next();
    await time.advance(0);
    group.records(0, 2, events('a2'));
    await time.advance(0);
    const { value: more } = await next;
    expect(
      more?.events.map(({ value }) => value),
      'its verdict does not count either',
    ).toEqual(['a2']);
  });

  it('is finished when the answer was lost and it was committed', async () => {
    const { time, group, log, naru, commits, batch, poller, succeed } = await polled((commit) => {
      succeed(commit);
      group.breakStream();
      return 'silent';
    });
    batch.deadLetter(batch.events[0] as NaruEvent<string>, 'bad');
    const done = naru.transaction(async (tx) => {
      await tx.publish('out', 'once');
      tx.commit(batch);
    });
    await time.advance(2_000);
    await done;
    expect(log.committed('out')).toEqual(['once']);
    expect(commits).toEqual(['0: 2']);
    const next = poller.next();
    await time.advance(0);
    group.records(0, 2, events('c2'));
    await time.advance(0);
    const { value: more } = await next;
    const committed = more?.commit();
    await time.advance(0);
    await committed;
    expect(group.commits.at(-1)).toBe('0: 3');
    expect(group.outcomes).toEqual(['0 DEAD_LETTERED #1 rejected']);
  });

  it('cannot be another poller’s as well, of no group, or of one that commits by itself', async () => {
    const { time, naru, group, batch } = await polled();
    const other = { commitWith: () => Promise.reject(new Error('never')) };
    expect(() => batch.joinTransaction(other)).toThrow(/one poll/);
    for (const options of [{ topics: ['orders'] }, { topics: ['orders'], group: 'auto', autoCommit: true }]) {
      const poller = naru.poll<string>(options);
      const next = poller.next();
      await time.advance(0);
      group.assign(0);
      group.records(0, 0, events('a0'));
      await time.advance(0);
      const { value } = await next;
      expect(() => value?.joinTransaction(null)).toThrow(/without a group|automatically/);
    }
  });
});
