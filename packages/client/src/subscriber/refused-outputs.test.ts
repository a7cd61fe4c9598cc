/** Handlers whose outputs the broker will never store. */
import { describe, expect, it } from 'vitest';
import type { PublishBatch } from '@naru/protocol/proto';
import type { Fault } from '../testing/fake-publish-broker.ts';
import { INTERVAL_MS, echo, events, refusal, setUp } from '../testing/exactly-once-world.ts';
import type { Handle } from '../testing/exactly-once-world.ts';

const refuses =
  (text: string) =>
  ({ records }: PublishBatch): Fault | null =>
    Buffer.from(records).includes(text) ? { refuse: 'INVALID_RECORD' } : null;
const held = (key: string, value: string) => ({ key, value });

describe('an event whose output the broker will never store', () => {
  it('fails alone, is handled again, and what was finished of its key comes behind it', async () => {
    const handle: Handle = ({ key, value }, context) =>
      context.publish('out', value === 'a1' && context.attempt === 1 ? 'poison' : `${value}!`, { key });
    const { time, group, log, calls, commits, end } = await setUp(handle);
    log.fault = refuses('poison');
    group.assign(0);
    group.records(0, 0, events('b0', 'a1', 'a2', 'c3', 'a4'));
    await time.advance(20 * INTERVAL_MS);
    expect(log.committed('out').map(String).toSorted()).toEqual(['b0!', 'c3!']);
    expect(group.outcomes).toEqual(['1 HELD #1', '2 HELD #0', '4 HELD #0']);
    expect(group.commits.at(-1), 'the broker has them').toBe('0: 5');
    group.records(0, 5, events('a5'));
    await time.advance(5 * INTERVAL_MS);
    expect(group.outcomes.at(-1), 'the key is blocked').toBe('5 HELD #0');
    for (const [offset, value, attempts] of [
      [1, 'a1', 1],
      [2, 'a2', 0],
      [4, 'a4', 0],
    ] as const) {
      group.giveHeld(0, offset, held('a', value), attempts);
      await time.advance(3 * INTERVAL_MS);
    }
    expect(calls.slice(0, 5).toSorted()).toEqual(['a1#1', 'a2#1', 'a4#1', 'b0#1', 'c3#1']);
    expect(calls.slice(5)).toEqual(['a1#2', 'a2#1', 'a4#1']);
    expect(log.committed('out').filter((value) => String(value).startsWith('a'))).toEqual(['a1!', 'a2!', 'a4!']);
    expect(commits.length).toBeLessThan(12);
    expect(end).toEqual({});
  });

  it('becomes a dead letter when its attempts are used up, and does not stop others', async () => {
    const { time, group, log, calls, end } = await setUp(({ value }, context) => context.publish('out', value));
    log.fault = refuses('a0');
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(5 * INTERVAL_MS);
    for (const attempts of [1, 2]) {
      group.giveHeld(0, 0, held('a', 'a0'), attempts);
      await time.advance(5 * INTERVAL_MS);
    }
    expect(calls).toEqual(['a0#1', 'b1#1', 'a0#2', 'a0#3']);
    expect(group.outcomes).toEqual(['0 HELD #1', '0 HELD #2', '0 DEAD_LETTERED #3 attempts-exhausted']);
    expect(log.committed('out')).toEqual(['b1']);
    expect(end).toEqual({});
  });

  it('ends the run where dead letters are off', async () => {
    const { time, group, log, end } = await setUp(({ value }, context) => context.publish('out', value), {
      deadLetter: { use: false },
      retry: { attempts: 1 },
    });
    log.fault = refuses('a0');
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(60_000);
    expect(end.error).toMatchObject({ code: 'HANDLER_FAILED', offset: 0n });
    expect(group.commits).toEqual([]);
  });

  it('is handled again after what is at work of its key', async () => {
    let release = (): void => {};
    const { time, group, log, calls } = await setUp(async ({ key, value }, context) => {
      if (value === 'a1' && calls.length === 2) await new Promise<void>((resolve) => (release = resolve));
      await context.publish('out', value === 'a0' && context.attempt === 1 ? 'poison' : `${value}!`, { key });
    });
    log.fault = refuses('poison');
    group.assign(0);
    group.records(0, 0, events('a0', 'a1', 'a2'));
    await time.advance(5 * INTERVAL_MS);
    expect(group.outcomes).toEqual(['0 HELD #1']);
    group.giveHeld(0, 0, held('a', 'a0'), 1);
    release();
    await time.advance(5 * INTERVAL_MS);
    expect(group.outcomes.slice(1, 3)).toEqual(['1 HELD #0', '2 HELD #0']);
    expect(calls).toEqual(['a0#1', 'a1#1', 'a0#2']);
    expect(log.committed('out')).toEqual(['a0!']);
  });

  it('fails in its handler once it is known what the broker takes', async () => {
    const { time, group, log, calls } = await setUp(
      ({ key, value }, context) => context.publish('out', value.startsWith('a') ? value.repeat(400) : value, { key }),
      { retry: { attempts: 2 } },
    );
    log.maxBatchBytes = 512;
    log.fault = ({ records }) => (records.length > 512 ? { refuse: 'RECORD_TOO_LARGE' } : null);
    group.assign(0);
    group.records(0, 0, events('b0', 'a1'));
    await time.advance(10 * INTERVAL_MS);
    expect(group.outcomes).toEqual(['1 HELD #1']);
    group.giveHeld(0, 1, held('a', 'a1'), 1);
    const { length } = log.received;
    await time.advance(10 * INTERVAL_MS);
    expect(log.received.length, 'nothing is sent any more').toBe(length);
    expect(group.outcomes).toContain('1 DEAD_LETTERED #2 attempts-exhausted');
    expect(calls).toEqual(['b0#1', 'a1#1', 'a1#2']);
    expect(log.committed('out')).toEqual(['b0']);
  });

  it('fails in its handler once it is known that the topic is gone', async () => {
    const { time, group, log, calls, end } = await setUp(echo, { retry: { attempts: 2 } });
    group.assign(0);
    group.records(0, 0, events('a0'));
    await time.advance(5 * INTERVAL_MS);
    log.topics.delete('out');
    group.records(0, 1, events('a1'));
    await time.advance(10 * INTERVAL_MS);
    const count = log.received.length;
    group.giveHeld(0, 1, held('a', 'a1'), 1);
    await time.advance(10 * INTERVAL_MS);
    expect(log.received.length, 'nothing is sent any more').toBe(count);
    expect(group.outcomes).toEqual(['1 HELD #1', expect.stringContaining('1 DEAD_LETTERED #2')]);
    expect(calls).toEqual(['a0#1', 'a1#1', 'a1#2']);
    expect(end).toEqual({});
  });

  it('ends the run where the broker keeps no events for another attempt', async () => {
    const { time, group, log, faults, end } = await setUp(({ value }, context) => context.publish('out', value));
    log.fault = refuses('a0');
    faults.push(() => refusal(0, 'INCONSISTENT_GROUP_PROTOCOL'));
    group.assign(0);
    group.records(0, 0, events('a0', 'b1'));
    await time.advance(60_000);
    expect(end.error).toMatchObject({ code: 'INCONSISTENT_GROUP_PROTOCOL' });
    expect(log.committed('out'), 'what is finished besides is committed at the end').toEqual(['b1']);
  });

  it('fails with the others of its batch, which are then handled one by one', async () => {
    const batches: string[][] = [];
    const { time, group, log, end } = await setUp(
      () => {},
      { maxBatchEvents: 3 },
      (subscriber) =>
        subscriber.handleBatch<string>('orders', async (some, context) => {
          batches.push(some.map(({ value }) => value));
          for (const { key, value } of some) await context.publish('out', value, { key });
        }),
    );
    log.fault = refuses('b1');
    group.assign(0);
    group.records(0, 0, events('a0', 'b1', 'c2'));
    await time.advance(5 * INTERVAL_MS);
    expect(group.outcomes).toEqual(['0 HELD #1', '1 HELD #1', '2 HELD #1']);
    for (const [offset, value] of ['a0', 'b1', 'c2'].entries()) group.giveHeld(0, offset, held(value, value), 2);
    await time.advance(10 * INTERVAL_MS);
    expect(batches).toEqual([['a0', 'b1', 'c2'], ['a0'], ['b1'], ['c2']]);
    expect(log.committed('out')).toEqual(['a0', 'c2']);
    expect(group.outcomes).toContain('1 DEAD_LETTERED #3 attempts-exhausted');
    expect(end).toEqual({});
  });
});
