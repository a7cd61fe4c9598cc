/** What topics do not keep goes, and nothing else: by age, by size, and when groups have finished it. */
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { LogStore } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { TRANSACTION_LOG_TOPIC } from './internal-topics.ts';
import { GROUP_LOG, keyOf, ORDERS, sampleTopic, ShardScenario, textBatch } from './shard-scenario.ts';
import { finished, turns } from './settling.ts';
import { TransactionWriter } from './transaction-writer.ts';

const TRANSACTION_LOG = sampleTopic(TRANSACTION_LOG_TOPIC, 8);
const HOUR = 3_600_000;
const INTERVAL = 30_000;

const SMALL = {
  journalFileBytes: 256 * 1024,
  journalBytes: 2 * 1024 * 1024,
  maxAppendBytes: 64 * 1024,
  mergedFrameBytes: 64 * 1024,
  segmentBytes: 2_000,
  indexIntervalBytes: 200,
};

let clock = new VirtualClock();
let disk = new SimDisk(new SeededRandom(1));
const open: ShardScenario[] = [];

afterEach(async () => {
  for (const scenario of open.splice(0)) await finished(scenario.shard.close(), clock);
  clock = new VirtualClock();
  disk = new SimDisk(new SeededRandom(1));
});

function fileStore(): LogStore {
  return openFileLogStore({ disk, path: '/data', clock, timers: clock, random: new SeededRandom(1), limits: SMALL });
}

async function start(config: Record<string, string>, store: LogStore): Promise<ShardScenario> {
  const topics = [GROUP_LOG, TRANSACTION_LOG, { ...ORDERS, config }];
  const scenario = await finished(
    ShardScenario.start({ store, time: clock, topics, retentionIntervalMs: INTERVAL }),
    clock,
  );
  open.push(scenario);
  return scenario;
}

/** Lets time pass in steps in which retention looks. */
async function pass(ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= INTERVAL) {
    clock.advance(Math.min(left, INTERVAL));
    await turns(20);
  }
}

async function range(scenario: ShardScenario, partition = 0): Promise<[start: number, end: number]> {
  const [status] = await scenario.ask({ type: 'describe-partitions', partitions: [keyOf(partition)] });
  return [status?.logStartOffset ?? -1, status?.highWatermark ?? -1];
}

const stores: [string, () => LogStore][] = [
  ['memory', () => new MemoryLogStore()],
  ['file', fileStore],
];

it('forgets what was aborted when compaction has removed it', async () => {
  const scenario = await start({ 'cleanup.policy': 'compact' }, new MemoryLogStore());
  const tx = await finished(TransactionWriter.init(scenario, 'tx', 7_000), clock);
  for (const commit of [false, true]) {
    await finished(tx.write(keyOf(0), ['a']), clock);
    await finished(tx.end(commit), clock);
  }
  const aborted = async () =>
    (await finished(scenario.fetch({ 0: 0 }, { view: 'stable' }), clock)).partitions[0]?.aborted;
  expect(await aborted()).toHaveLength(1);
  await pass(2 * INTERVAL);
  expect(await aborted()).toEqual([]);
});

