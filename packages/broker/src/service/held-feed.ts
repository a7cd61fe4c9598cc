/**
 * Gives a member the held events of its partitions, and tells it which keys are blocked.
 *
 * Owns what the member has of them, and which keys it believes to be blocked. Does not own the events (core/held), nor their
 * outcomes (commit-outcomes.ts).
 *
 * Invariants: of a key the member has one held event at a time; what it has is bounded, and is its own until its outcome is
 * durable or the partition is taken away; that a key is blocked is told before the commit that blocked it is answered.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import type { Deliverable, HeldEvent } from '../core/held/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { HeldNews, HeldVersion } from '../runtime/held-commands.ts';
import { heldLogOf, readHeldCopies } from './held-copies.ts';
import type { GivenHeldEvent, PartitionCommit, SessionEvent } from './session-events.ts';

/** Held events that a member has at a time; a larger one alone. */
export const MAX_GIVEN_EVENTS = 64;
export const MAX_GIVEN_BYTES = 1024 * 1024;
/** Keys of one message. */
export const MAX_TOLD_KEYS = 5_000;
/** How long one wait for news lasts before it is asked again. */
const WATCH_MS = 60_000;

type HeldSessionEvent = Extract<SessionEvent, { readonly type: 'held' | 'blocked-keys' }>;

export interface HeldFeedOptions {
  readonly shard: ShardClient;
  readonly codecs: CompressionCodecs;
  readonly groupId: string;
  readonly emit: (event: HeldSessionEvent) => void;
  /** Null when the subscriber takes more now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  readonly fail: (error: unknown) => void;
}

/** What is blocked when a partition is assigned. */
export interface BlockedKeys {
  readonly version: HeldVersion | null;
  readonly keys: readonly string[];
}

interface Fed {
  version: HeldVersion | null;
  /** Keys that the member believes to be blocked. */
  readonly told: Set<string>;
  /** Bytes by offset of what the member has. */
  readonly given: Map<number, number>;
  /** What should have been given, and could not be read: not asked for again, and no room taken. */
  readonly unreadable: Set<number>;
  /** To be given up: nothing more is given. */
  isLeaving: boolean;
}

let nextWatchId = 1;

export class HeldFeed {
  readonly #options: HeldFeedOptions;
  readonly #partitions = new Map<PartitionKey, Fed>();
  #copiesLog: PartitionKey | null = null;
  #watchId: number | null = null;
  #running = false;
  #closed = false;

  constructor(options: HeldFeedOptions) {
    this.#options = options;
  }

  isGiven(partition: PartitionKey, offset: number): boolean {
    return this.#partitions.get(partition)?.given.has(offset) === true;
  }

  /** What to tell with the assignment of partitions; to be given to {@link add} then. */
  async blockedKeys(partitions: readonly PartitionKey[]): Promise<ReadonlyMap<PartitionKey, BlockedKeys>> {
    const { shard, groupId } = this.#options;
    const reply = await shard.submit({ type: 'blocked-keys', groupId, partitions });
    if (isRefusal(reply)) throw NaruError.from(reply);
    return new Map(reply.map(({ partition, version, blocked }) => [partition, { version, keys: blocked }]));
  }

  /** The member has the partition from now on, and was told of the first {@link MAX_TOLD_KEYS} keys; without, it is told of all. */
  add(partition: PartitionKey, { version, keys }: BlockedKeys = { version: null, keys: [] }): void {
    const told = new Set(keys.slice(0, MAX_TOLD_KEYS));
    const fed: Fed = { version, told, given: new Map(), unreadable: new Set(), isLeaving: false };
    this.#partitions.set(partition, fed);
    this.#tell(partition, fed, keys.slice(MAX_TOLD_KEYS), []);
    this.#changed();
  }

  /** The partition is to be given up: what the member has it may still finish. */
  leave(partition: PartitionKey): void {
    const fed = this.#partitions.get(partition);
    if (fed !== undefined) fed.isLeaving = true;
    this.#changed();
  }

  remove(partition: PartitionKey): void {
    if (this.#partitions.delete(partition)) this.#changed();
  }

  /** A commit is durable: the member has nothing more of what it told about, and learns what it blocked. */
  committed({ partition, outcomes = [] }: PartitionCommit, blocked: readonly string[]): void {
    const fed = this.#partitions.get(partition);
    if (fed === undefined) return;
    this.#tell(partition, fed, blocked, []);
    let isFreed = false;
    for (const { offset, kind } of outcomes) {
      if (kind === 'failed') continue;
      // It may have another copy now.
      fed.unreadable.delete(offset);
      isFreed = fed.given.delete(offset) || isFreed;
    }
    if (isFreed) this.#changed();
  }

  close(): void {
    this.#closed = true;
    this.#partitions.clear();
    this.#wake();
  }

  #changed(): void {
    this.#wake();
    if (this.#running || this.#closed) return;
    this.#running = true;
    this.#run().catch((error: unknown) => {
      if (!this.#closed) this.#options.fail(error);
    });
  }

  #wake(): void {
    const watchId = this.#watchId;
    this.#watchId = null;
    // A shard that is closing answers every wait itself.
    if (watchId !== null) this.#options.shard.submit({ type: 'cancel-held-watch', watchId }).catch(() => {});
  }

