/**
 * What a session of a staged group reads: only what groups of a lower order have finished, and each key in its order.
 *
 * Owns the gate views of the session's partitions, what was passed over in them, and giving that late. Does not own positions
 * (poller.ts), nor what is released (the shard: runtime/gate-watches.ts).
 *
 * Invariants: an event is given only when the last view that came releases it, and no earlier event of its key is held back;
 * an event that was passed over is told of before it is given; each is given once, unless it is read again. Partitions without
 * a gate are not known here. Nothing is kept of an event but offset and key.
 */
import type { PartitionKey, Timers } from '@naru/base';
import { isNaruError, NaruError, type Refusal } from '@naru/protocol';
import { decodeRecords, readBatchHeader, type CompressionCodecs } from '@naru/protocol/batch';
import { OPEN_GATE, type GateView, type OffsetRange } from '../core/group/index.ts';
import { isRefusal, type FetchedPartition, type ShardClient } from '../runtime/commands.ts';
import { batchOf, GatePass, type PassingState } from './gate-pass.ts';
import { newFetchId } from './long-poll.ts';
import { readNow } from './read-now.ts';
import { FIRST_RETRY_MS, MAX_RETRY_MS, type GatedFetch, type PassedFetch, type ReadingGate } from './poller.ts';
import { WithheldEvents } from './withheld-events.ts';

/** How long one watch waits before it is asked again. */
const WATCH_MS = 60_000;
const NOTHING: GateView = { end: 0, holes: [] };

/** Of one partition, told late; those of a key in order. */
export interface LateEvents {
  readonly type: 'late';
  readonly partition: PartitionKey;
  /** A batch for each event. */
  readonly batches: readonly Uint8Array[];
  readonly events: readonly { readonly offset: number; readonly keyId: string }[];
  /** Passed over, and deleted since. */
  readonly gone: readonly number[];
}

export type GatedEvent =
  | LateEvents
  | { readonly type: 'partition-failed'; readonly partition: PartitionKey; readonly refusal: Refusal };

export interface WithheldStatus {
  readonly count: number;
  /** Released, and behind an earlier event of their key. */
  readonly behindKey: number;
  readonly firstBehindKey: number | null;
  /** As many as may be: the partition is not read on. */
  readonly stalled: boolean;
}

interface Gated extends PassingState {
  view: GateView;
  /** Null until the shard has told of it. */
  known: GateView | null;
  /** The view says nothing about offsets below. */
  from: number;
  /** Grows when the view does not do any more, so that an answer to an older question is none. */
  turn: number;
  /** Nothing more can be passed over: reading waits until something changes. */
  stalled: boolean;
  /** What was passed over cannot be read. */
  failed: boolean;
}

export interface GatedReadingOptions {
  readonly shard: ShardClient;
  readonly timers: Timers;
  readonly codecs: CompressionCodecs;
  readonly groupId: string;
  readonly emit: (event: GatedEvent) => void;
  /** Null when the subscriber wants late events now; else resolves when to look again. */
  readonly room: () => Promise<void> | null;
  /** The offset that is read next; null for a partition that is not read. */
  readonly positionOf: (partition: PartitionKey) => number | null;
  readonly isPaused: (partition: PartitionKey) => boolean;
  /** More may be read than before. */
  readonly opened: () => void;
  /** The session ends with it. */
  readonly fail: (error: unknown) => void;
}

/** One batch comes even when it is larger. */
const ONE_BATCH = 1;

export class GatedReading implements ReadingGate {
  readonly #options: GatedReadingOptions;
  readonly #gated = new Map<PartitionKey, Gated>();
  /** Where it is something, also of partitions that have no gate yet. */
  readonly #finished = new Map<PartitionKey, readonly OffsetRange[]>();
  #watchId: number | null = null;
  #watching = false;
  #giving = false;
  /** There may be something to give. */
  #due = false;
  #closed = false;

  constructor(options: GatedReadingOptions) {
    this.#options = options;
  }

  has(partition: PartitionKey): boolean {
    return this.#gated.has(partition);
  }

  /** What the group itself had finished when the partition came. */
  noteFinished(partition: PartitionKey, finished: readonly OffsetRange[]): void {
    if (finished.length > 0) this.#finished.set(partition, finished);
  }

