import { ClonedShardClient, VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import type { ShardClient, WaitEventCommand } from './commands.ts';
import { MAX_EVENT_WAITS } from './event-watch.ts';
import { HeldStore } from './held-store.ts';
import { GROUP_LOG, keyOf, ORDERS, sampleTopic, ShardScenario } from './shard-scenario.ts';
import { finished, turns, watched } from './settling.ts';

let clock: VirtualClock;
let held: HeldStore;
let shard: ShardScenario;

beforeEach(async () => {
  clock = new VirtualClock();
  held = new HeldStore(new MemoryLogStore());
  const topics = [ORDERS, GROUP_LOG, sampleTopic('__held', 2), sampleTopic('__ledger', 2)];
  const through = (inner: ShardClient): ShardClient => new ClonedShardClient(inner).client;
  shard = await finished(ShardScenario.start({ store: held.store, time: clock, topics, through }), clock);
  await finished(shard.append(0, ['a', 'b', 'c']), clock);
});

afterEach(async () => {
  held.isHeld = false;
  while (held.waiting > 0) held.release();
  await finished(shard.shard.close(), clock);
});

function wait(waitId: number, offset: number, changes: Partial<WaitEventCommand> = {}) {
  const groups = ['payment'];
  return shard.ask({ type: 'wait-event', waitId, partition: keyOf(0), offset, groups, maxWaitMs: 60_000, ...changes });
}

describe('a wait for an event', () => {
  it('is answered when the commit that ends it is durable, and not before', async () => {
    const member = await finished(shard.join('a'), clock);
    const waiting = watched(wait(1, 1));
    const other = watched(wait(2, 2));
    await turns();
    held.isHeld = true;
    void shard.commit('a', member.memberEpoch, 0, 2);
    await turns();
    expect(waiting.value).toBeUndefined();
    held.isHeld = false;
    while (held.waiting > 0) held.release();
    await turns();
    expect(waiting.value).toMatchObject([{ groupId: 'payment', state: 'processed' }]);
    expect(other).toEqual({});
  });

  it('counts what is finished beyond the offset, and is answered at once when it is over already', async () => {
    const member = await finished(shard.join('a'), clock);
    const waiting = watched(wait(1, 2));
    await finished(shard.commit('a', member.memberEpoch, 0, 0, [[2, 3]]), clock);
    await turns();
    expect(waiting.value).toMatchObject([{ state: 'processed' }]);
    expect(await finished(wait(2, 2), clock)).toMatchObject([{ state: 'processed' }]);
  });

  it('ends after its time, when it is cancelled and when the shard stops, with what is so then', async () => {
    const [late, cancelled] = [watched(wait(1, 0, { maxWaitMs: 1_000 })), watched(wait(2, 0))];
    await turns();
    clock.advance(1_000);
    await shard.ask({ type: 'cancel-event-wait', waitId: 2 });
    await turns();
    expect(late.value).toMatchObject([{ state: 'waiting', committedOffset: null }]);
    expect(cancelled.value).toMatchObject([{ state: 'waiting' }]);
    const stopped = watched(wait(3, 0));
    await turns();
    await finished(shard.shard.close(), clock);
    expect(stopped.value).toMatchObject([{ state: 'waiting' }]);
  });

  it('is refused beyond the limit, and room comes back with each that ends', async () => {
    const all: Promise<unknown>[] = [];
    for (let waitId = 1; waitId <= MAX_EVENT_WAITS; waitId++) all.push(wait(waitId, 0));
    await expect(finished(wait(MAX_EVENT_WAITS + 1, 0), clock)).rejects.toMatchObject({ code: 'OVERLOADED' });
    await shard.ask({ type: 'cancel-event-wait', waitId: 1 });
    all.push(wait(MAX_EVENT_WAITS + 2, 0));
    clock.advance(60_000);
    await finished(Promise.all(all), clock);
  });
});
