/** Staged groups from commit to poll: a shard, sessions, and members as the SDK is one. Times are virtual. */
import { ClonedShardClient, SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import type { LogStore } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import type { ShardClient } from '../runtime/commands.ts';
import { HeldStore } from '../runtime/held-store.ts';
import { finished, turns, watched } from '../runtime/settling.ts';
import { MAX_WITHHELD, MAX_WITHHELD_RUNS } from './gate-pass.ts';
import type { UnarySession } from './unary-session.ts';
import { failedOutcome, StagedScenario, type StagedMember, type StagedOptions } from './staged-scenario.ts';

const GROUPS = 'a,b:order=5,c:order=9';

let clock: VirtualClock;
let staged: StagedScenario | null = null;

beforeEach(() => {
  clock = new VirtualClock();
});

afterEach(async () => {
  if (staged !== null) await finished(staged.stop(), clock);
  staged = null;
});

async function start(options: Partial<StagedOptions> = {}): Promise<StagedScenario> {
  const through = (shard: ShardClient): ShardClient => new ClonedShardClient(shard).client;
  const all: StagedOptions = { store: new MemoryLogStore(), time: clock, groups: GROUPS, through, ...options };
  staged = await finished(StagedScenario.start(all), clock);
  return staged;
}

async function join(scenario: StagedScenario, groupId: string, memberId = `${groupId}-1`): Promise<StagedMember> {
  const member = await finished(scenario.join(groupId, memberId), clock);
  await turns(20);
  return member;
}

/** The offsets that have come and wait for the handler, of each key. */
function inHand(member: StagedMember): number[] {
  return [...member.lanes.values()].flatMap(({ offsets }) => offsets).sort((x, y) => x - y);
}

describe('a group of a higher order', () => {
  it('gets an event once every group of every lower order has finished it', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'k', 'k']);
    const [b, c] = [await join(scenario, 'b'), await join(scenario, 'c')];
    expect([b.came, c.came]).toEqual([[], []]);
    await scenario.commitFor('a', 2);
    await turns(20);
    expect([b.came, c.came]).toEqual([['0', '1'], []]);
    b.handle('k');
    await b.commit();
    await turns(20);
    expect([b.came, c.came]).toEqual([['0', '1'], ['0']]);
    await scenario.commitFor('a', 3);
    await turns(20);
    b.handle('k');
    b.handle('k');
    await b.commit();
    await turns(20);
    expect([b.came, c.came]).toEqual([
      ['0', '1', '2'],
      ['0', '1', '2'],
    ]);
  });

  it('does not wait for groups of its own order, nor for those that are not declared', async () => {
    const scenario = await start({ groups: 'a:order=2,b:order=2' });
    await scenario.publish(['k']);
    const [a, b, x] = [await join(scenario, 'a'), await join(scenario, 'b'), await join(scenario, 'x')];
    expect([a.came, b.came, x.came]).toEqual([['0'], ['0'], ['0']]);
  });

  it('is not stalled by one slow key upstream, whose later events stay behind it and come late in their order', async () => {
    const scenario = await start();
    await scenario.publish(['slow', 'x', 'slow', 'y', 'slow']);
    // Upstream has finished everything but the first.
    await scenario.commitFor('a', 0, [[1, 5]]);
    const b = await join(scenario, 'b');
    expect(b.came).toEqual(['1', '3']);
    await scenario.publish(['slow', 'z']);
    await scenario.commitFor('a', 0, [[1, 7]]);
    await turns(20);
    expect(b.came).toEqual(['1', '3', '6']);
    expect(b.session.withheldOf(scenario.partition())).toEqual({
      count: 4,
      behindKey: 3,
      firstBehindKey: 2,
      stalled: false,
    });
    await scenario.commitFor('a', 7);
    await turns(20);
    expect(b.came).toEqual(['1', '3', '6', 'late 0', 'late 2', 'late 4', 'late 5']);
    expect(b.session.withheldOf(scenario.partition())?.count).toBe(0);
  });

  it.each(['gzip', 'snappy', 'lz4', 'zstd'] as const)(
    'reads batches with %s, also parts of them',
    async (compression) => {
      const scenario = await start();
      await scenario.publish(['a', 'b', 'a', 'c', 'a', 'd'], 0, compression);
      const b = await join(scenario, 'b');
      await scenario.commitFor('a', 0, [[1, 4]]);
      await turns(20);
      expect(b.came).toEqual(['1', '3']);
      await scenario.commitFor('a', 5);
      await turns(20);
      expect(b.came.slice(2).sort()).toEqual(['4', 'late 0', 'late 2'].sort());
      await scenario.commitFor('a', 6);
      await turns(20);
      expect(b.came.at(-1)).toBe('5');
    },
  );

  it('commits around what was passed over, and begins again there after a restart', async () => {
    const disk = new SimDisk(new SeededRandom(1));
    const store = (): LogStore =>
      openFileLogStore({ disk, path: '/data', clock, timers: clock, random: new SeededRandom(1) });
    const first = await start({ store: store() });
    await finished(first.publish(['k', 'x', 'k', 'y']), clock);
    await finished(first.commitFor('a', 0, [[1, 4]]), clock);
    const before = await join(first, 'b');
    expect(before.came).toEqual(['1', '3']);
    before.handle('x');
    await finished(before.commit(), clock);
    await finished(first.stop(), clock);
    const second = await start({ store: store(), leaderEpoch: 1 });
    const after = await join(second, 'b', 'b-2');
    // The member that is gone has its partition until its session ends.
    clock.advance(30_000);
    after.session.heartbeat();
    await turns(20);
    clock.advance(20_000);
    await turns(20);
    expect(after.came).toEqual(['3']);
    after.handle('y');
    await finished(second.commitFor('a', 4), clock);
    await turns(20);
    expect(after.came).toEqual(['3', 'late 0', 'late 2']);
  });

  it('keeps order when a partition goes to another member while events are passed over', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'x', 'k']);
    await scenario.commitFor('a', 0, [[1, 3]]);
    const one = await join(scenario, 'b', 'b-1');
    expect(one.came).toEqual(['1']);
    one.handle('x');
    await one.commit();
    await one.session.leave();
    const two = await join(scenario, 'b', 'b-2');
    expect(two.came).toEqual([]);
    await scenario.commitFor('a', 3);
    await turns(20);
    expect(two.came).toEqual(['late 0', 'late 2']);
  });

  it('begins anew from its commit when its connection breaks, since nobody knows what was passed over', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'x', 'k']);
    await scenario.commitFor('a', 0, [[1, 3]]);
    const one = await join(scenario, 'b', 'b-1');
    expect(one.came).toEqual(['1']);
    const { memberEpoch } = one.session;
    one.session.disconnected();
    const again = await finished(scenario.rejoin(one, memberEpoch), clock);
    await turns(20);
    expect(again.came).toEqual(['1']);
    await scenario.commitFor('a', 3);
    await turns(20);
    expect(again.came).toEqual(['1', 'late 0', 'late 2']);
  });

  it('follows its declaration: gated from the change on, and free after it', async () => {
    const scenario = await start({ groups: 'a,b' });
    await scenario.publish(['k', 'k']);
    const b = await join(scenario, 'b');
    expect(b.came).toEqual(['0', '1']);
    await scenario.configure('a,b:order=2');
    await scenario.publish(['k', 'x']);
    await turns(20);
    expect(b.came).toEqual(['0', '1']);
    await scenario.commitFor('a', 0, [[3, 4]]);
    await turns(20);
    expect(b.came).toEqual(['0', '1', '3']);
    await scenario.configure('a,b');
    await turns(20);
    expect(b.came).toEqual(['0', '1', '3', 'late 2']);
    await scenario.publish(['x']);
    await turns(20);
    expect(b.came.at(-1)).toBe('4');
    expect(b.session.withheldOf(scenario.partition())).toBeNull();
  });

  it('stops reading when it has passed over as much as it may, and goes on when some of it came', async () => {
    const scenario = await start();
    const total = MAX_WITHHELD + 200;
    for (let from = 0; from < total; from += 300) await scenario.publish(Array.from({ length: 300 }, () => 'k'));
    await scenario.publish(['x']);
    await scenario.commitFor('a', 0, [[1, 1_201]]);
    const b = await join(scenario, 'b');
    expect(b.session.withheldOf(scenario.partition())).toMatchObject({ count: MAX_WITHHELD, stalled: true });
    expect(b.came).toEqual([]);
    await scenario.commitFor('a', 1_201);
    await turns(100);
    expect(b.came.length).toBe(1_201);
    expect(inHand(b)).toEqual(Array.from({ length: 1_201 }, (_, offset) => offset));
  });

  it('also counts stretches, so that what it finished between them fits into a commit', async () => {
    const scenario = await start();
    const holes = MAX_WITHHELD_RUNS + 20;
    await scenario.publish(Array.from({ length: 2 * holes }, (_, index) => `k${index}`));
    const ranges = Array.from({ length: holes }, (_, index) => [2 * index + 1, 2 * index + 2] as const);
    await scenario.commitFor('a', 0, ranges);
    const b = await join(scenario, 'b');
    const status = b.session.withheldOf(scenario.partition());
    expect(status).toMatchObject({ count: MAX_WITHHELD_RUNS, stalled: true });
    for (let next = b.handle(); next !== null; next = b.handle());
    await b.commit();
    const { offsets } = await scenario.shard.ask({ type: 'describe-group', groupId: 'b' });
    expect(offsets[0]?.committed.finished.length).toBe(MAX_WITHHELD_RUNS);
  });

  it('is told of what was passed over and deleted since, so that it can commit past it', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'x', 'k', 'y']);
    await scenario.commitFor('a', 0, [[1, 4]]);
    const b = await join(scenario, 'b');
    expect(b.came).toEqual(['1', '3']);
    await scenario.shard.ask({ type: 'delete-records', partition: scenario.partition(), before: 2 });
    await scenario.commitFor('a', 4);
    await turns(20);
    expect([b.gone, b.came]).toEqual([[0], ['1', '3', 'late 2']]);
  });

  it('asks what is released before where it began when it goes back there', async () => {
    const log = new HeldStore(new MemoryLogStore());
    const scenario = await start({ store: log.store });
    await scenario.publish(['x', 'y', 'z', 'z']);
    await scenario.commitFor('a', 4, [], [failedOutcome(1, 'y', 'held')]);
    const b = await finished(scenario.join('b', 'b-1', { start: { at: 'end' } }), clock);
    await turns(20);
    await scenario.publish(['w']);
    await scenario.commitFor('a', 5);
    await turns(20);
    expect(b.came).toEqual(['4']);
    expect(b.handle('w')).not.toBeNull();
    const owned = b.owned.get(scenario.partition());
    if (owned !== undefined) owned.next = 0;
    // What is asked waits for a commit that is on its way to the disk; reading does not.
    log.isHeld = true;
    const commit = scenario.commitFor('a', 5);
    await finished(b.session.seek(scenario.partition(), { at: 'beginning' }), clock);
    await turns(20);
    log.isHeld = false;
    log.release();
    await finished(commit, clock);
    await turns(20);
    expect(b.came).toEqual(['4', '0', '2', '3', '4']);
    await scenario.commitFor('a', 5, [], [{ ...failedOutcome(1, 'y', 'held'), kind: 'processed' }]);
    await turns(20);
    expect(b.came.at(-1)).toBe('late 1');
  });

  it('passes over nothing that it has finished itself', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'k', 'k']);
    await scenario.commitFor('a', 3);
    await scenario.commitFor('b', 0, [[1, 2]]);
    await scenario.shard.group({
      type: 'reset-offsets',
      groupId: 'a',
      offsets: [{ partition: scenario.partition(), offset: 1 }],
    });
    await scenario.commitFor('a', 1, [[2, 3]]);
    const b = await join(scenario, 'b');
    expect(b.came).toEqual(['0', '2']);
  });
});

