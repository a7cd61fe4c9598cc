import { SeededRandom, SimDisk, ClonedShardClient, VirtualClock } from '@naru/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { LogStore } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import type { ShardClient } from './commands.ts';
import { HeldStore } from './held-store.ts';
import {
  GROUP_LOG,
  keyOf,
  sampleTopic,
  ShardScenario,
  textBatch,
  textsOf,
  type ShardScenarioOptions,
} from './shard-scenario.ts';
import { finished, turns, watched } from './settling.ts';

const SMALL = {
  journalFileBytes: 256 * 1024,
  journalBytes: 2 * 1024 * 1024,
  maxAppendBytes: 64 * 1024,
  mergedFrameBytes: 64 * 1024,
  segmentBytes: 64 * 1024,
};

let clock = new VirtualClock();
const open: ShardScenario[] = [];

afterEach(async () => {
  for (const scenario of open.splice(0)) await settled(scenario.shard.close());
  clock = new VirtualClock();
});

/** Lets the segment writer's delays pass too. */
function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

function fileStore(disk: SimDisk): LogStore {
  return openFileLogStore({ disk, path: '/data', clock, timers: clock, random: new SeededRandom(1), limits: SMALL });
}

async function start(store: LogStore, options: Partial<ShardScenarioOptions> = {}): Promise<ShardScenario> {
  const through = (shard: ShardClient): ShardClient => new ClonedShardClient(shard).client;
  const scenario = await settled(ShardScenario.start({ store, time: clock, through, ...options }));
  open.push(scenario);
  return scenario;
}

async function startHeld(
  options: Partial<ShardScenarioOptions> = {},
): Promise<{ held: HeldStore; scenario: ShardScenario }> {
  const held = new HeldStore(new MemoryLogStore());
  const scenario = await start(held.store, options);
  return { held, scenario };
}

const stores: [string, () => LogStore][] = [
  ['memory', () => new MemoryLogStore()],
  ['file', () => fileStore(new SimDisk(new SeededRandom(1)))],
];