  async #run(): Promise<void> {
    try {
      // oxlint-disable-next-line typescript/no-unnecessary-condition -- it is closed from outside
      while (!this.#closed && this.#partitions.size > 0) {
        for (let room = this.#options.room(); room !== null && !this.#closed; room = this.#options.room()) await room;
        const watchId = nextWatchId++;
        this.#watchId = watchId;
        // Its answer is waited for as that of a commit is, so that what they tell comes in the order in which it happened.
        const reply = await this.#options.shard.submit({ type: 'watch-held', watchId, ...this.#question() });
        if (this.#watchId === watchId) this.#watchId = null;
        if (isRefusal(reply)) throw NaruError.from(reply);
        const due = reply.flatMap((news) => this.#noteNews(news));
        if (due.length > 0) await this.#give(due);
      }
    } finally {
      // Here, not in a promise of the caller: a partition that comes in between would be looked at by nobody.
      this.#running = false;
    }
  }

  #question() {
    let [events, bytes] = [0, 0];
    for (const { given } of this.#partitions.values()) {
      events += given.size;
      for (const size of given.values()) bytes += size;
    }
    return {
      groupId: this.#options.groupId,
      partitions: [...this.#partitions].flatMap(([partition, { version, given, unreadable, isLeaving }]) =>
        isLeaving ? [] : [{ partition, known: version, given: [...given.keys(), ...unreadable] }],
      ),
      maxEvents: MAX_GIVEN_EVENTS - events,
      maxBytes: MAX_GIVEN_BYTES - bytes,
      hasNothing: events === 0,
      maxWaitMs: WATCH_MS,
    };
  }

  /** @returns what is to be given, and counts as given from now on */
  #noteNews({ partition, version, isWhole, blocked, unblocked, events }: HeldNews): Due[] {
    const fed = this.#partitions.get(partition);
    if (fed === undefined || fed.isLeaving) return [];
    fed.version = version;
    const all = isWhole ? new Set(blocked) : null;
    const free = all === null ? unblocked : [...fed.told].filter((keyId) => !all.has(keyId));
    this.#tell(partition, fed, blocked, free);
    for (const { offset, event } of events) fed.given.set(offset, event.sizeBytes);
    return events.map((due) => ({ ...due, partition, fed }));
  }

  #tell(partition: PartitionKey, { told }: Fed, blocked: readonly string[], unblocked: readonly string[]): void {
    const fresh = blocked.filter((keyId) => !told.has(keyId));
    for (const keyId of fresh) told.add(keyId);
    for (const keyId of unblocked) told.delete(keyId);
    const count = Math.max(fresh.length, unblocked.length);
    for (let from = 0; from < count; from += MAX_TOLD_KEYS) {
      const to = from + MAX_TOLD_KEYS;
      const keys = { blocked: fresh.slice(from, to), unblocked: unblocked.slice(from, to) };
      this.#options.emit({ type: 'blocked-keys', partition, ...keys });
    }
  }

  async #give(due: readonly Due[]): Promise<void> {
    const batches = await this.#read(due.map(({ event }) => event.copyOffset));
    const byPartition = new Map<PartitionKey, GivenHeldEvent[]>();
    for (const { partition, offset, event, fed } of due) {
      const batch = batches.get(event.copyOffset);
      // It was taken away meanwhile, or has come back since.
      if (this.#partitions.get(partition) !== fed || !fed.given.has(offset)) continue;
      if (batch === undefined) {
        fed.given.delete(offset);
        fed.unreadable.add(offset);
        continue;
      }
      if (fed.isLeaving) {
        fed.given.delete(offset);
        continue;
      }
      const events = byPartition.get(partition) ?? [];
      events.push(toGiven(offset, event, batch));
      byPartition.set(partition, events);
    }
    for (const [partition, events] of byPartition) this.#options.emit({ type: 'held', partition, events });
  }

  /** Copies by their offsets. */
  async #read(copyOffsets: readonly number[]): Promise<ReadonlyMap<number, Uint8Array>> {
    const { shard, codecs, groupId } = this.#options;
    this.#copiesLog ??= await heldLogOf(shard, groupId);
    const found = new Map<number, Uint8Array>();
    const wanted = new Set(copyOffsets);
    for (const copyOffset of [...wanted].sort((a, b) => a - b)) {
      if (found.has(copyOffset)) continue;
      try {
        await readHeldCopies(shard, codecs, this.#copiesLog, copyOffset, wanted, found);
      } catch (error) {
        // A damaged copy is not given, and its key stays blocked, which can be seen; the others go on.
        if (!isNaruError(error, 'DATA_CORRUPT') && !isNaruError(error, 'CORRUPT_MESSAGE')) throw error;
      }
    }
    return found;
  }
}

interface Due extends Deliverable {
  readonly partition: PartitionKey;
  readonly fed: Fed;
}

function toGiven(offset: number, event: HeldEvent, batch: Uint8Array): GivenHeldEvent {
  const { attempts, firstFailureMs, redrives } = event;
  return { offset, batch, attempts, firstFailureMs, redriven: redrives > 0 };
}