describe('a dead letter of a group of a lower order', () => {
  const letters = (scenario: StagedScenario) => {
    const filter = { topicId: null, keyId: null, reason: null, sinceMs: null, beforeMs: null };
    const places = [{ partition: scenario.partition(), offset: 0 }];
    return {
      groupId: 'a',
      filter: { ...filter, places },
      limit: 10,
      cursor: null,
      untilMs: clock.nowMs(),
      dryRun: false,
    };
  };

  async function withDeadLetter(groups = GROUPS): Promise<StagedScenario> {
    const scenario = await start({ groups });
    await scenario.publish(['k', 'x', 'k']);
    await scenario.commitFor('a', 3, [], [failedOutcome(0, 'k', 'dead-lettered')]);
    return scenario;
  }

  it('withholds the event and later ones of its key until it is redriven and handled', async () => {
    const scenario = await withDeadLetter();
    const b = await join(scenario, 'b');
    expect(b.came).toEqual(['1']);
    await scenario.shard.group({ type: 'redrive', ...letters(scenario) });
    await turns(20);
    expect(b.came).toEqual(['1']);
    await scenario.commitFor('a', 3, [], [{ ...failedOutcome(0, 'k', 'held'), kind: 'processed' }]);
    await turns(20);
    expect(b.came).toEqual(['1', 'late 0', 'late 2']);
  });

  it('withholds no longer when it is purged', async () => {
    const scenario = await withDeadLetter();
    const b = await join(scenario, 'b');
    await scenario.shard.group({ type: 'purge-dead-letters', ...letters(scenario) });
    await turns(20);
    expect(b.came).toEqual(['1', 'late 0', 'late 2']);
  });

  it('withholds nothing from a group that releases them', async () => {
    const scenario = await withDeadLetter('a,b:order=5:on-dead-letter=release,c:order=9');
    const [b, c] = [await join(scenario, 'b'), await join(scenario, 'c')];
    expect(b.came).toEqual(['0', '1', '2']);
    while (b.handle() !== null);
    await b.commit();
    await turns(20);
    expect(c.came).toEqual(['1']);
  });

  it('is named in what a group waits for, as is an event that waits to be handled again', async () => {
    const scenario = await withDeadLetter();
    const partitions = [scenario.partition()];
    const [dead] = await scenario.shard.ask({ type: 'describe-gates', groupId: 'b', partitions });
    expect(dead).toMatchObject({
      withheld: 1,
      gateOffset: 3,
      oldest: { offset: 0, groupId: 'a', kind: 'dead-letter' },
    });
    await scenario.shard.group({ type: 'redrive', ...letters(scenario) });
    const [again] = await scenario.shard.ask({ type: 'describe-gates', groupId: 'b', partitions });
    expect(again?.oldest).toEqual({ offset: 0, groupId: 'a', kind: 'retry' });
  });
});

