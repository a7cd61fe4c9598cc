/**
 * Checks what writers and readers saw of a broker against what a log with transactions promises, after Jepsen's Kafka workload.
 *
 * Tell it, while a test runs, what was sent, what was acknowledged, how transactions ended and what was polled; ask it at the
 * end, when its groups have drained every partition. All readers read committed events only. A value names its writer and a
 * counter (`history-values.ts`): `sending` gives them, and what travels is the value.
 *
 * Writers and readers may be told of by different processes, each in its own order: a value may be read before it is told that
 * it was sent. Whoever needs precommitted-read to be exact gives moments of one clock.
 *
 * What is not told is not known: a send or an end without an answer may have happened or not, once and for all.
 *
 * Owns the history and its judgement; knows nothing of clients or brokers.
 *
 * Memory: a byte for each value, 9 for each offset that is not judged yet and 4 for each that is; a span for each transaction.
 */
import { assert } from '@naru/base';
import { HistoryLog, MAX_GROUPS } from './history-log.ts';
import { MAX_WRITERS, counterOf, describeValue, isValue, valueOf, writerOf } from './history-values.ts';
import { ViolationList } from './history-violations.ts';
import type { Violation, ViolationKind } from './history-violations.ts';
import { ACKNOWLEDGED, FAILED, HistoryWriter, PLACED, READ } from './history-writer.ts';
import type { SpanAccount } from './history-writer.ts';

export interface HistoryLimits {
  /** Values of one history; more is a mistake of the test. */
  readonly maxValues: number;
  /** Places of one partition, not judged yet, where a poll did not go on at the next offset. */
  readonly maxGaps: number;
  /** Violations of a kind that are described; all are counted. */
  readonly maxExamples: number;
}

export const DEFAULT_HISTORY_LIMITS: HistoryLimits = { maxValues: 20_000_000, maxGaps: 1_000_000, maxExamples: 10 };

export interface HistoryReport {
  readonly sent: number;
  readonly acknowledged: number;
  /** Sends that failed for certain. */
  readonly failed: number;
  /** Offsets with a value, as far as anybody saw. */
  readonly stored: number;
  /** Values that somebody has read. */
  readonly read: number;
  readonly polls: number;
  /** With at least one value. `unknown`: their commit was asked for, and what became of it was not heard. */
  readonly transactions: Readonly<Record<'committed' | 'aborted' | 'unknown' | 'left', number>>;
  /** Offsets that were kept in full, at most. */
  readonly maxLiveOffsets: number;
  readonly counts: Readonly<Partial<Record<ViolationKind, number>>>;
  /** Examples, at most `maxExamples` of a kind. */
  readonly violations: readonly Violation[];
}

export interface PolledEvent {
  readonly offset: number;
  readonly value: number;
}

export class HistoryChecker {
  readonly #limits: HistoryLimits;
  readonly #groups: readonly string[];
  readonly #writers: HistoryWriter[] = [];
  readonly #logs = new Map<string, HistoryLog>();
  /** By member and partition: the last offset that it polled. */
  readonly #positions = new Map<string, Map<string, number>>();
  readonly #found: ViolationList;
  #sent = 0;
  #polls = 0;
  #maxLive = 0;
  #now = 0;

  /** @param groups have read everything, from the beginning, when the history is checked; at least one */
  constructor(groups: readonly string[], limits: Partial<HistoryLimits> = {}) {
    assert(groups.length > 0 && groups.length <= MAX_GROUPS, `1 to ${MAX_GROUPS} groups read everything`);
    this.#limits = { ...DEFAULT_HISTORY_LIMITS, ...limits };
    this.#groups = groups;
    this.#found = new ViolationList(this.#limits.maxExamples);
  }

