/** Transactions in a partition: what readers see and when, what a restart keeps, who may write. */
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import { refuse } from '@naru/protocol';
import { CoreSnapshotSchema } from '@naru/protocol/snapshot-records';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { beforeEach, describe, expect, it, test } from 'vitest';
import { newPartitionState } from '../core/partition/partition-state.ts';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { LogStore } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { decodeCoreSnapshot, encodeCoreSnapshot } from './core-snapshot.ts';
import { HeldStore } from './held-store.ts';
import { P0, PartitionScenario } from './partition-scenario.ts';
import { finished, turns, watched } from './settling.ts';

let clock: VirtualClock;
let held: HeldStore;

beforeEach(() => {
  clock = new VirtualClock();
  held = new HeldStore(new MemoryLogStore());
});

function begin(options: Parameters<typeof PartitionScenario.start>[2] = {}): Promise<PartitionScenario> {
  return PartitionScenario.start(held.store, { clock, timers: clock }, options);
}

/** `a` of nobody, `b` and `d` of producer 1, `c` of nobody, `e` of producer 2: all durable. */
async function written(): Promise<PartitionScenario> {
  const scenario = await begin();
  scenario.write(['a']);
  scenario.write(['b'], 1);
  scenario.write(['c']);
  scenario.write(['d'], 1);
  scenario.write(['e'], 2);
  await scenario.flush();
  return scenario;
}

describe('a reader of committed events', () => {
  it('waits before the first open transaction, and then gets what was committed', async () => {
    const scenario = await written();
    expect(await scenario.texts('committed')).toEqual(['0:a']);
    expect(await scenario.fetched(1, 'committed')).toBeNull();
    scenario.end(1, true);
    await scenario.flush();
    expect(await scenario.texts('committed')).toEqual(['0:a', '1:b', '2:c', '3:d']);
    scenario.end(2, false);
    await scenario.flush();
    expect(await scenario.texts('committed')).toEqual(['0:a', '1:b', '2:c', '3:d']);
    expect(await scenario.texts('all')).toEqual(['0:a', '1:b', '2:c', '3:d', '4:e']);
  });

  it('is moved past what it does not get, also when that is all there is', async () => {
    const scenario = await written();
    scenario.end(1, true);
    scenario.end(2, false);
    await scenario.flush();
    expect(await scenario.fetched(4, 'committed')).toMatchObject({ batches: [], nextOffset: 7, lastStableOffset: 7 });
    expect(await scenario.fetched(7, 'committed')).toBeNull();
  });

  it('gets nothing of a transaction whose marker is not durable', async () => {
    const scenario = await written();
    held.isHeld = true;
    scenario.end(1, true);
    scenario.end(2, false);
    const durable = watched(scenario.flush());
    await turns();
    expect(durable).toEqual({});
    expect(scenario.lastStableOffset).toBe(1);
    expect(await scenario.texts('committed')).toEqual(['0:a']);
    expect(await scenario.fetched(1, 'all', { tellsOutcomes: true })).toMatchObject({
      outcomes: ['open', null, 'open', 'open'],
    });
    held.release();
    await turns();
    expect(scenario.lastStableOffset).toBe(7);
    expect(await scenario.fetched(1, 'all', { tellsOutcomes: true })).toMatchObject({
      outcomes: ['committed', null, 'committed', 'aborted', null, null],
    });
  });

  it('is not needed for markers that are durable to be forgotten', async () => {
    const scenario = await begin();
    for (let producerId = 1; producerId <= 20; producerId++) {
      scenario.write(['a'], producerId);
      scenario.end(producerId, true);
      await scenario.flush();
    }
    expect(scenario.runtime.get(P0)?.state.transactions.unreadableCount).toBe(0);
  });

  it.each(['committed', 'stable'] as const)(
    'or of what is %s that waits before an open transaction wakes when its marker is durable, and not before',
    async (view) => {
      const scenario = await written();
      const reply = watched(scenario.fetch(1, view, { maxWaitMs: 60_000 }));
      scenario.write(['f']);
      await scenario.flush();
      scenario.end(2, true);
      await scenario.flush();
      await turns();
      expect(reply).toEqual({});
      scenario.end(1, true);
      await scenario.flush();
      await turns();
      expect(reply.value?.partitions[0]).toMatchObject({ nextOffset: 8, lastStableOffset: 8 });
    },
  );

  it('wakes when all that it waits for was aborted', async () => {
    const scenario = await begin();
    scenario.write(['a'], 1);
    await scenario.flush();
    const reply = watched(scenario.fetch(0, 'committed', { maxWaitMs: 60_000, minBytes: 1_000 }));
    scenario.end(1, false);
    await scenario.flush();
    await turns();
    expect(reply.value?.partitions).toMatchObject([{ batches: [], nextOffset: 2 }]);
  });

  it('wakes, and is refused, when its place is deleted before the transaction ends', async () => {
    const scenario = await written();
    const reply = watched(scenario.fetch(1, 'committed', { maxWaitMs: 60_000 }));
    await scenario.runtime.deleteBefore(P0, 4);
    await turns();
    expect(reply.value?.partitions).toMatchObject([{ refusal: { code: 'OFFSET_OUT_OF_RANGE' }, logStartOffset: 4 }]);
    expect(scenario.lastStableOffset).toBe(4);
    scenario.end(1, false);
    scenario.end(2, true);
    await scenario.flush();
    expect(await scenario.texts('committed')).toEqual(['4:e']);
  });

  it('is not answered without end where compaction has left nothing before an open transaction', async () => {
    const scenario = await begin();
    for (const value of ['a', 'b']) scenario.write([value]);
    scenario.write(['c'], 1);
    await scenario.flush();
    await held.store.rewrite(P0, 2, () => null);
    expect(await scenario.fetched(0, 'committed')).toMatchObject({ batches: [], nextOffset: 2 });
    expect(await scenario.fetched(2, 'committed')).toBeNull();
    const reply = watched(scenario.fetch(0, 'stable', { maxWaitMs: 60_000 }));
    await turns();
    expect(reply).toEqual({});
    scenario.end(1, true);
    await scenario.flush();
    await turns();
    expect(reply.value?.partitions).toMatchObject([{ nextOffset: 4 }]);
  });
});

