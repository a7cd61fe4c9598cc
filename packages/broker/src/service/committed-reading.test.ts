/** Who reads for subscribers, and transactions: a shard, sessions and services. Times are virtual. */
import { encodeRequestId } from '@naru/protocol';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import { VirtualClock } from '@naru/testkit';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import type { ShardClient } from '../runtime/commands.ts';
import { finished, turns, watched } from '../runtime/settling.ts';
import { TransactionWriter } from '../runtime/transaction-writer.ts';
import { readEventCopies } from './event-copies.ts';
import { StagedScenario, type StagedMember } from './staged-scenario.ts';
import type { TopicService } from './topics.ts';
import { TraceService } from './trace.ts';
import { WaitService } from './wait.ts';

let clock: VirtualClock;
let scenario: StagedScenario;
let tx: TransactionWriter;
let fetches: number;

beforeEach(async () => {
  clock = new VirtualClock();
  fetches = 0;
  const through = (shard: ShardClient): ShardClient => ({
    submit: (command) => {
      if (command.type === 'fetch') fetches += 1;
      return shard.submit(command);
    },
  });
  const options = { store: new MemoryLogStore(), time: clock, groups: 'a,b:order=5', through };
  scenario = await settled(StagedScenario.start(options));
  tx = await settled(TransactionWriter.init(scenario.shard, 'tx', 7_000));
});

afterEach(async () => {
  await settled(scenario.stop());
});

function settled<T>(promise: Promise<T>): Promise<T> {
  return finished(promise, clock);
}

async function join(groupId: string, request: Parameters<StagedScenario['join']>[2] = {}): Promise<StagedMember> {
  const member = await settled(scenario.join(groupId, `${groupId}-1`, request));
  await turns(20);
  return member;
}

/** 0 of nobody, 1 and 2 in a transaction, 3 of nobody. */
async function begin(): Promise<void> {
  await settled(scenario.publish(['k']));
  await settled(tx.write(scenario.partition(), ['k', 'l']));
  await settled(scenario.publish(['k']));
}

/** 4. */
async function end(commit: boolean): Promise<void> {
  await settled(tx.end(commit));
  await turns(20);
}

describe('a member of a group', () => {
  it('gets an event when its transaction is committed, and what stands behind it after it', async () => {
    await begin();
    const member = await join('a');
    expect(member.came).toEqual(['0']);
    await end(true);
    expect(member.came).toEqual(['0', '1', '2', '3']);
  });

  it('never gets what was aborted, and goes on behind it', async () => {
    await begin();
    const member = await join('a');
    await end(false);
    expect(member.came).toEqual(['0', '3']);
    await settled(tx.write(scenario.partition(), ['m']));
    await end(false);
    await settled(scenario.publish(['k']));
    await turns(20);
    expect(member.came).toEqual(['0', '3', '7']);
  });

  it('that begins at the end gets what is committed after that', async () => {
    await begin();
    const member = await join('a', { start: { at: 'end' } });
    await end(true);
    expect(member.came).toEqual(['1', '2', '3']);
  });

  it('may not read what is not committed', async () => {
    const member = await join('a', { uncommitted: true });
    expect(member.ended).toMatchObject({ code: 'INVALID_REQUEST' });
  });
});

describe('a reader without a group', () => {
  it('gets what is committed, unless it asks for everything', async () => {
    await begin();
    const [committed, everything] = [await join(''), await join('', { memberId: 'r', uncommitted: true })];
    const atEnd = await join('', { memberId: 'e', uncommitted: true, start: { at: 'end' } });
    expect([committed.came, everything.came, atEnd.came]).toEqual([['0'], ['0', '1', '2', '3'], []]);
    await settled(scenario.publish(['k']));
    await turns(20);
    expect([committed.came, atEnd.came]).toEqual([['0'], ['4']]);
  });
});

