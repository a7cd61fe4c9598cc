import { partitionKey, type TopicId } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { expect, it } from 'vitest';
import type { AppendEntry, LogStore } from '../log/log-store.ts';
import { CommitQueue } from './commit-queue.ts';

const KEY = partitionKey('11111111-1111-4111-8111-111111111111' as TopicId, 0);

function entry(baseOffset: number, bytes = 100): AppendEntry {
  return { partition: KEY, baseOffset, lastOffset: baseOffset, maxTimestampMs: 0, records: new Uint8Array(bytes) };
}

/** A queue whose appends settle by hand, and everything that it did, in order. */
function create(maxAppendBytes = 1_000) {
  const appends: { entries: readonly AppendEntry[]; done: () => void; fail: (error: Error) => void }[] = [];
  const log: string[] = [];
  const store = {
    maxAppendBytes,
    append: (entries: readonly AppendEntry[]) =>
      new Promise<void>((done, fail) => appends.push({ entries, done, fail })),
  } as Pick<LogStore, 'append' | 'maxAppendBytes'> as LogStore;
  const queue = new CommitQueue(
    store,
    (entries) => log.push(`durable ${entries.map(({ baseOffset }) => baseOffset).join(',')}`),
    (error) => log.push(`failed ${error.code}`),
  );
  const after = (cycle: number, name: string): void =>
    queue.after(cycle, (error) => log.push(error === null ? name : `${name}: ${error.code}`));
  return { queue, appends, log, after };
}

async function settled(): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
}

it('holds replies back until their cycle is durable, and applies its effects before them', async () => {
  const { queue, appends, log, after } = create();
  after(queue.stage(entry(0)), 'reply 0');
  after(queue.stage(entry(1)), 'reply 1');
  expect(appends).toHaveLength(0);
  queue.flush();
  after(queue.stage(entry(2)), 'reply 2');
  queue.flush();
  expect(log).toEqual([]);
  appends[0]?.done();
  await settled();
  expect(log).toEqual(['durable 0,1', 'reply 0', 'reply 1']);
  appends[1]?.done();
  await settled();
  expect(log.slice(3)).toEqual(['durable 2', 'reply 2']);
});

it('answers at once what shows durable state only', async () => {
  const { queue, appends, log, after } = create();
  after(0, 'of recovered state');
  const cycle = queue.stage(entry(0));
  queue.flush();
  appends[0]?.done();
  await settled();
  after(cycle, 'later');
  expect(log).toEqual(['of recovered state', 'durable 0', 'later']);
});

it('never gives the store more than it takes at once', () => {
  const { queue, appends } = create(250);
  for (let offset = 0; offset < 5; offset++) queue.stage(entry(offset));
  queue.flush();
  expect(appends.map(({ entries }) => entries.length)).toEqual([2, 2, 1]);
});

it('counts the bytes under way', async () => {
  const { queue, appends } = create();
  queue.stage(entry(0, 300));
  expect(queue.inFlightBytes).toBe(0);
  queue.flush();
  expect(queue.inFlightBytes).toBe(300);
  appends[0]?.done();
  await settled();
  expect(queue.inFlightBytes).toBe(0);
});

it('fails everything that is not durable when an append fails, and everything after it', async () => {
  const { queue, appends, log, after } = create();
  after(queue.stage(entry(0)), 'first');
  queue.flush();
  after(queue.stage(entry(1)), 'second');
  queue.flush();
  after(queue.stage(entry(2)), 'gathering');
  appends[0]?.fail(new NaruError('STORAGE_ERROR', 'no'));
  appends[1]?.done();
  await settled();
  expect(log).toEqual([
    'first: STORAGE_ERROR',
    'second: STORAGE_ERROR',
    'gathering: STORAGE_ERROR',
    'failed STORAGE_ERROR',
  ]);
  after(3, 'late');
  after(0, 'of recovered state');
  expect(log.slice(4)).toEqual(['late: STORAGE_ERROR', 'of recovered state']);
});
