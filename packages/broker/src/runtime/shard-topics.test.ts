/** Topics of a shard as they come and go, and members of groups that wait for news. */
import { SeededRandom, SimDisk, ClonedShardClient, VirtualClock } from '@naru/testkit';
import { afterEach, describe, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { LogStore } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import type { ShardClient } from './commands.ts';
import { HeldStore } from './held-store.ts';
import { keyOf, ORDERS, sampleTopic, ShardScenario, textBatch, type ShardScenarioOptions } from './shard-scenario.ts';
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

describe('topics of a shard', () => {
  const changed = (topic: ReturnType<typeof sampleTopic>) =>
    ({ type: 'topics', changes: [{ key: `topic/${topic.name}`, topic }] }) as const;

  it.each(stores)('come and grow (%s)', async (_name, createStore) => {
    const scenario = await start(createStore());
    const topic = sampleTopic('extra');
    await settled(scenario.ask(changed(topic)));
    const append = () => scenario.submit({ type: 'append', partition: keyOf(1, topic), batch: textBatch(['x']) });
    expect(await append()).toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    await settled(scenario.ask(changed({ ...topic, partitionCount: 2 })));
    expect(await settled(append())).toEqual({ baseOffset: 0, duplicate: false, logStartOffset: 0 });
  });

  it.each(stores)('go while a fetch waits for them, which is told so (%s)', async (_name, createStore) => {
    const scenario = await start(createStore());
    const fetch = watched(scenario.fetch({ 0: 0, 1: 0 }, { maxWaitMs: 60_000 }));
    await turns();
    await settled(scenario.ask(changed({ ...ORDERS, state: 'deleting' })));
    await turns();
    expect(fetch.value?.partitions[0]?.refusal?.code).toBe('UNKNOWN_TOPIC_OR_PARTITION');
  });

  it.each(stores)(
    'go in the same turn in which they were written to, and take nothing with them (%s)',
    async (_name, createStore) => {
      const scenario = await start(createStore());
      const kept = sampleTopic('kept');
      await settled(scenario.ask(changed(kept)));
      const appends = Promise.all([
        scenario.append(0, ['gone']),
        scenario.ask({ type: 'append', partition: keyOf(0, kept), batch: textBatch(['stays']) }),
      ]);
      const deleted = scenario.ask(changed({ ...ORDERS, state: 'deleting' }));
      await settled(Promise.all([appends, deleted]));
      expect(scenario.failed).toBeNull();
      expect(await settled(scenario.contents(0, kept))).toEqual(['0:stays']);
      await expect(scenario.contents(0)).rejects.toMatchObject({ code: 'UNKNOWN_TOPIC_OR_PARTITION' });
    },
  );

  it('take their committed offsets with them', async () => {
    const scenario = await start(new MemoryLogStore());
    const { memberEpoch } = await scenario.join('m1');
    await scenario.append(0, ['a']);
    await scenario.commit('m1', memberEpoch, 0, 1);
    await scenario.ask(changed({ ...ORDERS, state: 'deleting' }));
    const offsets = await scenario.ask({ type: 'group-offsets', groupId: 'payment', partitions: null });
    expect(offsets).toEqual([]);
  });
});

describe('a member of a group is watched', () => {
  it('and told of a new assignment when it is durable', async () => {
    const { held, scenario } = await startHeld();
    const known = await scenario.join('m1');
    expect(known.assigned).toHaveLength(3);
    const { memberEpoch, assigned, revoking } = known;
    const watch = watched(
      scenario.ask({
        type: 'watch-member',
        watchId: 1,
        groupId: 'payment',
        memberId: 'm1',
        known: { memberEpoch, assigned, revoking },
        maxWaitMs: 60_000,
      }),
    );
    await turns();
    expect(watch).toEqual({});
    held.isHeld = true;
    const join = watched(scenario.join('m2'));
    await turns();
    expect([watch, join]).toEqual([{}, {}]);
    held.release();
    await turns();
    expect(join.value?.memberEpoch).toBe(2);
    expect(watch.value?.revoking.length).toBeGreaterThan(0);
  });

  it('and not told of a change that is not durable, also when it asks after the change', async () => {
    const { held, scenario } = await startHeld();
    const { memberEpoch, assigned, revoking } = await scenario.join('m1');
    const known = { memberEpoch, assigned, revoking };
    held.isHeld = true;
    scenario.join('m2').catch(() => {});
    await turns();
    const watch = watched(
      scenario.ask({ type: 'watch-member', watchId: 1, groupId: 'payment', memberId: 'm1', known, maxWaitMs: 60_000 }),
    );
    await turns();
    expect(watch).toEqual({});
    held.release();
    await turns();
    expect(watch.value?.revoking).toHaveLength(1);
  });

  it('and told why it was removed', async () => {
    const scenario = await start(new MemoryLogStore());
    const { memberEpoch, assigned, revoking } = await scenario.join('m1', {
      maxPollIntervalMs: 5_000,
      sessionTimeoutMs: 30_000,
    });
    const known = { memberEpoch, assigned, revoking };
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
    await turns();
    clock.advance(5_000);
    await turns();
    expect(watch.value).toMatchObject({ code: 'MAX_POLL_INTERVAL_EXCEEDED' });
  });

  it('but not removed by a timer that was set anew while its command waited in the queue', async () => {
    const { held, scenario } = await startHeld();
    const { memberEpoch } = await scenario.join('m1', { sessionTimeoutMs: 5_000 });
    held.say({ state: 'busy' });
    const append = scenario.append(0, ['a']);
    const touch = { type: 'touch', groupId: 'payment', memberId: 'm1', memberEpoch, kind: 'alive' } as const;
    const touched = scenario.group(touch);
    await turns();
    clock.advance(5_000);
    held.say(null);
    await Promise.all([append, touched]);
    await turns();
    const group = await scenario.ask({ type: 'describe-group', groupId: 'payment' });
    expect(group.members).toHaveLength(1);
  });

  it('and answered with what it knows when the wait is over, or is cancelled', async () => {
    const scenario = await start(new MemoryLogStore());
    const { memberEpoch, assigned, revoking } = await scenario.join('m1');
    const known = { memberEpoch, assigned, revoking };
    const watch = (watchId: number) =>
      watched(
        scenario.ask({ type: 'watch-member', watchId, groupId: 'payment', memberId: 'm1', known, maxWaitMs: 1_000 }),
      );
    const [first, second] = [watch(1), watch(2)];
    await turns();
    await scenario.ask({ type: 'cancel-watch', watchId: 1 });
    await turns();
    expect([first, second]).toEqual([{ value: known }, {}]);
    clock.advance(1_000);
    await turns();
    expect(second).toEqual({ value: known });
  });
});
