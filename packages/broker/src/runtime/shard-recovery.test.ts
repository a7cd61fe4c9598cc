/** A shard that is started again on what an earlier one left: with its last words, without them, and with the wrong metadata. */
import { decodeRecords } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  decodeGroupRecord,
  encodeGroupRecord,
  evolveGroups,
  groupRecords,
  type GroupState,
} from '../core/group/index.ts';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import { HeldStore } from './held-store.ts';
import {
  describeSnapshot,
  GROUP_LOG,
  keyOf,
  ORDERS,
  sampleTopic,
  ShardScenario,
  textBatch,
  type ShardScenarioOptions,
} from './shard-scenario.ts';
import { finished } from './settling.ts';

const LIMITS = {
  journalFileBytes: 4 * 1024 * 1024,
  journalBytes: 16 * 1024 * 1024,
  maxAppendBytes: 1024 * 1024,
  mergedFrameBytes: 1024 * 1024,
  checkpointBytes: 6 * 1024 * 1024,
};

let clock: VirtualClock;
let disk: SimDisk;
let running: ShardScenario | null;
let held: HeldStore;

beforeEach(() => {
  clock = new VirtualClock();
  disk = new SimDisk(new SeededRandom(3));
  running = null;
});

afterEach(async () => {
  if (running !== null) await settled(running.shard.close());
});

function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

async function start(options: Partial<ShardScenarioOptions> = {}): Promise<ShardScenario> {
  const random = new SeededRandom(1);
  held = new HeldStore(openFileLogStore({ disk, path: '/data', clock, timers: clock, random, limits: LIMITS }));
  running = await settled(ShardScenario.start({ store: held.store, time: clock, ...options }));
  return running;
}

/** Closes the shard; returns what it knew, as its last snapshot tells it. */
async function stop(): Promise<unknown> {
  await settled((running as ShardScenario).shard.close());
  running = null;
  if (held.snapshot === null) throw new Error('the shard left no snapshot');
  return describeSnapshot(held.snapshot);
}

/** As if the process was killed at its end: the snapshot of closing is seen, but not kept. */
async function kill(): Promise<unknown> {
  held.keepsLastSnapshot = false;
  const state = await stop();
  disk = disk.processKill(new SeededRandom(4));
  return state;
}

/** Producers, offsets with finished ranges, members, several epochs. */
async function work(scenario: ShardScenario, round: number): Promise<void> {
  for (let batch = 0; batch < 7; batch++) {
    const producer = { producerId: 10 + round, baseSequence: batch * 2 };
    await settled(
      scenario.append(batch % 3, [`${round}.${batch}a`, `${round}.${batch}b`], {
        ...producer,
        baseSequence: Math.floor(batch / 3) * 2,
      }),
    );
    await settled(scenario.append(batch % 3, [`${round}.${batch}`]));
  }
  const { memberEpoch, assigned } = await settled(scenario.join(`m${round}`));
  for (const partition of [0, 1, 2]) {
    if (!assigned.includes(keyOf(partition))) continue;
    await settled(
      scenario.commit(`m${round}`, memberEpoch, partition, 1, [
        [2, 3],
        [4, 5],
      ]),
    );
  }
}

/** Records of the groups that the log of groups, as it is now, comes to. */
async function groupsOfLog(scenario: ShardScenario): Promise<string[]> {
  const groups = new Map<string, GroupState>();
  for (const key of [0, 1].map((partition) => keyOf(partition, GROUP_LOG))) {
    const [status] = await scenario.ask({ type: 'describe-partitions', partitions: [key] });
    for (let offset = status?.logStartOffset ?? 0; offset < (status?.highWatermark ?? 0);) {
      const wanted = { partition: key, offset, maxBytes: 1_000_000 };
      const [read] = (await scenario.fetch({}, { partitions: [wanted] })).partitions;
      for (const batch of read?.batches ?? []) {
        for (const record of decodeRecords(batch, nodeCompressionCodecs)) {
          evolveGroups(groups, decodeGroupRecord(record.key as Uint8Array, record.value));
        }
      }
      offset = read?.nextOffset ?? Infinity;
    }
  }
  const encoded = [...groups.values()].flatMap(groupRecords).map(encodeGroupRecord);
  return encoded.map(({ key, value }) => Buffer.concat([key, value as Uint8Array]).toString('hex')).sort();
}

