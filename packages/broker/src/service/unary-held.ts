/**
 * Held events of a member that speaks in single calls: given to it in answers, settled by its commits; and records of blocked
 * keys, which it is not given, and which are held for it.
 *
 * Owns what of them was given and passed over. Does not own positions (held-partitions.ts).
 *
 * Invariant: a record that was passed over is told of as held in every commit that says that it is finished, until that is
 * durable.
 */
import type { PartitionKey } from '@naru/base';
import { keyId, NaruError } from '@naru/protocol';
import { decodeRecords, type BatchRecord, type CompressionCodecs } from '@naru/protocol/batch';
import type { EventOutcome } from '../core/group/index.ts';
import type { AnswerSpace } from './poll-answer.ts';
import type { AssignedPartition, PartitionCommit, SessionEvent } from './session-events.ts';

/** Records of a partition that are passed over and not known to be held: reading waits there. */
export const MAX_PASSED_OVER = 1_000;

/** Of a commit, for records that an answer may give again. */
const MAX_KEPT_BEHIND = 100_000;

interface Given {
  readonly offset: number;
  readonly record: BatchRecord;
  readonly deliveryCount: number;
}

interface Keys {
  readonly topic: string;
  /** Where the group was when the partition came. */
  readonly position: number;
  readonly blocked: Set<string>;
  /** Passed over, and not known to be held, with the key of each. */
  readonly passed: Map<number, string>;
  /** Held by the commits of this member: not given when they are read again. */
  readonly held: Set<number>;
  /** To be given. */
  waiting: Given[];
  /** In the last answer. */
  last: Given[];
  /** In answers before it, which surely arrived. */
  confirmed: Given[];
}

export class UnaryHeld {
  readonly #codecs: CompressionCodecs;
  readonly #partitions = new Map<PartitionKey, Keys>();

  constructor(codecs: CompressionCodecs) {
    this.#codecs = codecs;
  }

  add({ partition, topic, position, blockedKeys = [] }: AssignedPartition): void {
    const keys = { blocked: new Set(blockedKeys), passed: new Map<number, string>(), held: new Set<number>() };
    this.#partitions.set(partition, { topic, position, ...keys, waiting: [], last: [], confirmed: [] });
  }

  delete(partition: PartitionKey): void {
    this.#partitions.delete(partition);
  }

  /** The partition is to be given up: nothing more of it is given. */
  leave(partition: PartitionKey): void {
    const keys = this.#partitions.get(partition);
    if (keys !== undefined) keys.waiting = [];
  }

