/**
 * Runs work concurrently, and the work of one lane strictly in sequence. A lane is a key of a partition; work without a
 * lane runs whenever there is a place.
 *
 * Work that asks to be done again later keeps its lane but not its place, so that a failing key delays nobody else. A lane can
 * also be suspended, with nothing of it running until it is resumed, and be emptied.
 *
 * Work that has ended gives its place and lane up in a microtask of its own, together with all that ended until then: most work ends
 * at once, and so what follows from it is done once for many, and never while more is being added.
 *
 * Bounded by its caller, who looks at {@link LaneScheduler.pending}, {@link LaneScheduler.failing} and
 * {@link LaneScheduler.wantsMore} before adding.
 */
import { assert } from '@naru/base';
import type { TimerHandle, Timers } from '@naru/base';
import type { Awaitable } from '../serde/serde.ts';
import { isPromise } from '../serde/serde.ts';

/** Undefined when the work is over; milliseconds after which to do it again; or over, with its lane suspended. */
export type WorkOutcome = number | 'suspend' | undefined;

/** A lane with what is at its head; or work without one. */
interface Work<T> {
  readonly lane: string | null;
  /** Behind the head, once there was any. */
  waiting: T[] | null;
  item: T;
  head: 'runnable' | 'running' | 'delayed' | 'suspended';
  /** Of the head, when it has ended. */
  outcome: WorkOutcome;
}

const NOW = Promise.resolve();

/**
 * In place of the last item of a lane that is over. A Map that is written and emptied all the time leaves its former tables behind,
 * each pointing to the next: once one of them is old, the young generation's collections keep all that follow, with what is in them.
 */
const OVER: unknown = null;

export interface LaneSchedulerOptions<T> {
  readonly timers: Timers;
  /** Work done at a time. */
  readonly concurrency: number;
  run(item: T): Awaitable<WorkOutcome>;
  /** Called after each run. */
  ended?(item: T): void;
  /** It threw or rejected, which it must not: it is over. */
  failed?(error: unknown): void;
  /** Whether to leave the work out: its partition was given up. Asked right before it would run. */
  isStale(item: T): boolean;
  /** Whether anything may begin now; where it may not, {@link LaneScheduler.dropStale} looks again. Default: yes. */
  mayStart?(): boolean;
  /** It was left out. */
  dropped?(item: T): void;
  /** A place or a lane has become free. */
  progressed(): void;
}

export class LaneScheduler<T> {
  readonly #options: LaneSchedulerOptions<T>;
  /** A lane that is here is occupied. */
  readonly #lanes = new Map<string, Work<T>>();
  /** Those of them that wait to be resumed. */
  readonly #suspended = new Map<string, Work<T>>();
  readonly #runnable: Work<T>[] = [];
  /** What has run and still has its place. */
  #ended: Work<T>[] = [];
  readonly #delayed = new Map<Work<T>, TimerHandle>();
  #running = 0;
  #pending = 0;
  #failing = 0;
  #isStopped = false;

  constructor(options: LaneSchedulerOptions<T>) {
    this.#options = options;
  }

  /** Work added and not over. */
  get pending(): number {
    return this.#pending;
  }

  get running(): number {
    return this.#running;
  }

  /** Work that will be done again later, and work behind it. */
  get failing(): number {
    return this.#failing;
  }

  /** Whether a place is or would soon be free for work of another lane. */
  get wantsMore(): boolean {
    return !this.#isStopped && this.#running + this.#runnable.length < this.#options.concurrency;
  }

  has(lane: string): boolean {
    return this.#lanes.has(lane);
  }

  /** Work behind the head of the lane. */
  waiting(lane: string): number {
    return this.#lanes.get(lane)?.waiting?.length ?? 0;
  }

