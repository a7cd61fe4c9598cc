/**
 * Deletes what topics do not keep any longer: by age, by size, and what every declared group has finished.
 *
 * Owns when to look and how far the log start may move. The partition's own state and the store carry it out.
 *
 * Invariants: nothing at or above the high watermark is deleted; nothing by age before its time has passed by the broker's
 * clock; nothing as acknowledged before the commits that say so are on their way to the journal ahead of the deletion.
 */
import type { Clock, Logger, PartitionKey, TimerHandle, Timers } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { lastStableOffset } from '../core/partition/partition-state.ts';
import type { TopicConfig } from '../core/registry/topic-config.ts';
import type { LogStore } from '../log/log-store.ts';
import type { Partition } from './partition-runtime.ts';

export interface RetentionOptions {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly intervalMs: number;
  /** Those that retention applies to. */
  readonly partitions: () => Iterable<Partition>;
  /** Offset below which the group has finished everything; null when it has committed nothing. */
  readonly finishedBefore: (groupId: string, partition: PartitionKey) => number | null;
  readonly deleteBefore: (partition: PartitionKey, offset: number) => Promise<void>;
  /** Sends what was decided to the store: a deletion must not become durable before the commits that it goes by. */
  readonly flush: () => void;
  /** Lets other events have their turn. */
  readonly yieldTurn: (callback: () => void) => void;
}

export interface RetentionMetrics {
  readonly runs: number;
  readonly deletions: number;
  readonly failures: number;
}

/** Partitions that are looked at before other events get a turn. */
const PARTITIONS_PER_TURN = 128;
/** How far back marks are kept for topics that delete nothing by age: it may be set later. */
const DEFAULT_SPAN_MS = 7 * 86_400_000;
/** A limit by size is kept to within this part, as only whole segments are freed. */
const SEGMENTS_PER_LIMIT = 4;

export class Retention {
  readonly #options: RetentionOptions;
  /** Since when the open segment of a partition has held something. */
  readonly #openSince = new Map<PartitionKey, number>();
  #timer: TimerHandle | null = null;
  #running: Promise<void> | null = null;
  #stopped = false;
  #runs = 0;
  #deletions = 0;
  #failures = 0;

  constructor(options: RetentionOptions) {
    this.#options = options;
  }

  start(): void {
    this.#schedule();
  }

  /** Decides nothing more. What is under way may fail unheard: the store is about to close. */
  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  metrics(): RetentionMetrics {
    return { runs: this.#runs, deletions: this.#deletions, failures: this.#failures };
  }

  /** Looks at every partition once. */
  tick(): Promise<void> {
    this.#running ??= this.#run().finally(() => {
      this.#running = null;
    });
    return this.#running;
  }

  #schedule(): void {
    if (this.#stopped) return;
    this.#timer = this.#options.timers.after(this.#options.intervalMs, () => {
      void this.tick().then(() => this.#schedule());
    });
  }

  async #run(): Promise<void> {
    this.#runs += 1;
    let looked = 0;
    for (const partition of this.#options.partitions()) {
      if (this.#stopped) return;
      try {
        await this.#look(partition);
      } catch (error) {
        if (this.#stopped) return;
        this.#failures += 1;
        // Deleted meanwhile is no failure; the store being offline is reported by itself.
        if (isNaruError(error, 'UNKNOWN_TOPIC_OR_PARTITION')) continue;
        const { partition: key } = partition.state;
        this.#options.logger.warn({ error, partition: key }, 'retention of a partition failed; it is tried again');
      }
      looked += 1;
      if (looked % PARTITIONS_PER_TURN === 0) await new Promise<void>((resolve) => this.#options.yieldTurn(resolve));
    }
  }

  async #look(partition: Partition): Promise<void> {
    const { state, config, highWatermark } = partition;
    state.ages.note(highWatermark, this.#options.clock.nowMs(), spanOf(config));
    const offset = Math.min(await this.#deletableBefore(partition), highWatermark);
    if (offset > state.logStartOffset && !this.#stopped) {
      this.#options.flush();
      await this.#options.deleteBefore(state.partition, offset);
      this.#deletions += 1;
    }
    await this.#sealWhenDue(state.partition, config);
  }

  async #deletableBefore({ state, config, highWatermark }: Partition): Promise<number> {
    const { store, clock } = this.#options;
    const { cleanup } = config;
    const start = state.logStartOffset;
    const olderThan = (ageMs: number): number => state.ages.storedBefore(clock.nowMs() - ageMs, start);
    let offset = start;
    if (cleanup.delete) {
      offset = olderThan(config.retentionMs);
      const sizeBytes = store.info(state.partition)?.sizeBytes ?? 0;
      if (sizeBytes > config.retentionBytes) {
        offset = Math.max(offset, await store.findBySize(state.partition, config.retentionBytes));
      }
    }
    if (cleanup.acknowledged) {
      const { acknowledgedGroups, acknowledgedFloorMs: floorMs, acknowledgedCeilingMs } = config;
      // Nobody can have finished what is not decided yet.
      let finished = acknowledgedGroups.length === 0 ? start : lastStableOffset(state, highWatermark);
      for (const group of acknowledgedGroups) {
        finished = Math.min(finished, this.#options.finishedBefore(group, state.partition) ?? start);
      }
      if (floorMs > 0) finished = Math.min(finished, olderThan(floorMs));
      offset = Math.max(offset, finished, olderThan(acknowledgedCeilingMs));
    }
    return offset;
  }

  /** Space is freed by whole segments, so none may outlive what its topic asks for. */
  async #sealWhenDue(key: PartitionKey, config: TopicConfig): Promise<void> {
    const { store, clock } = this.#options;
    if (store.info(key) === undefined) return;
    const { openBytes } = store.compactionStatus(key);
    if (openBytes === 0) {
      this.#openSince.delete(key);
      return;
    }
    const since = this.#openSince.get(key) ?? clock.nowMs();
    this.#openSince.set(key, since);
    const { cleanup, retentionBytes, retentionMs, segmentBytes, segmentMs } = config;
    const maxBytes = Math.min(segmentBytes, cleanup.delete ? retentionBytes / SEGMENTS_PER_LIMIT : Infinity);
    const maxAgeMs = Math.min(segmentMs, cleanup.delete ? retentionMs / SEGMENTS_PER_LIMIT : Infinity);
    if (openBytes < maxBytes && clock.nowMs() - since < maxAgeMs) return;
    await store.seal(key);
    this.#openSince.delete(key);
  }
}

/** How far back in time this topic's retention asks. The longest decides, or there would be too many marks. */
function spanOf({ cleanup, retentionMs, acknowledgedFloorMs, acknowledgedCeilingMs }: TopicConfig): number {
  const spans = [];
  if (cleanup.delete) spans.push(retentionMs);
  if (cleanup.acknowledged) spans.push(acknowledgedFloorMs, acknowledgedCeilingMs);
  const finite = spans.filter((span) => span > 0 && span !== Infinity);
  return finite.length === 0 ? DEFAULT_SPAN_MS : Math.max(...finite);
}
