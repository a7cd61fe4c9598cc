/**
 * Checks what publishers and subscribers saw of a broker against what a log promises, after Jepsen's Kafka workload.
 *
 * Tell it, while a test runs, what was sent, what was acknowledged and what was polled; ask it at the end, after a reader
 * has drained every partition. Values are integers that the test gives, unique over the whole history.
 *
 * Owns the history and its judgement; knows nothing of clients or brokers. Transactions are not in it yet: with them come
 * precommitted-read, and G1a for aborted ones.
 *
 * Memory: some words for each value and for each offset, never payloads; {@link HistoryLimits} bound both.
 */
import { assert } from '@naru/base';

export const VIOLATION_KINDS = [
  /** Two values at one offset, whoever saw them. */
  'inconsistent-offsets',
  /** One value at two offsets. */
  'duplicate',
  /** Acknowledged and read by nobody, although a later offset of its partition was read. */
  'lost-write',
  /** Acknowledged and not read by a group until its end. */
  'unseen',
  /** A value was read whose send had failed for certain. */
  'G1a',
  /** A value was read that nobody sent. */
  'phantom',
  /** Inside one poll, a value of the log was left out. */
  'int-poll-skip',
  /** Inside one poll, offsets do not grow. */
  'int-nonmonotonic-poll',
  /** Between two polls of a member, a value of the log was left out. */
  'poll-skip',
  /** Between two polls of a member, offsets do not grow. */
  'nonmonotonic-poll',
  /** Two values of one call of a publisher are in the log the other way round. */
  'int-nonmonotonic-send',
  /** Two values of different calls of a publisher are in the log the other way round. */
  'nonmonotonic-send',
] as const;

export type ViolationKind = (typeof VIOLATION_KINDS)[number];

export interface Violation {
  readonly kind: ViolationKind;
  readonly message: string;
}

export interface HistoryLimits {
  /** Values of one history; more is a mistake of the test. */
  readonly maxValues: number;
  /** Places where a poll did not go on at the next offset. */
  readonly maxGaps: number;
  /** Violations of a kind that are described; all are counted. */
  readonly maxExamples: number;
}

export const DEFAULT_HISTORY_LIMITS: HistoryLimits = { maxValues: 10_000_000, maxGaps: 100_000, maxExamples: 10 };

export interface HistoryReport {
  readonly sent: number;
  readonly acknowledged: number;
  /** Sends that failed for certain. */
  readonly failed: number;
  /** Values in the log, as far as anybody saw. */
  readonly stored: number;
  readonly polls: number;
  readonly counts: Readonly<Partial<Record<ViolationKind, number>>>;
  /** Examples, at most `maxExamples` of a kind. */
  readonly violations: readonly Violation[];
}

export interface PolledEvent {
  readonly offset: number;
  readonly value: number;
}

interface Place {
  readonly partition: string;
  readonly offset: number;
}

/** A value's life. */
interface ValueState {
  readonly publisher: string;
  /** Values sent in one call have the same. */
  readonly call: number;
  outcome: 'unknown' | 'acknowledged' | 'failed';
  place: Place | null;
  isRead: boolean;
}

/** Offsets strictly between `after` and `before` were not in a member's polls. */
interface Gap {
  readonly kind: 'int-poll-skip' | 'poll-skip';
  readonly member: string;
  readonly partition: string;
  readonly after: number;
  readonly before: number;
}

export class HistoryChecker {
  readonly #limits: HistoryLimits;
  /** In the order of sending: a publisher's values are in its order. */
  readonly #values = new Map<number, ValueState>();
  /** By partition: what is at an offset, as the first who saw it said. */
  readonly #logs = new Map<string, Map<number, number>>();
  /** By group: what it has read. */
  readonly #readBy = new Map<string, Set<number>>();
  /** By member and partition: the last offset that it polled. */
  readonly #positions = new Map<string, Map<string, number>>();
  readonly #gaps: Gap[] = [];
  readonly #examples: Violation[] = [];
  readonly #counts = new Map<ViolationKind, number>();
  #calls = 0;
  #polls = 0;

  constructor(limits: Partial<HistoryLimits> = {}) {
    this.#limits = { ...DEFAULT_HISTORY_LIMITS, ...limits };
  }

