/**
 * What one writer of a history has sent: a byte for each value, and its transactions, which are spans of its counters, since a
 * writer has one open at a time.
 */
import { assert } from '@naru/base';
import { GrowingBytes } from './history-values.ts';

/** What is known of a value. */
export const ACKNOWLEDGED = 1;
export const FAILED = 2;
/** Its offset is known. */
export const PLACED = 4;
/** Somebody has read it. */
export const READ = 8;
/** The first value of a call. */
const CALL = 16;

/**
 * `none`: not in a transaction. `open`: its commit was not asked for. `ending`: it was, and what came of it is not known;
 * the history may leave it so.
 */
export type SpanOutcome = 'none' | 'open' | 'ending' | 'committed' | 'aborted';

/** Values from a counter up to the next span's. */
interface Span {
  readonly start: number;
  outcome: SpanOutcome;
  /** By group: how many of its values that has read, of what was judged already. */
  readonly reads: number[];
}

/** What has been read of a transaction at the end. */
export interface SpanAccount {
  readonly outcome: SpanOutcome;
  readonly start: number;
  /** Without those whose send had failed. */
  readonly size: number;
  readonly seen: number;
  readonly reads: readonly number[];
}

export class HistoryWriter {
  readonly name: string;
  readonly #flags = new GrowingBytes();
  readonly #spans: Span[] = [{ start: 0, outcome: 'none', reads: [] }];
  /** By counter: when a value was read whose transaction was not known to be ending; only what is undecided. */
  readonly #early = new Map<number, number>();
  #sent = 0;

  constructor(name: string) {
    this.name = name;
  }

  /** The next value's counter. */
  get sent(): number {
    return this.#sent;
  }

  flags(counter: number): number {
    return this.#flags.get(counter);
  }

  mark(counter: number, flag: number): void {
    this.#flags.add(counter, flag);
  }

  /** A call with the next `count` values. */
  send(count: number): void {
    assert(count > 0, 'a call sends something');
    this.#flags.add(this.#sent, CALL);
    this.#sent += count;
    const { outcome } = this.#last;
    assert(outcome === 'none' || outcome === 'open', `${this.name} sends before it has ended its transaction`);
    if (outcome === 'none') for (const counter of this.#early.keys()) this.#forget(counter);
  }

  begin(): void {
    // One that was left open, or of unknown end, stays so.
    this.#span('open');
  }

  /** @returns counters that had been read before `at`, when nobody had asked for a commit */
  ending(at: number): number[] {
    const { outcome } = this.#last;
    assert(outcome === 'open', `${this.name} has a transaction open`);
    this.#last.outcome = 'ending';
    const tooEarly = [...this.#early].filter(([counter, readAt]) => counter < this.#sent && readAt < at);
    for (const counter of this.#early.keys()) this.#forget(counter);
    return tooEarly.map(([counter]) => counter);
  }

  committed(): void {
    assert(this.#last.outcome === 'ending', `${this.name} has asked for a commit`);
    this.#last.outcome = 'committed';
    this.#span('none');
  }

  aborted(): void {
    const { outcome } = this.#last;
    assert(outcome === 'open' || outcome === 'ending', `${this.name} has a transaction`);
    this.#last.outcome = 'aborted';
    for (const counter of this.#early.keys()) this.#forget(counter);
    this.#span('none');
  }

  /** Nobody will know what became of the commit. */
  left(): void {
    const { outcome } = this.#last;
    assert(outcome === 'open' || outcome === 'ending', `${this.name} has a transaction`);
    this.#span('none');
  }

  /** The value was read; what is early is judged when the writer says more. */
  readAt(counter: number, at: number): void {
    const isOpen = counter >= this.#sent || this.outcomeOf(counter) === 'open';
    if (isOpen && !this.#early.has(counter)) this.#early.set(counter, at);
  }

  outcomeOf(counter: number): SpanOutcome {
    return this.#spanOf(counter).outcome;
  }

  /** Whether a reader of committed events is to have it, as far as is known. */
  isVisible(counter: number): boolean {
    const flags = this.flags(counter);
    if ((flags & READ) !== 0) return true;
    if ((flags & FAILED) !== 0) return false;
    const outcome = this.outcomeOf(counter);
    return outcome === 'committed' || (outcome === 'none' && (flags & ACKNOWLEDGED) !== 0);
  }

  /** A group has read the value: counted once for each place of it. */
  countRead(counter: number, group: number): void {
    const { reads } = this.#spanOf(counter);
    while (reads.length <= group) reads.push(0);
    reads[group] = (reads[group] ?? 0) + 1;
  }

  /** Whether both were given in one call; `first` ≤ `second`. */
  areOneCall(first: number, second: number): boolean {
    for (let counter = second; counter > first; counter--) if ((this.flags(counter) & CALL) !== 0) return false;
    return true;
  }

  /** Of every transaction with a value. */
  *transactions(): Iterable<SpanAccount> {
    for (const [index, { start, outcome, reads }] of this.#spans.entries()) {
      if (outcome === 'none') continue;
      const end = this.#spans[index + 1]?.start ?? this.#sent;
      let size = 0;
      let seen = 0;
      for (let counter = start; counter < end; counter++) {
        const flags = this.flags(counter);
        if ((flags & FAILED) === 0) size += 1;
        if ((flags & READ) !== 0) seen += 1;
      }
      yield { outcome, start, size, seen, reads };
    }
  }

  /** Counters at which something is known, sent or not. */
  get known(): number {
    return Math.max(this.#sent, this.#flags.length);
  }

  get #last(): Span {
    return this.#spans.at(-1) as Span;
  }

  /** What is sent from now on. */
  #span(outcome: 'none' | 'open'): void {
    const last = this.#last;
    if (last.start === this.#sent && last.outcome === 'none') this.#spans.pop();
    this.#spans.push({ start: this.#sent, outcome, reads: [] });
  }

  #spanOf(counter: number): Span {
    let low = 0;
    let high = this.#spans.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if ((this.#spans[middle] as Span).start <= counter) low = middle;
      else high = middle - 1;
    }
    return this.#spans[low] as Span;
  }

  #forget(counter: number): void {
    if (counter < this.#sent) this.#early.delete(counter);
  }
}