  /** Somebody who sends in order, and has one transaction at a time. A client that starts anew is another writer. */
  writer(name: string): number {
    assert(this.#writers.length < MAX_WRITERS, `a history has at most ${MAX_WRITERS} writers`);
    this.#writers.push(new HistoryWriter(name));
    return this.#writers.length - 1;
  }

  /**
   * The writer hands these over in this order, in one go; in its transaction, when one is open.
   *
   * @returns their values, which the writer may as well know by itself: its counter goes up by one with each
   */
  sending(writer: number, count = 1): number[] {
    const state = this.#writer(writer);
    this.#sent += count;
    assert(this.#sent <= this.#limits.maxValues, `the history has at most ${this.#limits.maxValues} values`);
    const first = state.sent;
    state.send(count);
    return Array.from({ length: count }, (_, index) => valueOf(writer, first + index));
  }

  /** The broker said that the value is durable at this offset. */
  acknowledged(value: number, partition: string, offset: number): void {
    const writer = this.#writer(writerOf(value));
    const counter = counterOf(value);
    assert(counter < writer.sent, `value ${describeValue(value)} was sent`);
    writer.mark(counter, ACKNOWLEDGED);
    const place = this.#place(writer, value, partition, offset);
    if (place !== 'passed' || writer.outcomeOf(counter) !== 'none') return;
    this.#found.add('lost-write', `everybody went past ${describeValue(value)} at ${partition}/${offset}`);
  }

  /** The broker refused the value: it must never be read. A send of unknown outcome is not told at all. */
  failed(value: number): void {
    this.#writer(writerOf(value)).mark(counterOf(value), FAILED);
  }

  /** What the writer sends from now on is one transaction. The one before stays as it is: open, or of unknown end. */
  begin(writer: number): void {
    this.#writer(writer).begin();
  }

  /** Said before the commit is asked for. @param at on the clock of `polled` */
  committing(writer: number, at = this.#tick()): void {
    const state = this.#writer(writer);
    for (const counter of state.ending(at)) {
      const value = describeValue(valueOf(writer, counter));
      this.#found.add('precommitted-read', `${value} of ${state.name} was read before its commit was asked for`);
    }
  }

  committed(writer: number): void {
    this.#writer(writer).committed();
  }

  /** It was aborted, or is going to be and its commit was never asked for. */
  aborted(writer: number): void {
    this.#writer(writer).aborted();
  }

  /** The transaction is left as it is, open or of unknown end; what comes is in none. */
  left(writer: number): void {
    this.#writer(writer).left();
  }

  /** A member of a group got these from one partition, in this order, in one poll. @param at when it had them */
  polled(
    group: string,
    member: string,
    partition: string,
    events: readonly PolledEvent[],
    at: number = this.#tick(),
  ): void {
    this.#polls += 1;
    const log = this.#log(partition);
    const positions = this.#memberPositions(member);
    const groupIndex = this.#groups.indexOf(group);
    let previous = positions.get(partition);
    for (const [index, { offset, value }] of events.entries()) {
      if (previous !== undefined) this.#follow(index > 0, member, log, previous, offset);
      previous = offset;
      const writer = isValue(value) ? this.#writers[writerOf(value)] : undefined;
      if (writer === undefined) {
        this.#found.add('phantom', `${partition}/${offset} holds ${value}, which nobody sent`);
        continue;
      }
      writer.readAt(counterOf(value), at);
      writer.mark(counterOf(value), READ);
      const place = this.#place(writer, value, partition, offset);
      if (place === 'here') log.read(offset, groupIndex);
      if (place !== 'passed') continue;
      this.#found.add('poll-skip', `everybody else went past ${describeValue(value)} at ${partition}/${offset}`);
    }
    if (previous !== undefined) positions.set(partition, previous);
    this.#maxLive = Math.max(this.#maxLive, this.#live());
    log.collapse();
  }

  /** The member was given the partition, or lost it, or sought: its next poll may begin anywhere. */
  repositioned(member: string, partition: string): void {
    this.#positions.get(member)?.delete(partition);
  }

  /** Values that somebody has read. */
  *readValues(): Iterable<number> {
    for (const [number, writer] of this.#writers.entries()) {
      for (let counter = 0; counter < writer.known; counter++) {
        if ((writer.flags(counter) & READ) !== 0) yield valueOf(number, counter);
      }
    }
  }

  /** Once, at the end. */
  check(): HistoryReport {
    const tell = (kind: ViolationKind, message: string): void => this.#found.add(kind, message);
    let stored = 0;
    for (const log of this.#logs.values()) {
      log.finish(tell);
      stored += log.stored;
    }
    const transactions = { committed: 0, aborted: 0, unknown: 0, left: 0 };
    const kinds = {
      committed: 'committed',
      aborted: 'aborted',
      ending: 'unknown',
      open: 'left',
      none: 'left',
    } as const;
    const sums = { acknowledged: 0, failed: 0, read: 0 };
    for (const writer of this.#writers) {
      for (const account of writer.transactions()) {
        if (account.size > 0) transactions[kinds[account.outcome]] += 1;
        this.#checkTransaction(writer, account);
      }
      this.#checkValues(writer, sums);
    }
    return {
      sent: this.#sent,
      ...sums,
      stored,
      polls: this.#polls,
      transactions,
      maxLiveOffsets: this.#maxLive,
      counts: this.#found.counts,
      violations: this.#found.examples,
    };
  }

  /** Everybody has all of it, or nobody has any of it. */
  #checkTransaction(writer: HistoryWriter, { outcome, start, size, seen, reads }: SpanAccount): void {
    const name = `the transaction of ${writer.name} from ${start} on`;
    if (outcome === 'open' && seen > 0) {
      this.#found.add('precommitted-read', `${seen} values were read of ${name}, and its commit was never asked for`);
    }
    if (outcome === 'open' || outcome === 'aborted') return;
    if (size === 0 || (outcome === 'ending' && seen === 0)) return;
    if (seen === 0) {
      this.#found.add('lost-write', `${name}, committed, was read by nobody`);
      return;
    }
    for (const [group, groupName] of this.#groups.entries()) {
      const read = reads[group] ?? 0;
      // A value that is there twice is told as that.
      if (read >= size) continue;
      if (read === 0) this.#found.add('unseen', `${name}, committed, was not read by ${groupName}`);
      else this.#found.add('torn-transaction', `${groupName} has read ${read} of the ${size} values of ${name}`);
    }
  }

  #checkValues(writer: HistoryWriter, sums: { acknowledged: number; failed: number; read: number }): void {
    for (let counter = 0; counter < writer.sent; counter++) {
      const flags = writer.flags(counter);
      if ((flags & ACKNOWLEDGED) !== 0) sums.acknowledged += 1;
      if ((flags & FAILED) !== 0) sums.failed += 1;
      if ((flags & READ) === 0) continue;
      sums.read += 1;
      const outcome = (flags & FAILED) !== 0 ? 'its send had failed' : 'its transaction was aborted';
      if ((flags & FAILED) === 0 && writer.outcomeOf(counter) !== 'aborted') continue;
      this.#found.add('G1a', `${counter} of ${writer.name} was read although ${outcome}`);
    }
  }