  /** A publisher hands over values in this order, in one go. Say so before they can be stored. */
  sending(publisher: string, values: readonly number[]): void {
    this.#calls += 1;
    for (const value of values) {
      assert(Number.isSafeInteger(value), `value ${value} is a safe integer`);
      assert(!this.#values.has(value), `value ${value} is sent once`);
      assert(this.#values.size < this.#limits.maxValues, `the history has at most ${this.#limits.maxValues} values`);
      this.#values.set(value, { publisher, call: this.#calls, outcome: 'unknown', place: null, isRead: false });
    }
  }

  /** The broker said that the value is durable at this offset. */
  acknowledged(value: number, partition: string, offset: number): void {
    const state = this.#sent(value);
    state.outcome = 'acknowledged';
    this.#place(value, state, partition, offset);
  }

  /** The broker refused the value: it must never be read. A send of unknown outcome is not told at all. */
  failed(value: number): void {
    this.#sent(value).outcome = 'failed';
  }

  /** A member of a group got these from one partition, in this order, in one poll. */
  polled(group: string, member: string, partition: string, events: readonly PolledEvent[]): void {
    this.#polls += 1;
    const readBy = this.#readers(group);
    const positions = this.#memberPositions(member);
    let previous = positions.get(partition);
    for (const [index, { offset, value }] of events.entries()) {
      if (previous !== undefined) this.#follow(index > 0, member, partition, previous, offset);
      previous = offset;
      readBy.add(value);
      const state = this.#values.get(value);
      if (state === undefined) {
        this.#violation('phantom', `${partition}/${offset} holds ${value}, which nobody sent`);
        continue;
      }
      state.isRead = true;
      this.#place(value, state, partition, offset);
    }
    if (previous !== undefined) positions.set(partition, previous);
  }

  /** The member was given the partition, or lost it, or sought: its next poll may begin anywhere. */
  repositioned(member: string, partition: string): void {
    this.#positions.get(member)?.delete(partition);
  }

  /** @param drained groups that have read everything, from the beginning; at least one */
  check(drained: readonly string[]): HistoryReport {
    assert(drained.length > 0, 'somebody has read everything');
    this.#checkGaps();
    this.#checkReads(drained);
    this.#checkSends();
    const outcomes = [...this.#values.values()].map(({ outcome }) => outcome);
    let stored = 0;
    for (const log of this.#logs.values()) stored += log.size;
    return {
      sent: this.#values.size,
      acknowledged: outcomes.filter((outcome) => outcome === 'acknowledged').length,
      failed: outcomes.filter((outcome) => outcome === 'failed').length,
      stored,
      polls: this.#polls,
      counts: Object.fromEntries(this.#counts),
      violations: [...this.#examples],
    };
  }

  #sent(value: number): ValueState {
    const state = this.#values.get(value);
    assert(state !== undefined, `value ${value} was sent`);
    return state;
  }

  #readers(group: string): Set<number> {
    const found = this.#readBy.get(group) ?? new Set();
    this.#readBy.set(group, found);
    return found;
  }

  #memberPositions(member: string): Map<string, number> {
    const found = this.#positions.get(member) ?? new Map<string, number>();
    this.#positions.set(member, found);
    return found;
  }

  /** Somebody saw `value` at this offset. */
  #place(value: number, state: ValueState, partition: string, offset: number): void {
    const log = this.#logs.get(partition) ?? new Map<number, number>();
    this.#logs.set(partition, log);
    const there = log.get(offset);
    if (there === undefined) {
      log.set(offset, value);
    } else if (there !== value) {
      this.#violation('inconsistent-offsets', `${partition}/${offset} holds ${there} and ${value}`);
    }
    if (state.place === null) {
      state.place = { partition, offset };
    } else if (state.place.partition !== partition || state.place.offset !== offset) {
      // Told once for a place: a second reader sees the same.
      if (there !== value) {
        this.#violation(
          'duplicate',
          `${value} is at ${state.place.partition}/${state.place.offset} and ${partition}/${offset}`,
        );
      }
    }
  }

  #follow(isInside: boolean, member: string, partition: string, previous: number, offset: number): void {
    if (offset <= previous) {
      const kind = isInside ? 'int-nonmonotonic-poll' : 'nonmonotonic-poll';
      this.#violation(kind, `${member} polled ${partition}/${offset} after ${previous}`);
    } else if (offset > previous + 1) {
      assert(this.#gaps.length < this.#limits.maxGaps, `polls have at most ${this.#limits.maxGaps} gaps`);
      const kind = isInside ? 'int-poll-skip' : 'poll-skip';
      this.#gaps.push({ kind, member, partition, after: previous, before: offset });
    }
  }

  /** An offset that holds no value (a control record, one that was compacted away) may be left out. */
  #checkGaps(): void {
    for (const { kind, member, partition, after, before } of this.#gaps) {
      const log = this.#logs.get(partition);
      for (let offset = after + 1; offset < before; offset++) {
        const value = log?.get(offset);
        if (value === undefined) continue;
        this.#violation(
          kind,
          `${member} polled ${partition}/${before} after ${after} and left out ${offset} (${value})`,
        );
        break;
      }
    }
  }

  #checkReads(drained: readonly string[]): void {
    const lastRead = new Map<string, number>();
    for (const { place, isRead } of this.#values.values()) {
      if (!isRead || place === null) continue;
      lastRead.set(place.partition, Math.max(lastRead.get(place.partition) ?? -1, place.offset));
    }
    for (const [value, { outcome, place, isRead }] of this.#values) {
      if (outcome === 'failed' && isRead) this.#violation('G1a', `${value} was read although its send had failed`);
      if (outcome !== 'acknowledged' || place === null) continue;
      const where = `${value}, acknowledged at ${place.partition}/${place.offset},`;
      if (!isRead && place.offset < (lastRead.get(place.partition) ?? -1)) {
        this.#violation('lost-write', `${where} was read by nobody, but later offsets were`);
        continue;
      }
      for (const group of drained) {
        if (!this.#readers(group).has(value)) this.#violation('unseen', `${where} was not read by ${group}`);
      }
    }
  }

  #checkSends(): void {
    const last = new Map<string, { offset: number; call: number; value: number }>();
    for (const [value, { publisher, call, place }] of this.#values) {
      if (place === null) continue;
      const key = `${publisher}\n${place.partition}`;
      const before = last.get(key);
      if (before !== undefined && place.offset < before.offset) {
        const kind = before.call === call ? 'int-nonmonotonic-send' : 'nonmonotonic-send';
        const where = `${place.partition}/${place.offset}`;
        this.#violation(kind, `${publisher} sent ${value} after ${before.value}, but it is before it, at ${where}`);
      }
      last.set(key, { offset: place.offset, call, value });
    }
  }

  #violation(kind: ViolationKind, message: string): void {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count <= this.#limits.maxExamples) this.#examples.push({ kind, message });
  }
}