  heard(event: Extract<SessionEvent, { type: 'held' | 'blocked-keys' }>): void {
    const keys = this.#partitions.get(event.partition);
    if (keys === undefined) return;
    if (event.type === 'blocked-keys') {
      for (const id of event.blocked) keys.blocked.add(id);
      const about = new Set(keys.passed.values());
      // It is told again when what was passed over is held, and done with.
      for (const id of event.unblocked) if (!about.has(id)) keys.blocked.delete(id);
      return;
    }
    for (const { offset, batch, attempts } of event.events) {
      const record = decodeRecords(batch, this.#codecs).find((one) => one.offset === offset);
      if (record !== undefined) keys.waiting.push({ offset, record, deliveryCount: attempts + 1 });
    }
  }

  get hasWaiting(): boolean {
    return [...this.#partitions.values()].some(({ waiting }) => waiting.length > 0);
  }

  /** Puts held events into an answer as long as it has room. */
  giveInto(answer: AnswerSpace): void {
    for (const [partition, keys] of this.#partitions) {
      while (keys.waiting.length > 0) {
        const [{ record, deliveryCount }] = keys.waiting as [Given];
        if (!answer.hasRoomFor(record)) return;
        answer.add({ topic: keys.topic, partition, record, deliveryCount });
        keys.last.push(keys.waiting.shift() as Given);
      }
    }
  }

  /** Whether there is room for another record that is not given. */
  mayPassOver(partition: PartitionKey): boolean {
    return (this.#partitions.get(partition)?.passed.size ?? 0) < MAX_PASSED_OVER;
  }

  /**
   * Whether a record that was read is not to be given.
   *
   * @throws NaruError HELD_LIMIT_REACHED when it cannot be passed over either, before others are held
   */
  passOver(partition: PartitionKey, record: BatchRecord): boolean {
    const keys = this.#partitions.get(partition);
    if (keys === undefined) return false;
    if (keys.held.has(record.offset) || keys.passed.has(record.offset)) return true;
    if (record.key === null || keys.blocked.size === 0) return false;
    const id = keyId(record.key);
    if (!keys.blocked.has(id)) return false;
    if (keys.passed.size >= MAX_PASSED_OVER) {
      const message = `${MAX_PASSED_OVER} records of blocked keys were passed over, and the group holds no more of them`;
      throw new NaruError('HELD_LIMIT_REACHED', message);
    }
    keys.passed.set(record.offset, id);
    return true;
  }

  /** The last answer arrived. */
  confirm(): void {
    for (const keys of this.#partitions.values()) {
      keys.confirmed.push(...keys.last);
      keys.last = [];
    }
  }

  /** The last answer was lost: what it gave is given again. */
  takeBack(): void {
    for (const keys of this.#partitions.values()) {
      keys.waiting.unshift(...keys.last);
      keys.last = [];
    }
  }

  /** With what has to be told besides. @param processed whether held events were processed, and those of which answers */
  complete(commits: readonly PartitionCommit[], processed: 'last' | 'confirmed' | null): PartitionCommit[] {
    const complete = new Map(commits.map((commit) => [commit.partition, commit]));
    for (const [partition, keys] of this.#partitions) {
      const done = processed === null ? [] : [...keys.confirmed, ...(processed === 'last' ? keys.last : [])];
      const outcomes = done.map(({ offset, deliveryCount }) => outcomeOf(offset, 'processed', deliveryCount));
      const commit = complete.get(partition) ?? (outcomes.length === 0 ? undefined : still(partition, keys));
      if (commit === undefined) continue;
      for (const offset of keys.passed.keys())
        if (finishes(commit, offset)) outcomes.push(outcomeOf(offset, 'held', 0));
      complete.set(partition, outcomes.length === 0 ? commit : { ...commit, outcomes });
    }
    return [...complete.values()];
  }

  /** Commits that hold what was passed over, and move nothing. */
  holding(): PartitionCommit[] {
    return [...this.#partitions].flatMap(([partition, keys]) => {
      if (keys.passed.size === 0) return [];
      return [
        { ...still(partition, keys), outcomes: [...keys.passed.keys()].map((offset) => outcomeOf(offset, 'held', 0)) },
      ];
    });
  }

  /** These commits are durable. */
  committed({ partition, offset: before, outcomes = [] }: PartitionCommit): void {
    const keys = this.#partitions.get(partition);
    if (keys === undefined) return;
    // Far behind what may be read again.
    for (const at of keys.held) if (at < before - MAX_KEPT_BEHIND) keys.held.delete(at);
    const offsets = new Set(outcomes.map(({ offset }) => offset));
    for (const { offset, kind } of outcomes) {
      if (kind === 'held' && keys.passed.delete(offset)) keys.held.add(offset);
    }
    keys.last = keys.last.filter(({ offset }) => !offsets.has(offset));
    keys.confirmed = keys.confirmed.filter(({ offset }) => !offsets.has(offset));
  }
}

function finishes({ offset, finished }: PartitionCommit, at: number): boolean {
  return at < offset || (finished?.some(([from, to]) => at >= from && at < to) ?? false);
}

function still(partition: PartitionKey, { position }: Keys): PartitionCommit {
  return { partition, offset: position, finished: null, metadata: '', onlyForward: true };
}

function outcomeOf(offset: number, kind: EventOutcome['kind'], attempts: number): EventOutcome {
  return {
    offset,
    kind,
    attempts,
    durationMs: 0,
    note: '',
    reason: '',
    error: '',
    firstFailureMs: 0,
    lastFailureMs: 0,
    nextAttemptMs: 0,
    idempotencyId: '',
  };
}