describe.each(stores)('retention on the %s engine', (_name, newStore) => {
  const append = (scenario: ShardScenario, ...values: string[]) => finished(scenario.append(0, values), clock);

  it('deletes by age what was stored long enough ago, whatever its timestamp says', async () => {
    const scenario = await start({ 'retention.ms': String(HOUR) }, newStore());
    await append(scenario, 'a', 'b');
    await pass(HOUR / 2);
    await append(scenario, 'c');
    expect(await range(scenario)).toEqual([0, 3]);
    await pass(HOUR / 2 + 3 * INTERVAL);
    expect(await range(scenario)).toEqual([2, 3]);
    await pass(HOUR / 2);
    expect(await range(scenario)).toEqual([3, 3]);
    await append(scenario, 'd');
    expect((await scenario.fetch({ 0: 3 })).partitions[0]?.batches.length).toBe(1);
  });

  it('tells a reader that is behind, who can go on at the new start', async () => {
    const scenario = await start({ 'retention.ms': String(HOUR) }, newStore());
    await append(scenario, 'a');
    await pass(HOUR + 3 * INTERVAL);
    await append(scenario, 'b');
    const { partitions } = await scenario.fetch({ 0: 0 });
    expect(partitions[0]).toMatchObject({ logStartOffset: 1, refusal: { code: 'OFFSET_OUT_OF_RANGE' } });
    const position = { at: 'beginning' } as const;
    expect(await scenario.ask({ type: 'find-offset', partition: keyOf(0), position })).toMatchObject({ offset: 1 });
  });

  it('deletes by size, oldest first, and keeps about what it may', async () => {
    const scenario = await start({ 'retention.bytes': '4000' }, newStore());
    for (let i = 0; i < 100; i++) await append(scenario, 'x'.repeat(100));
    await pass(2 * INTERVAL);
    const [from, end] = await range(scenario);
    expect(end).toBe(100);
    const keptBytes = (end - from) * textBatch(['x'.repeat(100)]).length;
    expect(keptBytes).toBeLessThanOrEqual(4_000);
    expect(keptBytes).toBeGreaterThan(2_500);
  });

  it('keeps everything when nothing limits it', async () => {
    const scenario = await start({ 'retention.ms': '-1' }, newStore());
    await append(scenario, 'a');
    await pass(HOUR);
    clock.advance(400 * 24 * HOUR);
    await pass(3 * INTERVAL);
    expect(await range(scenario)).toEqual([0, 1]);
  });

  it('deletes what every declared group has finished, with or without members, after the floor', async () => {
    const config = {
      'cleanup.policy': 'acknowledged',
      'acknowledged.groups': 'payment,audit',
      'acknowledged.floor.ms': String(10 * 60_000),
    };
    const scenario = await start(config, newStore());
    await append(scenario, 'a', 'b', 'c');
    const commit = async (groupId: string, offset: number) => {
      const at = { partition: keyOf(0), offset, finished: [], metadata: '', leaderEpoch: -1, endOffset: null };
      const command = { type: 'commit', groupId, memberId: '', memberEpoch: -1, offsets: [at] } as const;
      await finished(scenario.group(command), clock);
    };
    await commit('payment', 2);
    await pass(HOUR);
    expect(await range(scenario)).toEqual([0, 3]);
    await commit('audit', 3);
    await pass(3 * INTERVAL);
    expect(await range(scenario)).toEqual([2, 3]);
    await append(scenario, 'd');
    await commit('payment', 4);
    await commit('audit', 4);
    await pass(3 * INTERVAL);
    expect(await range(scenario)).toEqual([3, 4]);
    await pass(10 * 60_000 + INTERVAL);
    expect(await range(scenario)).toEqual([4, 4]);
  });

  it('deletes what nobody has finished once the ceiling is reached', async () => {
    const config = {
      'cleanup.policy': 'acknowledged',
      'acknowledged.groups': 'payment',
      'acknowledged.ceiling.ms': String(HOUR),
    };
    const scenario = await start(config, newStore());
    await append(scenario, 'a');
    await pass(HOUR - INTERVAL);
    expect(await range(scenario)).toEqual([0, 1]);
    await pass(4 * INTERVAL);
    expect(await range(scenario)).toEqual([1, 1]);
  });

  it('deletes what was aborted with what groups have finished around it, and nothing that is not decided', async () => {
    const config = { 'cleanup.policy': 'acknowledged', 'acknowledged.groups': 'payment' };
    const scenario = await start(config, newStore());
    const commit = async (offset: number) => {
      const at = { partition: keyOf(0), offset, finished: [], metadata: '', leaderEpoch: -1, endOffset: null };
      const command = { type: 'commit', groupId: 'payment', memberId: '', memberEpoch: -1, offsets: [at] } as const;
      await finished(scenario.group(command), clock);
    };
    const tx = await finished(TransactionWriter.init(scenario, 'tx', 7_000), clock);
    await append(scenario, 'a');
    await finished(tx.write(keyOf(0), ['b', 'c']), clock);
    await append(scenario, 'd');
    await commit(4);
    await pass(INTERVAL);
    expect(await range(scenario)).toEqual([1, 4]);
    await finished(tx.end(false), clock);
    await commit(1);
    await pass(INTERVAL);
    expect(await range(scenario)).toEqual([1, 5]);
    await commit(4);
    await pass(INTERVAL);
    expect(await range(scenario)).toEqual([4, 5]);
  });

  it('may delete below an open transaction’s first event: what is stable then begins at the new start', async () => {
    const scenario = await start({}, newStore());
    const tx = await finished(TransactionWriter.init(scenario, 'tx', 7_000), clock);
    await finished(tx.write(keyOf(0), ['a', 'b', 'c']), clock);
    await append(scenario, 'd');
    await finished(scenario.ask({ type: 'delete-records', partition: keyOf(0), before: 3 }), clock);
    const status = async () => (await scenario.ask({ type: 'describe-partitions', partitions: [keyOf(0)] }))[0];
    expect(await status()).toMatchObject({ logStartOffset: 3, lastStableOffset: 3, highWatermark: 4 });
    expect(await finished(scenario.fetch({ 0: 3 }, { view: 'committed' }), clock)).toEqual({ partitions: [] });
    await finished(tx.end(false), clock);
    expect(await status()).toMatchObject({ logStartOffset: 3, lastStableOffset: 5, highWatermark: 5 });
    const { partitions } = await finished(scenario.fetch({ 0: 3 }, { view: 'committed' }), clock);
    expect(partitions[0]).toMatchObject({ nextOffset: 5, refusal: null });
    expect(partitions[0]?.batches).toHaveLength(1);
  });

  it('goes by settings as they are changed', async () => {
    const scenario = await start({ 'retention.ms': '-1' }, newStore());
    await append(scenario, 'a');
    await pass(HOUR);
    const topic = { ...ORDERS, config: { 'retention.ms': String(HOUR / 2) } };
    await scenario.ask({ type: 'topics', changes: [{ key: 'topic/orders', topic }] });
    await pass(2 * INTERVAL);
    expect(await range(scenario)).toEqual([1, 1]);
  });

  it('refuses events without a key in a compacted topic', async () => {
    const scenario = await start({ 'cleanup.policy': 'compact' }, newStore());
    const batch = textBatch(['a']);
    expect(await finished(scenario.submit({ type: 'append', partition: keyOf(0), batch }), clock)).toMatchObject({
      code: 'INVALID_RECORD',
      message: expect.stringContaining('record 0') as string,
    });
  });

  it('refuses batches above the topic’s own limit', async () => {
    const scenario = await start({ 'max.message.bytes': '1024' }, newStore());
    const batch = textBatch(['a'.repeat(1_024)]);
    expect(await finished(scenario.submit({ type: 'append', partition: keyOf(0), batch }), clock)).toMatchObject({
      code: 'RECORD_TOO_LARGE',
    });
  });

  it('deletes records up to an offset on order, and no further than there are', async () => {
    const scenario = await start({}, newStore());
    await append(scenario, 'a', 'b', 'c');
    const deleteRecords = (before: number | null) =>
      finished(scenario.submit({ type: 'delete-records', partition: keyOf(0), before }), clock);
    expect(await deleteRecords(2)).toEqual({ logStartOffset: 2 });
    expect(await deleteRecords(1)).toEqual({ logStartOffset: 2 });
    expect(await deleteRecords(4)).toMatchObject({ code: 'OFFSET_OUT_OF_RANGE' });
    expect(await deleteRecords(null)).toEqual({ logStartOffset: 3 });
    const log = { type: 'delete-records', partition: keyOf(0, GROUP_LOG), before: null } as const;
    expect(await scenario.submit(log)).toMatchObject({ code: 'INVALID_TOPIC' });
  });
});

describe('retention after a restart', () => {
  it('goes on counting from when events were stored', async () => {
    const first = await start({ 'retention.ms': String(HOUR) }, fileStore());
    await finished(first.append(0, ['a']), clock);
    await pass(HOUR / 2);
    await finished(first.shard.close(), clock);
    open.length = 0;
    const second = await start({ 'retention.ms': String(HOUR) }, fileStore());
    expect(await range(second)).toEqual([0, 1]);
    await pass(HOUR / 2 + 3 * INTERVAL);
    expect(await range(second)).toEqual([1, 1]);
  });
});
