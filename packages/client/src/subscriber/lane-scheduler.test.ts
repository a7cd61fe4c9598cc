import { describe, expect, it } from 'vitest';
import { VirtualTime, seededRandom, settle } from '../testing/virtual-time.ts';
import type { WorkOutcome } from './lane-scheduler.ts';
import { LaneScheduler } from './lane-scheduler.ts';

interface Item {
  readonly name: string;
  readonly lane: string | null;
}

function setUp(concurrency: number) {
  const time = new VirtualTime();
  const started: string[] = [];
  const ends = new Map<string, (outcome: WorkOutcome) => void>();
  const stale = new Set<string>();
  const scheduler = new LaneScheduler<Item>({
    timers: time,
    concurrency,
    run: ({ name }) => {
      started.push(name);
      return new Promise((resolve) => ends.set(name, resolve));
    },
    isStale: ({ name }) => stale.has(name),
    progressed: () => {},
  });
  const add = (name: string, lane: string | null): void => scheduler.add(lane, { name, lane });
  const end = async (name: string, outcome?: number): Promise<void> => {
    ends.get(name)?.(outcome);
    await settle();
  };
  return { time, scheduler, started, stale, add, end };
}

describe('lanes', () => {
  it('run side by side, each in sequence', async () => {
    const { started, add, end, scheduler } = setUp(3);
    add('a1', 'a');
    add('a2', 'a');
    add('b1', 'b');
    expect(started).toEqual(['a1', 'b1']);
    await end('a1');
    expect(started).toEqual(['a1', 'b1', 'a2']);
    await end('a2');
    await end('b1');
    expect([scheduler.pending, scheduler.running]).toEqual([0, 0]);
  });

  it('share the places', async () => {
    const { started, add, end, scheduler } = setUp(2);
    for (const name of ['a', 'b', 'c']) add(name, name);
    expect(started).toEqual(['a', 'b']);
    expect(scheduler.wantsMore).toBe(false);
    await end('a');
    expect(started).toEqual(['a', 'b', 'c']);
  });

  it('do not hold back work without a lane', () => {
    const { started, add } = setUp(3);
    for (const name of ['1', '2', '3', '4']) add(name, null);
    expect(started).toEqual(['1', '2', '3']);
  });

  it('are kept, without a place, by work that is done again later', async () => {
    const { time, started, add, end, scheduler } = setUp(1);
    add('a1', 'a');
    add('a2', 'a');
    await end('a1', 100);
    expect(scheduler.wantsMore).toBe(true);
    add('b1', 'b');
    expect(started).toEqual(['a1', 'b1']);
    await end('b1');
    await time.advance(100);
    expect(started).toEqual(['a1', 'b1', 'a1']);
    await end('a1');
    expect(started).toEqual(['a1', 'b1', 'a1', 'a2']);
  });

  it('leave out what has become stale, also while it waits to be done again', async () => {
    const { started, stale, add, end, scheduler } = setUp(1);
    add('a1', 'a');
    add('a2', 'a');
    add('b1', 'b');
    await end('a1', 1_000_000);
    stale.add('a1').add('a2');
    await end('b1');
    scheduler.dropStale();
    expect(started).toEqual(['a1', 'b1']);
    expect(scheduler.pending).toBe(0);
  });

  it('start nothing after a stop', async () => {
    const { time, started, add, end, scheduler } = setUp(1);
    add('a1', 'a');
    add('a2', 'a');
    add('b1', 'b');
    scheduler.stop();
    await end('a1', 5);
    await time.advance(100);
    expect(started).toEqual(['a1']);
    expect([scheduler.pending, time.pendingTimers]).toEqual([0, 0]);
  });

  it('keep their places until what was being added is added, also for work that ends at once', async () => {
    const started: string[] = [];
    let progressed = 0;
    const scheduler = new LaneScheduler<string>({
      timers: new VirtualTime(),
      concurrency: 2,
      run: (name) => {
        started.push(name);
        return undefined;
      },
      isStale: () => false,
      progressed: () => (progressed += 1),
    });
    for (const name of ['a1', 'a2', 'b1', 'c1']) scheduler.add(name.charAt(0), name);
    expect([started, scheduler.running, scheduler.wantsMore]).toEqual([['a1', 'b1'], 2, false]);
    await settle();
    expect([started, scheduler.pending, progressed]).toEqual([['a1', 'b1', 'c1', 'a2'], 0, 2]);
  });

  it('go on behind work that throws or rejects, of which the owner is told', async () => {
    const errors: unknown[] = [];
    const ended: string[] = [];
    const scheduler = new LaneScheduler<string>({
      timers: new VirtualTime(),
      concurrency: 1,
      run: (name) => {
        if (name === 'throws') throw new Error(name);
        return name === 'rejects' ? Promise.reject(new Error(name)) : undefined;
      },
      failed: (error) => errors.push((error as Error).message),
      ended: (name) => ended.push(name),
      isStale: () => false,
      progressed: () => {},
    });
    for (const name of ['throws', 'rejects', 'works']) scheduler.add('a', name);
    await settle();
    expect([errors, ended, scheduler.pending]).toEqual([['throws', 'rejects'], ['throws', 'rejects', 'works'], 0]);
  });

  it.each([1, 2, 3, 4, 5])('never overlap or reorder one lane, whatever fails when (seed %i)', async (seed) => {
    const random = seededRandom(seed);
    const time = new VirtualTime();
    const running = new Set<string>();
    const done: { lane: string; index: number }[] = [];
    const scheduler = new LaneScheduler<{ lane: string; index: number }>({
      timers: time,
      concurrency: 4,
      run: async (item) => {
        expect(running.has(item.lane)).toBe(false);
        running.add(item.lane);
        expect(running.size).toBeLessThanOrEqual(4);
        await new Promise<void>((resolve) => {
          time.after(random.integer(10), resolve);
        });
        running.delete(item.lane);
        if (random.float() < 0.3) return random.integer(50);
        done.push(item);
        return undefined;
      },
      isStale: () => false,
      progressed: () => {},
    });
    for (let index = 0; index < 300; index++) {
      const lane = `lane-${random.integer(9)}`;
      scheduler.add(lane, { lane, index });
    }
    await time.until(() => scheduler.pending === 0);
    for (const lane of new Set(done.map((item) => item.lane))) {
      const order = done.filter((item) => item.lane === lane).map(({ index }) => index);
      expect(order).toEqual(order.toSorted((a, b) => a - b));
    }
    expect(done.length).toBe(300);
  });
});