describe('a partition tells', () => {
  it('readers of what is stable which transactions were aborted, by their first offset', async () => {
    const scenario = await written();
    scenario.end(2, false);
    scenario.end(1, false);
    await scenario.flush();
    const aborted = [
      { producerId: 1, firstOffset: 1, lastOffset: 6 },
      { producerId: 2, firstOffset: 4, lastOffset: 5 },
    ];
    const fetched = await scenario.fetched(0, 'stable');
    expect(fetched).toMatchObject({ nextOffset: 7, aborted });
    expect(fetched?.batches).toHaveLength(7);
    expect((await scenario.fetched(6, 'stable'))?.aborted).toEqual([aborted[0]]);
    const nothing = await scenario.fetched(7, 'stable', { everyPartition: true });
    expect(nothing).toMatchObject({ batches: [], aborted: [], lastStableOffset: 7 });
  });

  it('where its data ends, before markers that nothing follows', async () => {
    const scenario = await written();
    scenario.end(1, true);
    scenario.end(2, true);
    await scenario.flush();
    expect(scenario.runtime.describe([P0])).toMatchObject([
      { highWatermark: 7, lastStableOffset: 7, dataEndOffset: 5 },
    ]);
  });

  it('who writes to it, and since where in a transaction', async () => {
    const scenario = await written();
    scenario.end(1, true);
    await scenario.flush();
    const [told] = scenario.runtime.producersOf([P0]);
    const lastTimestampMs = clock.nowMs();
    const ended = { producerId: 1, producerEpoch: 1, lastSequence: -1, nextSequence: 0, transactionStartOffset: null };
    const open = { producerId: 2, producerEpoch: 0, lastSequence: 0, nextSequence: 1, transactionStartOffset: 4 };
    expect(told?.producers).toEqual([
      { ...ended, lastTimestampMs },
      { ...open, lastTimestampMs },
    ]);
  });

  it('the end of what is stable, and finds nothing by time beyond it', async () => {
    const scenario = await written();
    const find = async (at: 'end' | 'largest-time' | 'time', isStable: boolean): Promise<unknown> => {
      const position = at === 'time' ? ({ at, timestampMs: 1_001 } as const) : { at };
      return scenario.runtime.findOffset({ type: 'find-offset', partition: P0, position, isStable });
    };
    scenario.write(['f'], 2);
    await scenario.flush();
    expect(await find('end', true)).toMatchObject({ offset: 1 });
    expect(await find('end', false)).toMatchObject({ offset: 6 });
    expect(await find('time', true)).toMatchObject({ offset: 1, timestampMs: null });
    const offset = { at: 'offset', offset: 5 } as const;
    const asked = { type: 'find-offset', partition: P0, position: offset, isStable: true } as const;
    expect(await scenario.runtime.findOffset(asked)).toMatchObject({ offset: 5 });
  });
});