  #writer(number: number): HistoryWriter {
    const writer = this.#writers[number];
    assert(writer !== undefined, `there is a writer ${number}`);
    return writer;
  }

  #log(partition: string): HistoryLog {
    const found = this.#logs.get(partition);
    if (found !== undefined) return found;
    const log = new HistoryLog(partition, { groups: this.#groups, writer: (number) => this.#writers[number] });
    this.#logs.set(partition, log);
    return log;
  }

  #live(): number {
    let live = 0;
    for (const log of this.#logs.values()) live += log.live;
    return live;
  }

  #memberPositions(member: string): Map<string, number> {
    const found = this.#positions.get(member) ?? new Map<string, number>();
    this.#positions.set(member, found);
    return found;
  }

  #tick(): number {
    this.#now += 1;
    return this.#now;
  }

  /** Somebody saw the value at this offset: it is there, another one is, or everybody has gone past it and saw nothing. */
  #place(writer: HistoryWriter, value: number, partition: string, offset: number): 'here' | 'other' | 'passed' {
    const here = `${partition}/${offset}`;
    const placed = this.#log(partition).place(offset, value);
    const isPlaced = (writer.flags(counterOf(value)) & PLACED) !== 0;
    writer.mark(counterOf(value), PLACED);
    if (placed === 'passed') return 'passed';
    if (typeof placed === 'object') {
      this.#found.add('inconsistent-offsets', `${here} holds ${placed.other} and ${describeValue(value)}`);
      return 'other';
    }
    if (placed === 'new' && isPlaced) {
      this.#found.add('duplicate', () => {
        const before = [...this.#logs].map(([name, log]) => `${name}/${log.offsetOf(value) ?? '?'}`);
        const others = before.filter((place) => place !== here && !place.endsWith('?'));
        const text = others.length === 0 ? 'where it was judged already' : others.join(', ');
        return `${describeValue(value)} of ${writer.name} is at ${here} and ${text}`;
      });
    }
    return 'here';
  }

  #follow(isInside: boolean, member: string, log: HistoryLog, previous: number, offset: number): void {
    if (offset <= previous) {
      const kind = isInside ? 'int-nonmonotonic-poll' : 'nonmonotonic-poll';
      this.#found.add(kind, `${member} polled ${log.name}/${offset} after ${previous}`);
    } else if (offset > previous + 1) {
      const kind = isInside ? 'int-poll-skip' : 'poll-skip';
      log.leftOut({ kind, member, after: previous, before: offset }, this.#limits.maxGaps);
    }
  }
}
