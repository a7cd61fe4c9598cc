/** Requests of Kafka's classic group protocol, which wait for other members: when they are answered, and that they are. */
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClassicJoinCommand, ClassicSyncCommand } from '../core/group/index.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { HeldStore } from './held-store.ts';
import { keyOf, ShardScenario } from './shard-scenario.ts';
import { finished, turns, watched } from './settling.ts';

let clock: VirtualClock;
let held: HeldStore;
let scenario: ShardScenario;

beforeEach(async () => {
  clock = new VirtualClock();
  held = new HeldStore(new MemoryLogStore());
  scenario = await finished(ShardScenario.start({ store: held.store, time: clock }), clock);
});

afterEach(async () => {
  await finished(scenario.shard.close(), clock);
});

function joining(newMemberId: string, memberId = ''): ClassicJoinCommand {
  return {
    type: 'classic-join',
    groupId: 'payment',
    memberId,
    newMemberId,
    requiresMemberId: false,
    canSkipAssignment: false,
    instanceId: null,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: new Uint8Array([1]) }],
    subscription: { topics: ['orders'], owned: [] },
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 60_000,
    clientId: 'test',
    clientHost: 'here',
  };
}

function syncing(memberId: string, generation: number, all: readonly string[] = []): ClassicSyncCommand {
  const assignments = all.map((id, index) => ({
    memberId: id,
    assignment: new Uint8Array([index]),
    partitions: [keyOf(index)],
  }));
  const names = { instanceId: null, protocolType: null, protocolName: null };
  return { type: 'classic-sync', groupId: 'payment', memberId, generation, ...names, assignments };
}

/** A and B at generation 1. */
async function stable(): Promise<void> {
  const joins = [scenario.group(joining('A')), scenario.group(joining('B'))];
  await turns();
  clock.advance(250);
  await turns();
  clock.advance(250);
  await Promise.all(joins);
  await Promise.all([scenario.group(syncing('B', 1)), scenario.group(syncing('A', 1, ['A', 'B']))]);
}

describe('a member', () => {
  it('whose id has a line break in it is removed when its session ends, like every other', async () => {
    const id = 'A\nB';
    const joined = watched(scenario.group(joining(id)));
    await turns();
    clock.advance(250);
    await turns();
    expect(joined.value).toMatchObject({ outcome: 'joined', memberId: id });
    const members = async () => {
      const group = await scenario.ask({ type: 'describe-group', groupId: 'payment' });
      return group.members.length;
    };
    await finished(scenario.group(syncing(id, 1, [id])), clock);
    expect(await members()).toBe(1);
    clock.advance(11_000);
    await turns();
    expect(await members()).toBe(0);
  });
});

describe('requests that wait for other members', () => {
  it('are answered by the barrier’s timer and by the leader, with the state written down', async () => {
    const [first, second] = [watched(scenario.group(joining('A'))), watched(scenario.group(joining('B')))];
    await turns();
    clock.advance(250);
    await turns();
    expect([first, second]).toEqual([{}, {}]);
    clock.advance(250);
    await turns();
    expect(first).toMatchObject({ value: { memberId: 'A', generation: 1, leaderId: 'A' } });
    expect(second).toMatchObject({ value: { memberId: 'B', generation: 1, leaderId: 'A' } });
    const follower = watched(scenario.group(syncing('B', 1)));
    await turns();
    expect(follower).toEqual({});
    held.isHeld = true;
    const leader = watched(scenario.group(syncing('A', 1, ['A', 'B'])));
    await turns();
    // Assigned, but not durable yet: a crash could still take it back.
    expect([leader, follower]).toEqual([{}, {}]);
    held.release();
    await turns();
    expect(leader).toMatchObject({ value: { assignment: { by: 'leader', bytes: new Uint8Array([0]) } } });
    expect(follower).toMatchObject({ value: { assignment: { bytes: new Uint8Array([1]) } } });
    const listed = await scenario.ask({ type: 'list-groups' });
    expect(listed).toMatchObject([{ type: 'classic', protocolType: 'consumer', state: 'stable', memberCount: 2 }]);
  });

  it('are answered when the group goes over to the broker’s assignment', async () => {
    await stable();
    const waiting = watched(scenario.submit({ type: 'group', command: joining('', 'A') }));
    await turns();
    expect(waiting).toEqual({});
    await scenario.join('G');
    await turns();
    expect(waiting).toMatchObject({ value: { code: 'REBALANCE_IN_PROGRESS' } });
    expect(await scenario.ask({ type: 'describe-group', groupId: 'payment' })).toMatchObject({ type: 'consumer' });
  });

  it('are answered when an append fails, after which nobody could answer them', async () => {
    await stable();
    const waiting = watched(scenario.submit({ type: 'group', command: joining('', 'A') }));
    await turns();
    held.isHeld = true;
    const failing = watched(scenario.append(0, ['lost']));
    await turns();
    held.fail();
    await turns();
    expect(failing.error).toMatchObject({ code: 'STORAGE_ERROR' });
    expect(waiting).toMatchObject({ value: { code: 'STORAGE_ERROR' } });
  });

  it('are answered when the shard closes', async () => {
    await stable();
    const waiting = watched(scenario.submit({ type: 'group', command: joining('', 'A') }));
    await turns();
    await finished(scenario.shard.close(), clock);
    expect(waiting).toMatchObject({ value: { code: 'SHUTTING_DOWN' } });
  });
});