describe.each(stores)('a shard on the %s store', (_name, createStore) => {
  it('gives each partition its own offsets, and serves what was appended in order', async () => {
    const shard = await start(createStore());
    expect(await settled(shard.append(0, ['a', 'b']))).toEqual({ baseOffset: 0, duplicate: false, logStartOffset: 0 });
    const replies = await settled(
      Promise.all([shard.append(0, ['c']), shard.append(1, ['x']), shard.append(0, ['d'])]),
    );
    expect(replies.map(({ baseOffset }) => baseOffset)).toEqual([2, 0, 3]);
    expect(await settled(shard.contents(0))).toEqual(['0:a', '1:b', '2:c', '3:d']);
    expect(await settled(shard.contents(1))).toEqual(['0:x']);
  });

  it('answers a fetch that waits as soon as something comes', async () => {
    const shard = await start(createStore());
    const fetch = watched(shard.fetch({ 0: 0, 1: 0 }, { maxWaitMs: 1_000 }));
    await turns();
    expect(fetch).toEqual({});
    await settled(shard.append(1, ['x']));
    await turns();
    expect(fetch.value?.partitions.map(({ partition, batches }) => [partition, textsOf(batches)])).toEqual([
      [keyOf(1), ['0:x']],
    ]);
    expect(shard.shard.status().waitingFetches).toBe(0);
  });

  it('answers a fetch with nothing at its deadline', async () => {
    const shard = await start(createStore());
    const fetch = watched(shard.fetch({ 0: 0 }, { maxWaitMs: 1_000 }));
    await turns();
    clock.advance(999);
    await turns();
    expect(fetch).toEqual({});
    clock.advance(1);
    await turns();
    expect(fetch.value).toEqual({ partitions: [] });
  });

  it('lets a fetch wait for its least bytes, and answers with less at the deadline', async () => {
    const shard = await start(createStore());
    const minBytes = textBatch(['a']).length + 1;
    const enough = watched(shard.fetch({ 0: 0 }, { maxWaitMs: 1_000, minBytes }));
    const tooFew = watched(shard.fetch({ 0: 0 }, { maxWaitMs: 1_000, minBytes: 10_000 }));
    await settled(shard.append(0, ['a']));
    await turns();
    expect(enough).toEqual({});
    await settled(shard.append(0, ['b']));
    await turns();
    expect(textsOf(enough.value?.partitions[0]?.batches ?? [])).toEqual(['0:a', '1:b']);
    expect(tooFew).toEqual({});
    clock.advance(1_000);
    await turns();
    expect(textsOf(tooFew.value?.partitions[0]?.batches ?? [])).toEqual(['0:a', '1:b']);
  });

  it('answers a fetch at once when it is cancelled, with what there is', async () => {
    const shard = await start(createStore());
    await settled(shard.append(0, ['a']));
    const fetch = watched(shard.fetch({ 0: 0 }, { fetchId: 77, maxWaitMs: 60_000, minBytes: 10_000 }));
    await turns();
    expect(fetch).toEqual({});
    await shard.ask({ type: 'cancel-fetch', fetchId: 77 });
    await turns();
    expect(textsOf(fetch.value?.partitions[0]?.batches ?? [])).toEqual(['0:a']);
  });

  it('gives no more than asked for, but one batch always', async () => {
    const shard = await start(createStore());
    for (const value of ['a'.repeat(100), 'b'.repeat(100), 'c'.repeat(100)]) await settled(shard.append(0, [value]));
    const one = await settled(shard.fetch({ 0: 0 }, { maxBytes: 10 }));
    expect(one.partitions[0]?.batches).toHaveLength(1);
    expect(one.partitions[0]?.nextOffset).toBe(1);
    const two = await settled(shard.fetch({ 0: 0 }, { maxBytes: 400 }));
    expect(two.partitions[0]?.batches).toHaveLength(2);
  });

  it('refuses offsets outside the log and partitions that do not exist, in place', async () => {
    const shard = await start(createStore());
    await settled(shard.append(0, ['a']));
    const reply = await settled(shard.fetch({ 0: 2, 1: 0, 9: 0 }, { maxWaitMs: 60_000 }));
    expect(reply.partitions.map(({ refusal }) => refusal?.code)).toEqual([
      'OFFSET_OUT_OF_RANGE',
      'UNKNOWN_TOPIC_OR_PARTITION',
    ]);
  });

  it('changes nothing when it refuses', async () => {
    const shard = await start(createStore());
    const producer = { producerId: 5, baseSequence: 0 };
    await settled(shard.append(0, ['a'], producer));
    const broken = textBatch(['broken']);
    broken[broken.length - 1] = (broken[broken.length - 1] as number) ^ 1;
    const submit = (batch: Uint8Array, partition = 0) =>
      shard.submit({ type: 'append', partition: keyOf(partition), batch });
    const refusals = await settled(
      Promise.all([
        submit(broken),
        submit(new Uint8Array(10)),
        submit(textBatch(['x']), 7),
        submit(textBatch(['gap'], { producerId: 5, baseSequence: 5 })),
        submit(textBatch(['unknown'], { producerId: 6, baseSequence: 3 })),
        submit(textBatch(['old'], { producerId: 5, producerEpoch: -1, baseSequence: 1 })),
      ]),
    );
    expect(refusals.map((reply) => ('code' in reply ? reply.code : reply))).toEqual([
      'CORRUPT_MESSAGE',
      'CORRUPT_MESSAGE',
      'UNKNOWN_TOPIC_OR_PARTITION',
      'OUT_OF_ORDER_SEQUENCE_NUMBER',
      'UNKNOWN_PRODUCER_ID',
      'INVALID_RECORD',
    ]);
    expect(await settled(shard.append(0, ['b'], { producerId: 5, baseSequence: 1 }))).toEqual({
      baseOffset: 1,
      duplicate: false,
      logStartOffset: 0,
    });
    expect(await settled(shard.contents(0))).toEqual(['0:a', '1:b']);
  });

  it('takes no batch for a topic of its own', async () => {
    const shard = await start(createStore());
    const reply = await settled(
      shard.submit({ type: 'append', partition: keyOf(0, GROUP_LOG), batch: textBatch(['x']) }),
    );
    expect(reply).toMatchObject({ code: 'INVALID_TOPIC' });
    expect(await settled(shard.contents(0, GROUP_LOG))).toEqual([]);
  });

  it('finds offsets by beginning, end, number and time', async () => {
    const shard = await start(createStore());
    for (const [value, timeMs] of [
      ['a', 100],
      ['b', 200],
      ['c', 300],
    ] as const) {
      await settled(shard.ask({ type: 'append', partition: keyOf(0), batch: textBatch([value], undefined, timeMs) }));
    }
    const find = async (position: Parameters<typeof shard.ask>[0] extends never ? never : object) =>
      (await settled(shard.ask({ type: 'find-offset', partition: keyOf(0), position: position as never }))).offset;
    expect(await find({ at: 'beginning' })).toBe(0);
    expect(await find({ at: 'end' })).toBe(3);
    expect(await find({ at: 'offset', offset: 2 })).toBe(2);
    expect(await find({ at: 'offset', offset: 99 })).toBe(3);
    expect(await find({ at: 'time', timestampMs: 150 })).toBe(1);
    expect(await find({ at: 'time', timestampMs: 301 })).toBe(3);
  });
});