  add(lane: string | null, item: T): void {
    if (this.#isStopped) return;
    this.#pending += 1;
    const occupied = lane === null ? undefined : this.#lanes.get(lane);
    if (occupied !== undefined) {
      (occupied.waiting ??= []).push(item);
      if (occupied.head === 'delayed') this.#failing += 1;
      return;
    }
    const work: Work<T> = { lane, waiting: null, item, head: 'runnable', outcome: undefined };
    if (lane !== null) this.#lanes.set(lane, work);
    this.#runnable.push(work);
    this.#start();
  }

  /** Puts work at the beginning of what waits in an occupied lane. */
  addFirst(lane: string, items: readonly T[]): void {
    const occupied = this.#lanes.get(lane);
    assert(occupied !== undefined, 'work goes first in a lane that is occupied');
    (occupied.waiting ??= []).unshift(...items);
    this.#pending += items.length;
    if (occupied.head === 'delayed') this.#failing += items.length;
  }

  /** Takes out what waits in the lane behind its head; of that, what `which` says. */
  takeWaiting(lane: string, which: (item: T) => boolean = () => true): T[] {
    const occupied = this.#lanes.get(lane);
    if (occupied === undefined || occupied.waiting === null) return [];
    const taken = occupied.waiting.filter((item) => which(item));
    occupied.waiting = occupied.waiting.filter((item) => !taken.includes(item));
    this.#pending -= taken.length;
    if (occupied.head === 'delayed') this.#failing -= taken.length;
    return taken;
  }

  /** Takes out work that is to be done again later, by what `which` says, with everything behind it. */
  takeDelayed(which: (item: T) => boolean): T[] {
    const taken: T[] = [];
    for (const [work, timer] of this.#delayed) {
      if (!which(work.item)) continue;
      timer.cancel();
      taken.push(work.item, ...(work.lane === null ? [] : this.takeWaiting(work.lane)));
      this.#undelay(work);
      this.#over(work);
    }
    return taken;
  }

  /** A suspended lane goes on. */
  resume(lane: string): void {
    const occupied = this.#suspended.get(lane);
    if (occupied === undefined) return;
    this.#next(occupied);
    this.#start();
  }

  /** Starts nothing any more; what is running goes on. */
  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#delayed.values()) timer.cancel();
    this.#delayed.clear();
    this.#runnable.length = 0;
    this.#lanes.clear();
    this.#suspended.clear();
    this.#pending = this.#running;
    this.#failing = 0;
  }

  /** Looks again at work that waits and has become stale, so that it is not kept until its time. */
  dropStale(): void {
    if (this.#delayed.size === 0 && this.#suspended.size === 0) {
      this.#start();
      return;
    }
    for (const [work, timer] of this.#delayed) {
      if (!this.#options.isStale(work.item)) continue;
      timer.cancel();
      this.#undelay(work);
      this.#options.dropped?.(work.item);
      this.#over(work);
    }
    for (const [lane, occupied] of this.#suspended) {
      if (!this.#options.isStale(occupied.item)) continue;
      for (const item of this.takeWaiting(lane, (one) => this.#options.isStale(one))) this.#options.dropped?.(item);
      this.#next(occupied);
    }
    this.#start();
  }

  #start(): void {
    while (!this.#isStopped && this.#running < this.#options.concurrency) {
      if (this.#runnable.length === 0 || this.#options.mayStart?.() === false) return;
      const work = this.#runnable.shift() as Work<T>;
      if (!this.#options.isStale(work.item)) this.#run(work);
      else {
        this.#options.dropped?.(work.item);
        this.#over(work);
      }
    }
  }

  #run(work: Work<T>): void {
    this.#running += 1;
    work.head = 'running';
    try {
      const outcome = this.#options.run(work.item);
      if (!isPromise(outcome)) this.#hasEnded(work, outcome);
      else {
        outcome.then(
          (value) => this.#hasEnded(work, value),
          (error: unknown) => this.#hasFailed(work, error),
        );
      }
    } catch (error) {
      this.#hasFailed(work, error);
    }
  }

  #hasFailed(work: Work<T>, error: unknown): void {
    this.#options.failed?.(error);
    this.#hasEnded(work, undefined);
  }

  #hasEnded(work: Work<T>, outcome: WorkOutcome): void {
    work.outcome = outcome;
    if (this.#ended.push(work) === 1) void NOW.then(() => this.#goOn());
  }

  /** What has ended gives its place up. */
  #goOn(): void {
    const ended = this.#ended;
    this.#ended = [];
    for (const work of ended) {
      this.#options.ended?.(work.item);
      this.#running -= 1;
      if (this.#isStopped) this.#pending -= 1;
      else if (work.outcome === undefined) this.#over(work);
      else if (work.outcome === 'suspend') this.#suspend(work);
      else this.#delay(work, work.outcome);
    }
    this.#start();
    this.#options.progressed();
  }

  #suspend(work: Work<T>): void {
    if (work.lane === null) {
      this.#over(work);
      return;
    }
    this.#pending -= 1;
    work.head = 'suspended';
    this.#suspended.set(work.lane, work);
  }

  #delay(work: Work<T>, delayMs: number): void {
    work.head = 'delayed';
    this.#failing += 1 + (work.waiting?.length ?? 0);
    const timer = this.#options.timers.after(delayMs, () => {
      this.#undelay(work);
      work.head = 'runnable';
      this.#runnable.unshift(work);
      this.#start();
    });
    this.#delayed.set(work, timer);
  }

  #undelay(work: Work<T>): void {
    this.#delayed.delete(work);
    this.#failing -= 1 + (work.waiting?.length ?? 0);
  }

  #over(work: Work<T>): void {
    this.#pending -= 1;
    if (work.lane !== null) this.#next(work);
  }

  #next(work: Work<T>): void {
    const lane = work.lane as string;
    if (this.#suspended.size > 0) this.#suspended.delete(lane);
    const next = work.waiting?.shift();
    if (next === undefined) {
      this.#lanes.delete(lane);
      work.item = OVER as T;
      return;
    }
    work.head = 'runnable';
    work.item = next;
    this.#runnable.push(work);
  }
}