describe('a transactional batch', () => {
  it('is admitted only when nothing else is in its way, and stored only when it is admitted', async () => {
    const asked: [number, number][] = [];
    const scenario = await begin({
      transactions: {
        admit: (partition, { producerId }, flow) => {
          expect(partition).toBe(P0);
          asked.push([producerId, flow]);
          return producerId === 2 ? refuse('INVALID_PRODUCER_EPOCH', 'as the test wants') : null;
        },
        owns: (producerId) => producerId <= 2,
      },
      isIssuedProducerId: (producerId) => producerId < 10,
    });
    expect(scenario.write(['a'], 1)).toMatchObject({ baseOffset: 0 });
    expect(scenario.write(['b'], 2)).toMatchObject({ code: 'INVALID_PRODUCER_EPOCH' });
    expect(scenario.write(['c'], 11)).toMatchObject({ code: 'UNKNOWN_PRODUCER_ID' });
    expect(scenario.write(['d'], 2, null)).toMatchObject({ code: 'INVALID_TXN_STATE' });
    expect(scenario.write(['e'], 3, null)).toMatchObject({ baseOffset: 1 });
    await scenario.flush();
    expect(await scenario.texts('all')).toEqual(['0:a', '1:e']);
    expect(asked).toEqual([
      [1, 2],
      [2, 2],
    ]);
  });

  it('ends nowhere when its partition is gone', async () => {
    const scenario = await written();
    await scenario.runtime.delete(P0);
    expect(scenario.end(1, true)).toBeNull();
  });
});

describe('after a restart', () => {
  let disk: SimDisk;

  beforeEach(() => {
    disk = new SimDisk(new SeededRandom(5));
  });

  function openStore(): LogStore {
    return openFileLogStore({ disk, path: '/data', clock, timers: clock, random: new SeededRandom(1) });
  }

  async function start(): Promise<PartitionScenario> {
    return finished(PartitionScenario.start(openStore(), { clock, timers: clock }), clock);
  }

  async function killed(scenario: PartitionScenario): Promise<PartitionScenario> {
    await finished(scenario.store.close(), clock);
    disk = disk.processKill(new SeededRandom(6));
    return start();
  }

  /** One of each kind before and after a checkpoint, or all of them after it, or before it. */
  it.each([0, 3, 7, 10])('every transaction is what it was, with a checkpoint after step %i', async (checkpointAt) => {
    let scenario = await start();
    const steps: (() => unknown)[] = [
      () => scenario.write(['a'], 1),
      () => scenario.write(['b'], 2),
      () => scenario.end(1, false),
      () => scenario.write(['c']),
      () => scenario.write(['d'], 3),
      () => scenario.end(2, true),
      () => scenario.write(['e'], 1, 1),
      () => scenario.write(['f'], 4),
      () => scenario.end(4, false),
      () => scenario.write(['g'], 2, 1),
    ];
    for (const [index, step] of steps.entries()) {
      if (index === checkpointAt) await finished(scenario.checkpoint(), clock);
      step();
      await finished(scenario.flush(), clock);
    }
    if (checkpointAt === steps.length) await finished(scenario.checkpoint(), clock);
    const before = scenario.runtime.describe([P0]);
    scenario = await killed(scenario);
    expect(scenario.runtime.describe([P0])).toMatchObject([
      { highWatermark: 10, lastStableOffset: 4, dataEndOffset: 10, logStartOffset: before[0]?.logStartOffset },
    ]);
    expect(await finished(scenario.texts('committed'), clock)).toEqual(['1:b', '3:c']);
    for (const producerId of [1, 3]) scenario.end(producerId, true, 2);
    scenario.end(2, false, 2);
    await finished(scenario.flush(), clock);
    scenario = await killed(scenario);
    expect(await finished(scenario.texts('committed'), clock)).toEqual(['1:b', '3:c', '4:d', '6:e']);
  });

  it.each([false, true])(
    'producers are fenced by markers that were replayed (checkpoint first: %s)',
    async (isFirst) => {
      let scenario = await start();
      scenario.write(['a'], 1);
      await finished(scenario.flush(), clock);
      if (isFirst) await finished(scenario.checkpoint(), clock);
      scenario.end(1, true, 7);
      await finished(scenario.flush(), clock);
      scenario = await killed(scenario);
      expect(scenario.write(['b'], 1, 6)).toMatchObject({ code: 'INVALID_PRODUCER_EPOCH' });
      expect(scenario.write(['b'], 1, 7)).toMatchObject({ baseOffset: 2 });
    },
  );

  it('a marker that was never durable has ended nothing', async () => {
    let scenario = await start();
    scenario.write(['a'], 1);
    await finished(scenario.flush(), clock);
    scenario.end(1, true);
    scenario = await killed(scenario);
    expect(scenario.lastStableOffset).toBe(0);
    expect(await finished(scenario.texts('committed'), clock)).toEqual([]);
  });
});

test('a snapshot from before there were transactions ends its data where the partition ends', () => {
  const state = { ...newPartitionState(P0), endOffset: 12, dataEndOffset: 11 };
  const { version, data } = encodeCoreSnapshot([state], []);
  const old = fromBinary(CoreSnapshotSchema, data);
  for (const partition of old.partitions) delete partition.dataEndOffset;
  const [decoded] = decodeCoreSnapshot({ version, data: toBinary(CoreSnapshotSchema, old) }).partitions;
  expect([decoded?.endOffset, decoded?.dataEndOffset, decoded?.transactions.size]).toEqual([12, 12, 0]);
});
