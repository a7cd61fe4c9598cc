/** What exactly-once subscribers go on from: fences, outages, questions without an answer, seeks in the middle of a transaction. */
import { describe, expect, it } from 'vitest';
import { memoryIdempotency } from '../idempotency/memory-idempotency.ts';
import { INTERVAL_MS, brokers, connectionOf, echo, events, refusal, setUp } from '../testing/exactly-once-world.ts';
import { VirtualTime } from '../testing/virtual-time.ts';

const abortable = () => ({
  transactionError: { code: 'TRANSACTION_ABORTABLE', message: 'begin anew', retriable: false },
});
const partition = { topic: 'orders', partition: 0 };

describe('an exactly-once subscriber goes on', () => {
  it.each(['generated', 'configured'] as const)('when its transaction timed out, with a %s id', async (kind) => {
    const publisher = { transaction: { timeoutMs: '1s', ...(kind === 'configured' ? { id: 'shop' } : {}) } };
    const { time, group, log, faults, calls, end } = await setUp(echo, {}, undefined, publisher);
    faults.push(() => 'silent');
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(1_500);
    expect([...log.ids.values()].map(({ status }) => status)).toEqual(['aborted']);
    group.breakStream();
    await time.advance(1_000);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
    expect(calls).toEqual(['a0#1', 'b1#1']);
    expect(end).toEqual({});
  });

  it('when the broker was away for longer than a transaction may take', async () => {
    const { time, group, log, calls, end } = await setUp(echo, {}, undefined, {
      deliveryTimeoutMs: '2s',
      transaction: { timeoutMs: '1s' },
    });
    group.assign(0);
    group.records(0, 0, events('a0'));
    log.fault = () => 'silent';
    await time.until(() => log.received.length > 0);
    log.isReachable = false;
    log.breakStream();
    await time.advance(30_000);
    log.isReachable = true;
    log.fault = () => null;
    await time.advance(10_000);
    expect(log.committed('out')).toEqual(['a0!']);
    expect(calls).toEqual(['a0#1']);
    expect(end).toEqual({});
  });

  it('when its first handlers publish while the broker is away, without counting that against their events', async () => {
    const { time, group, log, calls, end } = await setUp(echo);
    log.isReachable = false;
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(30_000);
    log.isReachable = true;
    await time.advance(30_000);
    expect(calls).toEqual(['a0#1', 'b1#1']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
    expect(end).toEqual({});
  });

  it('with an id of its own when operators have fenced it, more than once', async () => {
    const { time, group, log, faults, calls, end } = await setUp(echo);
    faults.push(() => {
      for (const id of log.ids.keys()) for (let i = 0; i < 3; i++) log.abortOpen(id);
      return abortable();
    });
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(5 * INTERVAL_MS);
    expect(log.committed('out')).toEqual(['a0!']);
    expect(calls).toEqual(['a0#1']);
    expect(end).toEqual({});
  });

  it('with an id of its own when it was fenced after a commit whose answer was lost', async () => {
    const { time, group, log, faults, succeed, end } = await setUp(echo);
    faults.push((commit) => {
      succeed(commit);
      for (const id of log.ids.keys()) log.abortOpen(id);
      group.breakStream();
      return 'silent';
    });
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(5 * INTERVAL_MS);
    expect(end).toEqual({});
    group.records(0, 1, events('a1'));
    await time.advance(5 * INTERVAL_MS);
    expect(log.committed('out')).toEqual(['a0!', 'a1!']);
    expect(end).toEqual({});
  });

  it('and sends nothing again before it knows how a transaction has ended, however long that takes', async () => {
    const { time, group, log, faults, succeed, end } = await setUp(echo, {}, undefined, {
      deliveryTimeoutMs: '1s',
      retry: { max: '200ms' },
    });
    let isDeaf = true;
    let asked = 0;
    log.callFault = (name) => {
      if (name === 'describeTransaction') asked += 1;
      return isDeaf && name === 'describeTransaction' ? 'lost' : null;
    };
    faults.push((commit) => {
      succeed(commit);
      for (const id of log.ids.keys()) log.abortOpen(id);
      group.breakStream();
      return 'silent';
    });
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(20_000);
    expect(asked).toBeGreaterThan(5);
    expect(asked, 'with pauses between').toBeLessThan(1_000);
    expect(log.committed('out')).toEqual(['a0!']);
    isDeaf = false;
    await time.advance(20_000);
    group.records(0, 1, events('a1'));
    await time.advance(5 * INTERVAL_MS);
    expect(log.committed('out')).toEqual(['a0!', 'a1!']);
    expect(end).toEqual({});
  });

  it('with pauses when one partition was refused and transactions are aborted after that', async () => {
    const { time, group, log, commits, faults } = await setUp(echo);
    faults.push(() => refusal(0, 'NOT_ASSIGNED'));
    for (let i = 0; i < 500; i++) faults.push(abortable);
    group.assign(0);
    group.assign(1);
    group.records(0, 0, events('a0'));
    group.records(1, 0, events('b0'));
    await time.advance(3_000);
    expect(commits.length).toBeGreaterThan(3);
    expect(commits.length).toBeLessThan(20);
    faults.length = 0;
    await time.advance(3_000);
    expect(log.committed('out')).toContain('b0!');
  });

  it('when it was sought back in the middle of a transaction that is aborted then', async () => {
    const { time, group, log, faults, subscriber, calls, end } = await setUp(echo);
    faults.push(abortable);
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    log.delayMs = () => 30;
    await time.until(() => log.received.length > 0);
    void subscriber.seek(partition, 0n);
    await time.advance(0);
    while (group.polls.length > 0) group.records(0, 2, events('x2')); // not of the new position
    await time.advance(0);
    await time.until(() => log.calls.includes('abort'));
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(10 * INTERVAL_MS);
    expect(end).toEqual({});
    expect(calls).toEqual(['a0#1', 'b1#1', 'a0#1', 'b1#1']);
    expect(log.committed('out')).toEqual(['a0!', 'b1!']);
  });

  it('and remembers ids of events that were committed while it was sought elsewhere', async () => {
    const store = memoryIdempotency({ clock: new VirtualTime() });
    const completed: string[] = [];
    const { time, group, log, subscriber } = await setUp(echo, {
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
    group.records(0, 0, [{ key: 'a', value: 'a0', id: 'one' }]);
    log.delayMs = () => 30;
    await time.until(() => log.received.length > 0);
    void subscriber.seek(partition, 100n);
    await time.advance(10 * INTERVAL_MS);
    expect(log.committed('out')).toEqual(['a0!']);
    expect(completed).toEqual(['one']);
  });
});

describe('a handler that publishes after it has returned', () => {
  it('is refused that, and nothing of it goes with its event or another one', async () => {
    const errors: unknown[] = [];
    const { time, group, log, calls } = await setUp(async ({ value }, context) => {
      time.after(value === 'a0' ? 5 : 250, () => {
        context.publish('out', `${value} late`).catch((error: unknown) => errors.push(error));
      });
      await context.publish('out', value);
    });
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(10 * INTERVAL_MS);
    expect(errors).toEqual([
      expect.objectContaining({ code: 'INVALID_REQUEST' }),
      expect.objectContaining({ code: 'INVALID_REQUEST' }),
    ]);
    expect(calls).toEqual(['a0#1', 'b1#1']);
    expect(log.committed('out')).toEqual(['a0', 'b1']);
  });
});

describe('an exactly-once subscriber with an id that is given to it', () => {
  it('fails when somebody else takes that over', async () => {
    const publisher = { transaction: { id: 'shop' } };
    const { time, group, log, end } = await setUp(echo, {}, undefined, publisher);
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(2 * INTERVAL_MS);
    for (const id of log.ids.keys()) log.init(id, 60_000);
    group.records(0, 1, events('a1'));
    await time.advance(60_000);
    expect(end.error).toMatchObject({ code: 'PRODUCER_FENCED', message: expect.stringContaining('fenced') });
    expect(log.committed('out')).toEqual(['a0!']);
  });
});

describe('a transaction with a batch of a poller that is closed meanwhile', () => {
  it('resolves when it was committed', async () => {
    const time = new VirtualTime();
    const { transport, group, log, faults, succeed } = brokers(time);
    faults.push((commit) => {
      succeed(commit);
      return 'silent';
    });
    const naru = connectionOf(time, transport);
    const poller = naru.poll<string>({ group: 'audit', topics: ['orders'] });
    const next = poller.next();
    await time.advance(0);
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(0);
    const { value: batch } = await next;
    if (batch === undefined) throw new Error('expected a batch');
    const done = naru
      .transaction(async (tx) => {
        await tx.publish('out', 'once');
        tx.commit(batch);
      })
      .then(
        () => 'committed',
        (error: unknown) => error,
      );
    await time.until(() => log.calls.includes('commitWith'));
    void poller.close();
    await time.advance(5_000);
    expect(await done).toBe('committed');
    expect(log.committed('out')).toEqual(['once']);
  });
});
