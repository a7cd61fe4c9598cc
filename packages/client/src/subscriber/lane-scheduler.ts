/**
 * Runs work concurrently, and the work of one lane strictly in sequence. A lane is a key of a partition; work without a
 * lane runs whenever there is a place.
 *
 * Work that asks to be done again later keeps its lane but not its place, so that a failing key delays nobody else.
 * Bounded by its caller, who looks at {@link LaneScheduler.pending} and {@link LaneScheduler.wantsMore} before adding.
 */
import type { TimerHandle, Timers } from '@naru/base';

/** Undefined when the work is over; else milliseconds after which to do it again. */
export type WorkOutcome = number | undefined;

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
  /** A place or a lane has become free. */
  progressed(): void;
}

export class LaneScheduler<T> {
  readonly #options: LaneSchedulerOptions<T>;
  /** Work that waits behind other work of its lane; a lane that is here is occupied. */
  readonly #lanes = new Map<string, T[]>();
  readonly #runnable: Work<T>[] = [];
  readonly #delayed = new Map<Work<T>, TimerHandle>();
  #running = 0;
  #pending = 0;
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

  /** Whether a place is or would soon be free for work of another lane. */
  get wantsMore(): boolean {
    return !this.#isStopped && this.#running + this.#runnable.length < this.#options.concurrency;
  }

  add(lane: string | null, item: T): void {
    this.#pending += 1;
    if (lane !== null) {
      const waiting = this.#lanes.get(lane);
      if (waiting !== undefined) {
        waiting.push(item);
        return;
      }
      this.#lanes.set(lane, []);
    }
    this.#runnable.push({ lane, item });
    this.#start();
  }

  /** Starts nothing any more; what is running goes on. */
  stop(): void {
    this.#isStopped = true;
    for (const timer of this.#delayed.values()) timer.cancel();
    this.#delayed.clear();
    this.#runnable.length = 0;
    this.#lanes.clear();
    this.#pending = this.#running;
  }

  /** Looks again at delayed work that has become stale, so that it is not kept until its time. */
  dropStale(): void {
    for (const [work, timer] of this.#delayed) {
      if (!this.#options.isStale(work.item)) continue;
      timer.cancel();
      this.#delayed.delete(work);
      this.#over(work);
    }
    this.#start();
  }

  #start(): void {
    while (!this.#isStopped && this.#running < this.#options.concurrency) {
      const work = this.#runnable.shift();
      if (work === undefined) return;
      if (this.#options.isStale(work.item)) this.#over(work);
      else void this.#run(work);
    }
  }

  async #run(work: Work<T>): Promise<void> {
    this.#running += 1;
    const againMs = await this.#options.run(work.item);
    this.#running -= 1;
    if (this.#isStopped) this.#pending -= 1;
    else if (againMs === undefined) this.#over(work);
    else this.#delay(work, againMs);
    this.#start();
    this.#options.progressed();
  }

  #delay(work: Work<T>, delayMs: number): void {
    const timer = this.#options.timers.after(delayMs, () => {
      this.#delayed.delete(work);
      this.#runnable.unshift(work);
      this.#start();
    });
    this.#delayed.set(work, timer);
  }

  #over({ lane }: Work<T>): void {
    this.#pending -= 1;
    if (lane === null) return;
    const next = this.#lanes.get(lane)?.shift();
    if (next === undefined) this.#lanes.delete(lane);
    else this.#runnable.push({ lane, item: next });
  }
}