describe('a shard whose store is held', () => {
  it('acknowledges, serves and shows nothing before it is durable', async () => {
    const { held, scenario } = await startHeld();
    const { memberEpoch } = await scenario.join('m1');
    const fetch = watched(scenario.fetch({ 0: 0 }, { maxWaitMs: 60_000 }));
    const before = watched(scenario.submit({ type: 'group-offsets', groupId: 'payment', partitions: [keyOf(0)] }));
    await turns();
    expect(before.value).toEqual([{ partition: keyOf(0), isUnstable: false, committed: null }]);
    held.isHeld = true;
    const append = watched(scenario.append(0, ['a']));
    await turns();
    const join = watched(scenario.join('m2'));
    const commit = watched(scenario.commit('m1', memberEpoch, 0, 0));
    const offsets = watched(scenario.ask({ type: 'group-offsets', groupId: 'payment', partitions: [keyOf(0)] }));
    const described = watched(scenario.ask({ type: 'describe-group', groupId: 'payment' }));
    const status = await scenario.ask({ type: 'describe-partitions', partitions: [keyOf(0)] });
    await turns();
    expect(status[0]?.highWatermark).toBe(0);
    expect([append, fetch, join, commit, offsets, described]).toEqual([{}, {}, {}, {}, {}, {}]);
    held.release();
    await turns();
    expect(append.value).toEqual({ baseOffset: 0, duplicate: false, logStartOffset: 0 });
    expect(textsOf(fetch.value?.partitions[0]?.batches ?? [])).toEqual(['0:a']);
    expect([join, commit, offsets, described]).toEqual([{}, {}, {}, {}]);
    while (held.waiting > 0) {
      held.release();
      await turns();
    }
    expect(join.value?.memberEpoch).toBe(memberEpoch + 1);
    expect(commit.value?.results[0]?.refusal).toBeNull();
    expect(offsets.value?.[0]?.committed?.offset).toBe(0);
    expect(described.value?.members).toHaveLength(2);
  });

  it('gathers what comes meanwhile into one write', async () => {
    const { held, scenario } = await startHeld();
    held.isHeld = true;
    const appendsBefore = held.appends;
    const first = watched(scenario.append(0, ['first']));
    await turns();
    const rest = Array.from({ length: 20 }, (_, index) => scenario.append(index % 3, [`r${index}`]));
    await turns();
    expect(held.appends - appendsBefore).toBe(2);
    held.release();
    held.release();
    await Promise.all(rest);
    expect(first.value).toEqual({ baseOffset: 0, duplicate: false, logStartOffset: 0 });
  });

  it('answers a repeated batch with the same offset, only when the first one is durable', async () => {
    const { held, scenario } = await startHeld();
    held.isHeld = true;
    const producer = { producerId: 1, baseSequence: 0 };
    const first = watched(scenario.append(0, ['a', 'b'], producer));
    await turns();
    const second = watched(scenario.append(0, ['a', 'b'], producer));
    await turns();
    expect([first, second]).toEqual([{}, {}]);
    held.release();
    await turns();
    expect(first.value).toEqual({ baseOffset: 0, duplicate: false, logStartOffset: 0 });
    expect(second.value).toEqual({ baseOffset: 0, duplicate: true, logStartOffset: 0 });
    expect(await scenario.contents(0)).toEqual(['0:a', '1:b']);
  });

  it('rejects everything that is pending when an append fails, refuses from then on, and goes on serving what is durable', async () => {
    const { held, scenario } = await startHeld();
    await scenario.append(0, ['durable']);
    held.isHeld = true;
    const pending = [watched(scenario.append(0, ['lost'])), watched(scenario.join('m1'))];
    await turns();
    pending.push(watched(scenario.append(1, ['later'])));
    await turns();
    held.fail();
    await turns();
    expect(pending.map(({ error }) => (error as { code: string } | undefined)?.code)).toEqual([
      'STORAGE_ERROR',
      'STORAGE_ERROR',
      'STORAGE_ERROR',
    ]);
    expect(scenario.failed?.code).toBe('STORAGE_ERROR');
    await expect(scenario.append(0, ['x'])).rejects.toMatchObject({ code: 'STORAGE_ERROR', retriable: true });
    await expect(scenario.join('m2')).rejects.toMatchObject({ code: 'STORAGE_ERROR' });
    expect(await scenario.contents(0)).toEqual(['0:durable']);
    expect(await scenario.contents(1)).toEqual([]);
  });

  it('writes no snapshot of a state that was never durable', async () => {
    const { held, scenario } = await startHeld();
    held.isHeld = true;
    scenario.append(0, ['lost']).catch(() => {});
    await turns();
    held.fail();
    await turns();
    await scenario.shard.close();
    expect(held.snapshot).toBeNull();
  });

  it('lets appends wait while the store is busy, and takes them in order when it is not', async () => {
    const { held, scenario } = await startHeld();
    held.say({ state: 'busy' });
    const waiting = ['a', 'b', 'c'].map((value) => watched(scenario.append(0, [value])));
    await turns();
    expect(waiting).toEqual([{}, {}, {}]);
    held.say(null);
    await turns();
    expect(waiting.map(({ value }) => value?.baseOffset)).toEqual([0, 1, 2]);
  });

  it('refuses at once when the store is full, and goes on when it is not', async () => {
    const { held, scenario } = await startHeld();
    held.say({ state: 'full', reason: 'no space' });
    await expect(scenario.append(0, ['a'])).rejects.toMatchObject({
      code: 'STORAGE_FULL',
      retriable: true,
      message: 'no space',
    });
    held.say(null);
    expect(await scenario.append(0, ['a'])).toEqual({ baseOffset: 0, duplicate: false, logStartOffset: 0 });
  });

  it('waits with appends while too much is being made durable', async () => {
    const bytes = textBatch(['a']).length;
    const { held, scenario } = await startHeld({ limits: { maxCommittingBytes: bytes } });
    held.isHeld = true;
    const first = watched(scenario.append(0, ['a']));
    await turns();
    const second = watched(scenario.append(0, ['b']));
    await turns();
    expect(scenario.shard.status()).toMatchObject({ queuedCommands: 1, committingBytes: bytes });
    held.release();
    await turns();
    held.release();
    await turns();
    expect([first.value?.baseOffset, second.value?.baseOffset]).toEqual([0, 1]);
  });

  it('refuses commands and bytes beyond its queue, but never a change of topics', async () => {
    const { held, scenario } = await startHeld({ limits: { maxQueuedCommands: 3, maxQueuedBytes: 10_000 } });
    held.say({ state: 'busy' });
    const waiting = ['a', 'b', 'c'].map((value) => scenario.append(0, [value]));
    await turns();
    await expect(scenario.append(0, ['d'])).rejects.toMatchObject({ code: 'OVERLOADED', retriable: true });
    await expect(scenario.fetch({ 0: 0 })).rejects.toMatchObject({ code: 'OVERLOADED' });
    const created = scenario.ask({ type: 'topics', changes: [{ key: 'topic/new', topic: sampleTopic('new') }] });
    held.say(null);
    await Promise.all([...waiting, created]);
    const large = scenario.append(0, ['x'.repeat(20_000)]);
    await expect(large).rejects.toMatchObject({ code: 'OVERLOADED' });
    expect(await scenario.contents(0)).toEqual(['0:a', '1:b', '2:c']);
  });

  it('rejects what waits in the queue when it closes, and takes nothing more', async () => {
    const { held, scenario } = await startHeld();
    const fetch = watched(scenario.fetch({ 0: 0 }, { maxWaitMs: 60_000 }));
    await scenario.join('m1');
    const known = { memberEpoch: 1, assigned: [0, 1, 2].map((partition) => keyOf(partition)), revoking: [] };
    const watch = watched(
      scenario.submit({
        type: 'watch-member',
        watchId: 1,
        groupId: 'payment',
        memberId: 'm1',
        known,
        maxWaitMs: 60_000,
      }),
    );
    held.say({ state: 'busy' });
    const append = watched(scenario.append(0, ['a']));
    await turns();
    await scenario.shard.close();
    await turns();
    expect(fetch.value).toEqual({ partitions: [] });
    expect(watch.value).toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(append.error).toMatchObject({ code: 'SHUTTING_DOWN', retriable: true });
    await expect(scenario.append(0, ['b'])).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(clock.pendingTimers, 'nothing keeps the process alive').toBe(0);
  });

  it('stops at a bug: what waits is rejected, and the state is not kept', async () => {
    const { held, scenario } = await startHeld();
    const bug = scenario.shard.submit({ type: 'fetch', fetchId: 1, partitions: null } as never);
    const behind = scenario.shard.submit({ type: 'list-groups' });
    await expect(bug).rejects.toThrow(TypeError);
    await expect(behind).rejects.toMatchObject({ code: 'INTERNAL' });
    await expect(scenario.append(0, ['a'])).rejects.toMatchObject({ code: 'INTERNAL' });
    expect(scenario.failed?.code).toBe('INTERNAL');
    await scenario.shard.close();
    expect(held.snapshot).toBeNull();
  });
});