describe('a group of a higher order', () => {
  it('is moved past what was aborted by what the lower one finishes, without asking for ever', async () => {
    await begin();
    const member = await join('b');
    await end(false);
    await settled(tx.write(scenario.partition(), ['l']));
    await end(false);
    await settled(scenario.commitFor('a', 1, [[3, 4]]));
    await turns(20);
    expect(member.came).toEqual(['0', '3']);
    await settled(scenario.commitFor('a', 7));
    await turns(20);
    expect(member.session.positionOf(scenario.partition())).toBe(7);
    const before = fetches;
    await turns(200);
    expect(fetches - before).toBeLessThan(3);
    await settled(scenario.publish(['k']));
    await settled(scenario.commitFor('a', 8));
    await turns(20);
    expect(member.came).toEqual(['0', '3', '7']);
  });
});

describe('copies of events to be held', () => {
  it('are made of nothing that is open or was aborted', async () => {
    await begin();
    const read = () =>
      readEventCopies(scenario.shard.client, nodeCompressionCodecs, scenario.partition(), [0, 1, 2, 3]);
    const offsets = async (): Promise<number[]> => [
      ...((await settled(read())) as ReadonlyMap<number, unknown>).keys(),
    ];
    expect(await offsets()).toEqual([0]);
    await end(false);
    expect(await offsets()).toEqual([0, 3]);
  });
});

describe('a trace or a wait', () => {
  function services(): { traces: TraceService; waits: WaitService } {
    const topics = { find: () => scenario.topic, findById: () => scenario.topic } as unknown as TopicService;
    const options = { shard: scenario.shard.client, topics, codecs: nodeCompressionCodecs, positionOf: () => null };
    const traces = new TraceService(options);
    return { traces, waits: new WaitService({ ...options, traces }) };
  }

  const idOf = (offset: number): string => encodeRequestId(scenario.topic.id, 0, offset);
  const wait = (offset: number, maxWaitMs = 60_000) =>
    services().waits.wait(idOf(offset), ['a'], maxWaitMs, new AbortController().signal);

  async function traced(offset: number): Promise<unknown> {
    return settled(services().traces.trace({ by: 'request-id', requestId: idOf(offset) }, []));
  }

  it('tells what became of the transaction of an event', async () => {
    await begin();
    expect(await traced(0)).toMatchObject({ transaction: null, groups: [{}, {}] });
    expect(await traced(1)).toMatchObject({ transaction: 'open', groups: [{ state: 'waiting' }, {}] });
    await end(false);
    expect(await traced(1)).toMatchObject({ transaction: 'aborted', groups: [], gone: false });
    expect(await traced(4)).toMatchObject({ code: 'EVENT_NOT_FOUND' });
    await settled(tx.write(scenario.partition(), ['l']));
    await end(true);
    expect(await traced(5)).toMatchObject({ transaction: 'committed', groups: [{}, {}] });
  });

  it('is answered at once for an event that was aborted, and when it is, however far the group is', async () => {
    await begin();
    const waiting = watched(wait(2));
    await turns(20);
    expect(waiting).toEqual({});
    await end(false);
    expect(waiting.value).toMatchObject({ code: 'EVENT_NOT_FOUND', message: expect.stringContaining('aborted') });
    await settled(scenario.commitFor('a', 5));
    expect(await settled(wait(1))).toMatchObject({ code: 'EVENT_NOT_FOUND' });
    expect(scenario.shard.shard.status().waitingFetches).toBe(0);
  });

  it('goes on when the transaction is committed, until the group has processed the event', async () => {
    await begin();
    const waiting = watched(wait(2));
    await end(true);
    expect(waiting).toEqual({});
    await settled(scenario.commitFor('a', 4));
    await turns(20);
    expect(waiting.value).toMatchObject({ processed: true, refusal: null });
  });

  it('ends with its time while the transaction is open', async () => {
    await begin();
    const waiting = watched(wait(2, 1_000));
    await turns(20);
    clock.advance(1_000);
    await turns(20);
    expect(waiting.value).toMatchObject({ processed: false, refusal: null });
    expect(scenario.shard.shard.status().waitingFetches).toBe(0);
  });
});
