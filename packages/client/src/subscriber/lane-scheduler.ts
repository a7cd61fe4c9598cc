/**
 * Runs work concurrently, and the work of one lane strictly in sequence. A lane is a key of a partition; work without a
 * lane runs whenever there is a place.
 *
 * Work that asks to be done again later keeps its lane but not its place, so that a failing key delays nobody else. A lane can
 * also be suspended, with nothing of it running until it is resumed, and be emptied.
 * Bounded by its caller, who looks at {@link LaneScheduler.pending}, {@link LaneScheduler.failing} and
 * {@link LaneScheduler.wantsMore} before adding.
 */
import { assert } from '@naru/base';
import type { TimerHandle, Timers } from '@naru/base';

/** Undefined when the work is over; milliseconds after which to do it again; or over, with its lane suspended. */
export type WorkOutcome = number | 'suspend' | undefined;

interface Lane<T> {
  /** Behind the work at its head. */
  readonly waiting: T[];
  item: T;
  head: 'runnable' | 'running' | 'delayed' | 'suspended';
}

interface Work<T> {
  readonly lane: string | null;
  readonly item: T;
}

export interface LaneSchedulerOptions<T> {
  readonly timers: Timers;
  /** Work done at a time. */
  readonly concurrency: number;
  /** Must not reject. */
  run(item: T): Promise<WorkOutcome>;
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
  readonly #lanes = new Map<string, Lane<T>>();
  /** Those of them that wait to be resumed. */
  readonly #suspended = new Map<string, Lane<T>>();
  readonly #runnable: Work<T>[] = [];
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
    return this.#lanes.get(lane)?.waiting.length ?? 0;
  }

  add(lane: string | null, item: T): void {
    if (this.#isStopped) return;
    this.#pending += 1;
    if (lane !== null) {
      const occupied = this.#lanes.get(lane);
      if (occupied !== undefined) {
        occupied.waiting.push(item);
        if (occupied.head === 'delayed') this.#failing += 1;
        return;
      }
      this.#lanes.set(lane, { waiting: [], item, head: 'runnable' });
    }
    this.#runnable.push({ lane, item });
    this.#start();
  }

  /** Puts work at the beginning of what waits in an occupied lane. */
  addFirst(lane: string, items: readonly T[]): void {
    const occupied = this.#lanes.get(lane);
    assert(occupied !== undefined, 'work goes first in a lane that is occupied');
    occupied.waiting.unshift(...items);
    this.#pending += items.length;
    if (occupied.head === 'delayed') this.#failing += items.length;
  }

  /** Takes out what waits in the lane behind its head; of that, what `which` says. */
  takeWaiting(lane: string, which: (item: T) => boolean = () => true): T[] {
    const occupied = this.#lanes.get(lane);
    if (occupied === undefined) return [];
    const taken = occupied.waiting.filter((item) => which(item));
    const left = occupied.waiting.filter((item) => !taken.includes(item));
    occupied.waiting.length = 0;
    occupied.waiting.push(...left);
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
    this.#next(lane, occupied);
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
      this.#next(lane, occupied);
    }
    this.#start();
  }

  #start(): void {
    while (!this.#isStopped && this.#running < this.#options.concurrency) {
      if (this.#runnable.length === 0 || this.#options.mayStart?.() === false) return;
      const work = this.#runnable.shift() as Work<T>;
      if (!this.#options.isStale(work.item)) void this.#run(work);
      else {
        this.#options.dropped?.(work.item);
        this.#over(work);
      }
    }
  }

  async #run(work: Work<T>): Promise<void> {
    this.#running += 1;
    this.#setHead(work.lane, 'running');
    const outcome = await this.#options.run(work.item);
    this.#running -= 1;
    if (this.#isStopped) this.#pending -= 1;
    else if (outcome === undefined) this.#over(work);
    else if (outcome === 'suspend') this.#suspend(work);
    else this.#delay(work, outcome);
    this.#start();
    this.#options.progressed();
  }

  #suspend(work: Work<T>): void {
    if (work.lane === null) {
      this.#over(work);
      return;
    }
    this.#pending -= 1;
    const occupied = this.#lanes.get(work.lane) as Lane<T>;
    occupied.head = 'suspended';
    this.#suspended.set(work.lane, occupied);
  }

  #delay(work: Work<T>, delayMs: number): void {
    this.#setHead(work.lane, 'delayed');
    this.#failing += 1 + (work.lane === null ? 0 : this.waiting(work.lane));
    const timer = this.#options.timers.after(delayMs, () => {
      this.#undelay(work);
      this.#setHead(work.lane, 'runnable');
      this.#runnable.unshift(work);
      this.#start();
    });
    this.#delayed.set(work, timer);
  }

  #undelay(work: Work<T>): void {
    this.#delayed.delete(work);
    this.#failing -= 1 + (work.lane === null ? 0 : this.waiting(work.lane));
  }

  #over({ lane }: Work<T>): void {
    this.#pending -= 1;
    const occupied = lane === null ? undefined : this.#lanes.get(lane);
    if (lane !== null && occupied !== undefined) this.#next(lane, occupied);
  }

  #next(lane: string, occupied: Lane<T>): void {
    this.#suspended.delete(lane);
    const next = occupied.waiting.shift();
    if (next === undefined) {
      this.#lanes.delete(lane);
      return;
    }
    occupied.head = 'runnable';
    occupied.item = next;
    this.#runnable.push({ lane, item: next });
  }

  #setHead(lane: string | null, head: Lane<T>['head']): void {
    const occupied = lane === null ? undefined : this.#lanes.get(lane);
    if (occupied !== undefined) occupied.head = head;
  }
}
