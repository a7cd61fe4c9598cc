import { partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { VirtualClock } from '@naru/testkit';
import { beforeEach, describe, expect, it } from 'vitest';
import type { Command, FetchCommand, FetchReply, ShardClient } from '../runtime/commands.ts';
import { FIRST_RETRY_MS, MAX_RETRY_MS, MAX_WAITING_POLLS, Poller, type PollerEvent } from './poller.ts';

const TOPIC = '11111111-1111-4111-8111-111111111111' as TopicId;
const P0 = partitionKey(TOPIC, 0);
const P1 = partitionKey(TOPIC, 1);

/** Answers fetches by hand, and everything else at once. */
class HandShard implements ShardClient {
  readonly fetches: { command: FetchCommand; answer: (reply: FetchReply) => void }[] = [];
  readonly cancelled: number[] = [];
  foundOffset = 0;

  submit(command: Command): Promise<never> {
    if (command.type === 'cancel-fetch') {
      this.cancelled.push(command.fetchId);
      return Promise.resolve(null as never);
    }
    if (command.type === 'find-offset') return Promise.resolve({ offset: this.foundOffset } as never);
    if (command.type !== 'fetch') throw new Error(`a poller does not ask for ${command.type}`);
    return new Promise((resolve) =>
      this.fetches.push({ command, answer: resolve as unknown as (reply: FetchReply) => void }),
    );
  }

  /** Answers the oldest fetch with one batch up to `nextOffset` from each of these. */
  answer(nextOffsets: readonly (readonly [PartitionKey, number])[], refusal: Refusal | null = null): void {
    const batches = refusal === null ? [new Uint8Array(100)] : [];
    const rest = { batches, highWatermark: 100, lastStableOffset: 100, logStartOffset: 0, refusal };
    const partitions = nextOffsets.map(([partition, nextOffset]) => ({ partition, nextOffset, ...rest }));
    this.fetches.shift()?.answer({ partitions });
  }
}

let clock: VirtualClock;
let shard: HandShard;
let events: PollerEvent[];
let room: Promise<void> | null;
let poller: Poller;
let onEvent: (event: PollerEvent) => void;

beforeEach(() => {
  clock = new VirtualClock();
  shard = new HandShard();
  events = [];
  room = null;
  onEvent = (event) => void events.push(event);
  poller = new Poller({
    shard,
    clock,
    timers: clock,
    start: { at: 'beginning' },
    emit: (event) => onEvent(event),
    room: () => room,
    fail: (error) => {
      throw error;
    },
  });
});

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function asked(): (readonly [PartitionKey, number])[] | undefined {
  return shard.fetches[0]?.command.partitions.map(({ partition, offset }) => [partition, offset] as const);
}

describe('polls', () => {
  it('are answered in their order, one fetch at a time', async () => {
    poller.place(P0, 5);
    poller.poll(1, 0, 1_000);
    poller.poll(2, 0, 1_000);
    await settled();
    expect(shard.fetches).toHaveLength(1);
    expect(asked()).toEqual([[P0, 5]]);
    shard.answer([[P0, 8]]);
    await settled();
    expect(asked()).toEqual([[P0, 8]]);
    shard.answer([[P0, 9]]);
    await settled();
    expect(events.map((event) => (event.type === 'records' ? event.pollId : event.type))).toEqual([1, 2]);
  });

  it('are answered also when they come at the very moment in which the last one was', async () => {
    poller.place(P0, 0);
    for (let delay = 0; delay < 8; delay++) {
      events = [];
      onEvent = (event) => {
        events.push(event);
        if (events.length > 1) return;
        let turn = Promise.resolve();
        for (let i = 0; i < delay; i++) turn = turn.then(() => {});
        void turn.then(() => poller.poll(2, 0, 1_000));
      };
      poller.poll(1, 0, 1_000);
      await settled();
      shard.answer([[P0, 1]]);
      await settled();
      shard.answer([[P0, 2]]);
      await settled();
      expect(events, `after ${delay} microtasks`).toHaveLength(2);
    }
  });

  it('are limited', () => {
    for (let poll = 0; poll < MAX_WAITING_POLLS; poll++) expect(poller.poll(poll, 0, 1_000)).toBeNull();
    expect(poller.poll(99, 0, 1_000)?.code).toBe('INVALID_REQUEST');
  });

  it('wait for a partition to read from, and are answered at their deadline', async () => {
    poller.poll(1, 0, 1_000);
    poller.poll(2, 0, 1_000);
    await settled();
    clock.advance(500);
    poller.place(P0, 3);
    await settled();
    expect(shard.fetches[0]?.command.maxWaitMs).toBe(500);
    shard.answer([[P0, 4]]);
    poller.remove(P0);
    await settled();
    clock.advance(500);
    await settled();
    expect(events).toMatchObject([
      { pollId: 1, partitions: [] },
      { pollId: 2, partitions: [] },
    ]);
  });

  it('wait until there is room, and end when the subscriber goes meanwhile', async () => {
    poller.place(P0, 0);
    let makeRoom: () => void = () => {};
    room = new Promise((resolve) => (makeRoom = resolve));
    poller.poll(1, 0, 1_000);
    await settled();
    expect(shard.fetches).toHaveLength(0);
    // The promise settles and there is still no room, as at the end of a stream.
    poller.close();
    makeRoom();
    await settled();
    expect(shard.fetches).toHaveLength(0);
    expect(events).toEqual([]);
  });

  it('give partitions their turn', async () => {
    poller.place(P0, 0);
    poller.place(P1, 0);
    poller.poll(1, 0, 1_000);
    poller.poll(2, 0, 1_000);
    await settled();
    shard.answer([[P0, 1]]);
    await settled();
    expect(asked()).toEqual([
      [P1, 0],
      [P0, 1],
    ]);
  });
});

describe('a position', () => {
  it.each([
    ['moved', () => poller.place(P0, 50), 50],
    [
      'taken away and given again',
      () => {
        poller.remove(P0);
        poller.place(P0, 7);
      },
      7,
    ],
    [
      'paused and resumed',
      () => {
        poller.pause(new Set([P0]));
        poller.pause(new Set());
      },
      5,
    ],
  ])('that is %s takes nothing of the fetch that is under way', async (_name, change, expected) => {
    poller.place(P0, 5);
    poller.poll(1, 0, 1_000);
    await settled();
    const { fetchId } = shard.fetches[0]?.command ?? { fetchId: -1 };
    change();
    expect(shard.cancelled).toContain(fetchId);
    shard.answer([[P0, 8]]);
    await settled();
    expect(events).toEqual([]);
    expect(asked()).toEqual([[P0, expected]]);
  });

  it('outside the log follows the start position, and says so', async () => {
    poller.place(P0, 5);
    shard.foundOffset = 20;
    poller.poll(1, 0, 1_000);
    await settled();
    shard.answer([[P0, 5]], refuse('OFFSET_OUT_OF_RANGE', 'too old'));
    await settled();
    expect(events).toEqual([{ type: 'position-reset', partition: P0, from: 5, to: 20 }]);
    expect(asked()).toEqual([[P0, 20]]);
  });

  it('that cannot be read just now is asked for again after ever longer waits, while the others go on', async () => {
    poller.place(P0, 5);
    poller.place(P1, 0);
    poller.poll(1, 0, 60_000);
    await settled();
    const waits: number[] = [];
    for (let round = 0; round < 8; round++) {
      shard.answer([[P0, 5]], refuse('STORAGE_UNAVAILABLE', 'the database restarts'));
      await settled();
      // The other one is read, no longer than until this one's turn comes.
      expect(asked()).toEqual([[P1, 0]]);
      const waitMs = shard.fetches[0]?.command.maxWaitMs ?? 0;
      waits.push(waitMs);
      clock.advance(waitMs);
      shard.answer([]);
      await settled();
      expect(asked()).toEqual([
        [P0, 5],
        [P1, 0],
      ]);
    }
    expect(waits).toEqual([FIRST_RETRY_MS, 100, 200, 400, 800, MAX_RETRY_MS, MAX_RETRY_MS, MAX_RETRY_MS]);
    shard.answer([[P0, 6]]);
    await settled();
    expect(events).toMatchObject([{ type: 'records', partitions: [{ partition: P0 }] }]);
    // It could be read: the next wait is a short one again.
    poller.remove(P1);
    poller.poll(2, 0, 60_000);
    await settled();
    shard.answer([[P0, 6]], refuse('STORAGE_ERROR', 'for a moment'));
    await settled();
    expect(shard.fetches).toHaveLength(0);
    clock.advance(FIRST_RETRY_MS);
    await settled();
    expect(asked()).toEqual([[P0, 6]]);
  });

  it('that cannot be read just now ends a poll at its deadline, without records', async () => {
    poller.place(P0, 5);
    poller.poll(1, 0, 120);
    await settled();
    for (const waitMs of [FIRST_RETRY_MS, 70]) {
      shard.answer([[P0, 5]], refuse('STORAGE_UNAVAILABLE', 'the database restarts'));
      await settled();
      expect(events).toEqual([]);
      clock.advance(waitMs);
      await settled();
    }
    expect(events).toMatchObject([{ type: 'records', pollId: 1, partitions: [] }]);
  });

  it('that cannot be read is left out until it is moved', async () => {
    poller.place(P0, 5);
    poller.place(P1, 0);
    poller.poll(1, 0, 1_000);
    await settled();
    shard.answer([[P0, 5]], refuse('DATA_CORRUPT', 'rot'));
    await settled();
    expect(events).toMatchObject([{ type: 'partition-failed', partition: P0, refusal: { code: 'DATA_CORRUPT' } }]);
    expect(asked()).toEqual([[P1, 0]]);
    poller.place(P0, 6);
    shard.answer([]);
    await settled();
    expect(asked()).toEqual([
      [P0, 6],
      [P1, 0],
    ]);
  });
});