  /** Nothing of the partition is read until the shard has told what is released. */
  add(partition: PartitionKey): void {
    if (this.#closed || this.#gated.has(partition)) return;
    const finished = this.#finished.get(partition) ?? [];
    const withheld = new WithheldEvents();
    const nothing = { view: NOTHING, known: null, from: 0, turn: 0 };
    this.#gated.set(partition, { withheld, finished, ...nothing, stalled: false, failed: false });
    this.#watchAgain();
  }

  removed(partition: PartitionKey): void {
    this.#finished.delete(partition);
    this.#forget(partition);
  }

  moved(partition: PartitionKey): void {
    this.movedBack(partition, 0);
  }

  movedBack(partition: PartitionKey, offset: number): void {
    const gated = this.#gated.get(partition);
    if (gated === undefined) return;
    gated.withheld.deleteFrom(offset);
    if (offset < gated.from) {
      gated.view = NOTHING;
      gated.known = null;
    }
    gated.turn += 1;
    gated.stalled = false;
    gated.failed = false;
    // What is asked for begins elsewhere now.
    this.#watchAgain();
  }

  limitOf(partition: PartitionKey): number {
    const gated = this.#gated.get(partition);
    if (gated === undefined) return Infinity;
    return gated.stalled ? 0 : gated.view.end;
  }

  status(partition: PartitionKey): WithheldStatus | null {
    const gated = this.#gated.get(partition);
    if (gated === undefined) return null;
    let behindKey = 0;
    let firstBehindKey: number | null = null;
    for (const event of gated.withheld.all(gated.view)) {
      if (!event.behindKey) continue;
      behindKey += 1;
      firstBehindKey ??= event.offset;
    }
    return { count: gated.withheld.size, behindKey, firstBehindKey, stalled: gated.stalled };
  }

  pass({ partition, offset, batches, nextOffset }: GatedFetch): PassedFetch {
    const gated = this.#gated.get(partition);
    if (gated === undefined) return { batches, nextOffset };
    const pass = new GatePass(gated, offset, this.#options.codecs);
    // What the fetch has left out behind them is passed over, too.
    if (batches.every((batch) => pass.take(batch))) pass.skipTo(nextOffset);
    if (pass.stalled) gated.stalled = true;
    // The view ended there because it was long: what comes after it is to be asked for.
    if (gated.view.isCut === true && pass.next >= gated.view.end) this.#watchAgain();
    const { batches: given, withheld, next } = pass;
    return { batches: given, nextOffset: next, ...(withheld.length === 0 ? {} : { withheld }) };
  }

  /** The subscriber was told what was passed over. */
  told(partition: PartitionKey, offsets: readonly number[]): void {
    const gated = this.#gated.get(partition);
    if (gated === undefined) return;
    for (const offset of offsets) gated.withheld.told(offset);
    this.#give();
  }

  /** Events that were given late did not arrive: they are given again. */
  putBack(partition: PartitionKey, events: LateEvents['events']): void {
    this.#gated.get(partition)?.withheld.putBack(events);
    this.#give();
  }

  /** Partitions are not paused any more. */
  resumed(): void {
    if (this.#gated.size > 0) this.#give();
  }

  close(): void {
    this.#closed = true;
    this.#gated.clear();
    this.#cancelWatch();
  }

  #watchAgain(): void {
    if (this.#closed) return;
    this.#cancelWatch();
    if (this.#watching || this.#gated.size === 0) return;
    this.#watching = true;
    this.#watch()
      .finally(() => {
        this.#watching = false;
      })
      .then(
        () => this.#gated.size > 0 && this.#watchAgain(),
        (error: unknown) => this.#options.fail(error),
      );
  }

  #cancelWatch(): void {
    if (this.#watchId === null) return;
    const watchId = this.#watchId;
    this.#watchId = null;
    // A shard that is closing answers every watch itself.
    this.#options.shard.submit({ type: 'cancel-gate-watch', watchId }).catch(() => {});
  }

  async #watch(): Promise<void> {
    const { shard, groupId, positionOf } = this.#options;
    while (!this.#closed && this.#gated.size > 0) {
      const asked = new Map(this.#gated);
      const turns = new Map([...asked].map(([partition, { turn }]) => [partition, turn]));
      const partitions = [...asked].map(([partition, { withheld, known }]) => {
        return { partition, from: withheld.first ?? positionOf(partition) ?? 0, known };
      });
      const fromOf = new Map(partitions.map(({ partition, from }) => [partition, from]));
      const watchId = newFetchId();
      this.#watchId = watchId;
      const news = await shard.submit({ type: 'watch-gate', watchId, groupId, partitions, maxWaitMs: WATCH_MS });
      if (this.#watchId === watchId) this.#watchId = null;
      if (isRefusal(news)) throw NaruError.from(news);
      for (const { partition, view } of news) {
        const gated = this.#gated.get(partition);
        if (gated === undefined || gated !== asked.get(partition) || gated.turn !== turns.get(partition)) continue;
        gated.from = fromOf.get(partition) ?? 0;
        this.#opened(partition, gated, view);
      }
    }
  }

  #opened(partition: PartitionKey, gated: Gated, view: GateView): void {
    const offset = this.#options.positionOf(partition) ?? 0;
    const wasWaiting = offset >= this.limitOf(partition);
    gated.view = view;
    gated.known = view;
    gated.stalled = false;
    if (wasWaiting && offset < view.end) this.#options.opened();
    this.#give();
    this.#forgetOpen(partition, gated);
  }

  /** Nobody has to be asked about a partition that has no gate any more. */
  #forgetOpen(partition: PartitionKey, { view, withheld }: Gated): void {
    if (view.end === OPEN_GATE.end && withheld.size === 0) this.#forget(partition);
  }

  #forget(partition: PartitionKey): void {
    if (this.#gated.delete(partition)) this.#watchAgain();
  }

  #give(): void {
    this.#due = true;
    if (this.#giving || this.#closed) return;
    this.#giving = true;
    this.#giveAll()
      .finally(() => {
        this.#giving = false;
      })
      .then(
        () => this.#due && this.#give(),
        (error: unknown) => this.#options.fail(error),
      );
  }

  async #giveAll(): Promise<void> {
    while (this.#due && !this.#closed) {
      this.#due = false;
      for (const [partition, gated] of this.#gated) await this.#giveOf(partition, gated);
    }
  }

  /** Gives what may be given of a partition, a batch of the log at a time. */
  async #giveOf(partition: PartitionKey, gated: Gated): Promise<void> {
    let retryMs = 0;
    const isOver = (): boolean =>
      this.#closed || this.#gated.get(partition) !== gated || gated.failed || this.#options.isPaused(partition);
    for (;;) {
      for (let room = this.#options.room(); room !== null && !isOver(); room = this.#options.room()) await room;
      if (isOver()) return;
      const [first] = gated.withheld.given(gated.view).keys();
      if (first === undefined) return;
      const fetched = await this.#fetch(partition, first);
      if (isOver()) return;
      const refusal =
        fetched.refusal !== null && fetched.refusal.code !== 'OFFSET_OUT_OF_RANGE' ? fetched.refusal : null;
      try {
        if (refusal !== null) throw NaruError.from(refusal);
        this.#giveLate(partition, gated, first, fetched);
        retryMs = 0;
      } catch (error) {
        if (!isNaruError(error)) throw error;
        if (!error.retriable) {
          gated.failed = true;
          this.#options.emit({ type: 'partition-failed', partition, refusal: error.toRefusal() });
          return;
        }
        retryMs = Math.min(Math.max(retryMs * 2, FIRST_RETRY_MS), MAX_RETRY_MS);
        await this.#wait(retryMs);
      }
    }
  }

  /** @param first offset that was asked for: what of the gate's is below what came is not there any more */
  #giveLate(partition: PartitionKey, gated: Gated, first: number, fetched: FetchedPartition): void {
    // The gate may have changed while it was read.
    const wanted = gated.withheld.given(gated.view);
    const [batch] = fetched.batches;
    const header = batch === undefined ? null : readBatchHeader(batch);
    // Without a batch it lies before the log, or behind everything that is left of it.
    const end =
      header === null ? Math.max(fetched.logStartOffset, first + 1) : header.baseOffset + header.lastOffsetDelta + 1;
    const records =
      batch === undefined || header?.isControl === true
        ? []
        : decodeRecords(batch, this.#options.codecs).filter(({ offset }) => offset >= first && wanted.has(offset));
    const found = new Set(records.map(({ offset }) => offset));
    const gone = [...wanted.keys()].filter((offset) => offset >= first && offset < end && !found.has(offset));
    const events = records.map(({ offset }) => ({ offset, keyId: wanted.get(offset) ?? '' }));
    for (const offset of [...found, ...gone]) gated.withheld.delete(offset);
    if (gated.stalled) {
      gated.stalled = false;
      this.#options.opened();
    }
    if (found.size + gone.length === 0) return;
    this.#options.emit({ type: 'late', partition, batches: records.map(batchOf), events, gone });
    this.#forgetOpen(partition, gated);
  }

  async #fetch(partition: PartitionKey, offset: number): Promise<FetchedPartition> {
    const fetched = await readNow(this.#options.shard, partition, offset, ONE_BATCH);
    if (isRefusal(fetched)) throw NaruError.from(fetched);
    return fetched;
  }

  #wait(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.#options.timers.after(delayMs, resolve));
  }
}