describe('a member of a group of a higher order that speaks in single calls', () => {
  /** Polls once; with `maxWaitMs` 0 for what is there. */
  async function poll(session: UnarySession, received: number | null = null, maxRecords = 0) {
    const signal = new AbortController().signal;
    const answer = watched(session.poll({ maxRecords, maxBytes: 0, maxWaitMs: 1_000, received, signal }));
    await turns(30);
    if (answer.value === undefined && answer.error === undefined) clock.advance(1_000);
    await turns(30);
    if (answer.value === undefined) throw answer.error;
    return { pollId: answer.value.pollId, offsets: answer.value.records.map(({ record }) => record.offset) };
  }

  async function committed(scenario: StagedScenario): Promise<unknown> {
    const [offset] = await scenario.shard.ask({
      type: 'group-offsets',
      groupId: 'b',
      partitions: [scenario.partition()],
    });
    return [offset?.committed?.offset, offset?.committed?.finished];
  }

  it('gets what was passed over in a later answer, and commits around it until then', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'x', 'k', 'y']);
    await scenario.commitFor('a', 0, [[1, 4]]);
    const session = await finished(scenario.joinUnary('b', 'b-1'), clock);
    const first = await poll(session);
    expect(first.offsets).toEqual([1, 3]);
    await session.commitGiven(first.pollId);
    // The watermark stands at what was passed over; the second of its key is behind it.
    expect(await committed(scenario)).toEqual([
      0,
      [
        [1, 2],
        [3, 4],
      ],
    ]);
    await scenario.commitFor('a', 4);
    const second = await poll(session);
    expect(second.offsets).toEqual([0, 2]);
    await session.commitGiven(first.pollId);
    expect(await committed(scenario)).toEqual([
      0,
      [
        [1, 2],
        [3, 4],
      ],
    ]);
    await session.commitGiven(second.pollId);
    expect(await committed(scenario)).toEqual([4, []]);
  });

  it('gets late events again when their answer was lost, and one at a time when it has room for one', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'x', 'k', 'y']);
    await scenario.commitFor('a', 0, [[1, 4]]);
    const session = await finished(scenario.joinUnary('b', 'b-1'), clock);
    const first = await poll(session);
    await scenario.commitFor('a', 4);
    const lost = await poll(session, first.pollId);
    expect(lost.offsets).toEqual([0, 2]);
    const again = await poll(session, first.pollId, 1);
    expect(again.offsets).toEqual([0]);
    const last = await poll(session, again.pollId, 1);
    expect(last.offsets).toEqual([2]);
    await session.commitGiven(last.pollId);
    expect(await committed(scenario)).toEqual([4, []]);
    expect((await poll(session)).offsets).toEqual([]);
  });
});

describe('what a group waits for', () => {
  it('is described with the group that has not finished the oldest event', async () => {
    const scenario = await start();
    await scenario.publish(['k', 'x', 'k', 'y']);
    await scenario.commitFor('a', 1, [[2, 3]]);
    const partitions = [scenario.partition()];
    const gates = await scenario.shard.ask({ type: 'describe-gates', groupId: 'b', partitions });
    expect(gates).toEqual([
      {
        partition: scenario.partition(),
        waitsFor: ['a'],
        gateOffset: 3,
        withheld: 2,
        oldest: { offset: 1, groupId: 'a', kind: 'lag' },
      },
    ]);
    expect(await scenario.shard.ask({ type: 'describe-gates', groupId: 'a', partitions })).toEqual([]);
  });

  it('costs commits nothing where nobody watches, and leaves no watch behind', async () => {
    const scenario = await start();
    const b = await join(scenario, 'b');
    expect(scenario.shard.shard.status().waitingGates).toBe(1);
    b.session.disconnected();
    await turns(20);
    expect(scenario.shard.shard.status().waitingGates).toBe(0);
  });
});