describe('a shard that is started again', () => {
  it.each([
    ['after a clean stop', stop],
    ['after a kill', kill],
  ])('knows %s everything that it knew', async (_name, end) => {
    await work(await start({ leaderEpoch: 3 }), 0);
    const first = await end();
    await work(await start({ leaderEpoch: 4 }), 1);
    const second = await end();
    await start({ leaderEpoch: 5 });
    expect(await stop()).toEqual(second);
    expect(second).not.toEqual(first);
  });

  it('knows it also when a checkpoint lies in the middle', async () => {
    const scenario = await start({ leaderEpoch: 1 });
    await work(scenario, 0);
    const filler = 'x'.repeat(500_000);
    for (let i = 0; i < 14; i++) await settled(scenario.append(2, [filler]));
    await settled(scenario.append(2, ['after']));
    await work(scenario, 1);
    expect(held.snapshot, 'a checkpoint was taken').not.toBeNull();
    const before = await kill();
    const after = await start({ leaderEpoch: 2 });
    const contents = await settled(after.contents(0));
    expect(contents).toContain('0:0.0a');
    expect(await stop()).toEqual(before);
  });

  it('recognises repeated batches, with the offsets that they got at first', async () => {
    const first = await start();
    for (const baseSequence of [0, 1, 2])
      await settled(first.append(0, [`s${baseSequence}`], { producerId: 1, baseSequence }));
    await kill();
    const second = await start();
    for (const baseSequence of [0, 1, 2]) {
      const reply = await settled(second.append(0, [`s${baseSequence}`], { producerId: 1, baseSequence }));
      expect(reply).toEqual({ baseOffset: baseSequence, duplicate: true, logStartOffset: 0 });
    }
    await expect(second.append(0, ['s9'], { producerId: 1, baseSequence: 9 })).rejects.toMatchObject({
      code: 'OUT_OF_ORDER_SEQUENCE_NUMBER',
    });
    expect(await settled(second.append(0, ['s3'], { producerId: 1, baseSequence: 3 }))).toEqual({
      baseOffset: 3,
      duplicate: false,
      logStartOffset: 0,
    });
  });

  it('gives members their whole session again, and then removes those that do not come', async () => {
    const { memberEpoch } = await settled((await start()).join('m1', { sessionTimeoutMs: 10_000 }));
    await kill();
    const scenario = await start();
    await settled(scenario.commit('m1', memberEpoch, 0, 0));
    clock.advance(9_999);
    expect((await settled(scenario.ask({ type: 'describe-group', groupId: 'payment' }))).members).toHaveLength(1);
    clock.advance(1);
    expect((await settled(scenario.ask({ type: 'describe-group', groupId: 'payment' }))).members).toHaveLength(0);
    await expect(scenario.commit('m1', memberEpoch, 0, 0)).rejects.toMatchObject({ code: 'UNKNOWN_MEMBER_ID' });
  });

  it('keeps the log of its groups small, and loses nothing by that', async () => {
    const scenario = await start();
    const { memberEpoch } = await settled(scenario.join('m1'));
    await settled(scenario.append(0, ['a', 'b', 'c']));
    const metadata = 'm'.repeat(4_000);
    const logSize = async (): Promise<number> => {
      const partitions = [0, 1].map((partition) => keyOf(partition, GROUP_LOG));
      const status = await settled(scenario.ask({ type: 'describe-partitions', partitions }));
      return status.reduce((sum, { highWatermark, logStartOffset }) => sum + highWatermark - logStartOffset, 0);
    };
    const commits: Promise<unknown>[] = [];
    for (let i = 0; i < 1_200; i++) {
      const offset = { partition: keyOf(0), offset: i % 3, finished: null, metadata, leaderEpoch: -1, endOffset: null };
      commits.push(
        scenario.group({ type: 'commit', groupId: 'payment', memberId: 'm1', memberEpoch, offsets: [offset] }),
      );
    }
    await settled(Promise.all(commits));
    // 4 MiB are about 1,050 commits: one rewrite, and what came after it.
    expect(await logSize()).toBeLessThan(300);
    await settled(scenario.commit('m1', memberEpoch, 1, 0));
    // What is left of the log alone builds the groups: nothing that was deleted is missed.
    const rebuilt = await settled(groupsOfLog(scenario));
    const before = await kill();
    expect(before).toMatchObject({ groupRecords: rebuilt });
    await start();
    expect(await stop()).toEqual(before);
  });

  it('finishes the deletion of topics that another start began', async () => {
    const gone = sampleTopic('gone', 2);
    const first = await start({ topics: [GROUP_LOG, ORDERS, gone] });
    await settled(first.ask({ type: 'append', partition: keyOf(1, gone), batch: textBatch(['x']) }));
    await kill();
    const second = await start({ topics: [GROUP_LOG, ORDERS, { ...gone, state: 'deleting' }] });
    await expect(second.contents(1, gone)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    await kill();
    // Nobody knows the topic any more, and nothing is left of it.
    await start();
  });

  it('creates the partitions of topics that were created in the metadata only', async () => {
    await start();
    await kill();
    const late = sampleTopic('late', 2);
    const scenario = await start({ topics: [GROUP_LOG, ORDERS, late] });
    expect(await settled(scenario.contents(1, late))).toEqual([]);
  });
});

describe('a shard whose metadata does not know its partitions', () => {
  it('does not start, and changes nothing', async () => {
    await work(await start({ leaderEpoch: 1 }), 0);
    const before = await stop();
    const other = { ...GROUP_LOG, id: sampleTopic('another-group-log').id };
    for (const topics of [[GROUP_LOG], [other], [other, ORDERS]]) {
      await expect(start({ topics })).rejects.toMatchObject({ code: 'DATA_CORRUPT' });
    }
    const scenario = await start({ leaderEpoch: 2 });
    expect(await settled(scenario.contents(0))).toHaveLength(9);
    expect(await stop()).toEqual(before);
  });
});
