/**
 * Compacts the partitions of a log store, one at a time, the dirtiest first.
 *
 * Owns when passes run, what happens when one fails, and the counters. Does not own what a pass does (compaction-pass.ts),
 * nor the rules (core/compaction). Readers see the result in the log.
 *
 * Invariants: one pass at a time; each partition at most once a tick; nothing at or above a last stable offset is looked at; a
 * failure never makes it try again before the next tick, and one that time does not heal not before the log has changed.
 */
import {
  systemRandom,
  toError,
  type Clock,
  type Logger,
  type PartitionKey,
  type Random,
  type TimerHandle,
  type Timers,
} from '@naru/base';
import { isNaruError } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import {
  dirtyRatio,
  isCompactionDue,
  isSealDue,
  uncompactedFromMs,
  type CompactionConfig,
} from '../core/compaction/index.ts';
import { AbortedRecords, type AbortedLookup } from '../core/partition/transaction-index.ts';
import type { CompactionStatus, LogStore } from '../log/log-store.ts';
import { compactPartition } from './compaction-pass.ts';

/** A partition whose topic is compacted, as it is now. */
export interface CompactionTarget {
  readonly partition: PartitionKey;
  readonly config: CompactionConfig;
  /** Everything below is decided, and may be read. */
  readonly lastStableOffset: number;
  /** What was aborted between the two offsets, below the last stable one. Default: nothing. */
  readonly abortedIn?: AbortedLookup | undefined;
}

export interface CompactorOptions {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  readonly codecs: CompressionCodecs;
  /** Milliseconds from the end of a tick to the next. */
  readonly intervalMs: number;
  /** Partitions to compact. Asked before each pass, so that a topic that is no longer compacted is left alone. */
  readonly partitions: () => Iterable<CompactionTarget>;
  /** Nothing below the offset is of an aborted transaction any more. */
  readonly onCompacted?: ((partition: PartitionKey, endOffset: number) => void) | undefined;
  /** Runs a function after other events had their turn. Default: setImmediate. */
  readonly yieldTurn?: ((callback: () => void) => void) | undefined;
  /** Bytes of keys in memory during a pass, about; more keys are looked through in several rounds. Default 128 MiB. */
  readonly maxMapBytes?: number | undefined;
  /** Default: the system's. */
  readonly random?: Random | undefined;
}

/** Totals since the start. */
export interface CompactorMetrics {
  /** Finished. */
  readonly passes: number;
  readonly failures: number;
  /** Of what the finished passes looked at, before and after. */
  readonly bytesBefore: number;
  readonly bytesAfter: number;
  /** Current: partitions that are not tried again until their log changes or the process restarts. */
  readonly skippedPartitions: number;
}

const DEFAULT_MAX_MAP_BYTES = 128 * 1024 * 1024;

interface Candidate {
  readonly partition: PartitionKey;
  readonly ratio: number;
}

export class Compactor {
  readonly #options: CompactorOptions;
  readonly #random: Random;
  /** Partitions given up, and what their logs were like at that time. */
  readonly #skipped = new Map<PartitionKey, string>();
  #timer: TimerHandle | null = null;
  #running: Promise<void> | null = null;
  #stopped = false;
  #passes = 0;
  #failures = 0;
  #bytesBefore = 0;
  #bytesAfter = 0;

  constructor(options: CompactorOptions) {
    this.#options = options;
    this.#random = options.random ?? systemRandom;
  }

  /** Ticks from now on, every {@link CompactorOptions.intervalMs}. */
  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#options.timers.after(this.#options.intervalMs, () => {
      void this.tick().then(() => this.start());
    });
  }

  /** Compacts what is due, then resolves; never rejects. While one runs another call waits for that one. */
  tick(): Promise<void> {
    this.#running ??= this.#tick().finally(() => (this.#running = null));
    return this.#running;
  }

  /** Resolves when nothing is under way any more. A pass under way is given up, and begins anew another time. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#running;
  }

  metrics(): CompactorMetrics {
    return {
      passes: this.#passes,
      failures: this.#failures,
      bytesBefore: this.#bytesBefore,
      bytesAfter: this.#bytesAfter,
      skippedPartitions: this.#skipped.size,
    };
  }

  async #tick(): Promise<void> {
    try {
      this.#forgetSkipped();
      for (const { partition } of await this.#sealAndChoose()) {
        // A pass may take long: what holds for the partition is asked again.
        const target = this.#target(partition);
        const status = target === undefined ? null : this.#dueStatus(target);
        if (target !== undefined && status !== null && !(await this.#compact(target, status))) return;
        if (this.#stopped) return;
      }
    } catch (error) {
      // Not of one partition: what the partitions are could not be told.
      this.#failures += 1;
      this.#options.logger.error({ err: toError(error) }, 'compaction failed; it is tried again');
    }
  }

  /** Closes open segments that are due, and answers what there is to compact, the dirtiest first. */
  async #sealAndChoose(): Promise<Candidate[]> {
    const candidates: Candidate[] = [];
    // All at once: partitions come and go while segments are closed.
    const targets = Array.from(this.#options.partitions());
    for (const target of targets) {
      if (this.#stopped) return [];
      await this.#seal(target);
      const status = this.#dueStatus(target);
      if (status !== null) candidates.push({ partition: target.partition, ratio: dirtyRatio(status) });
    }
    return candidates.toSorted((a, b) => b.ratio - a.ratio);
  }

  async #seal({ partition, config }: CompactionTarget): Promise<void> {
    const { store, clock } = this.#options;
    if (store.info(partition) === undefined || this.#skipped.has(partition)) return;
    if (!isSealDue(store.compactionStatus(partition), config, clock.nowMs())) return;
    try {
      await store.seal(partition);
    } catch (error) {
      this.#failed(partition, null, error);
    }
  }

  /** What to compact of a partition; null when nothing is due. */
  #dueStatus({ partition, config, lastStableOffset }: CompactionTarget): CompactionStatus | null {
    const { store, clock } = this.#options;
    if (store.info(partition) === undefined || this.#skipped.has(partition)) return null;
    const nowMs = clock.nowMs();
    const status = store.compactionStatus(partition, uncompactedFromMs(config, nowMs), lastStableOffset);
    return status.endOffset <= lastStableOffset && isCompactionDue(status, config, nowMs) ? status : null;
  }

  #target(partition: PartitionKey): CompactionTarget | undefined {
    for (const target of this.#options.partitions()) if (target.partition === partition) return target;
    return undefined;
  }

  /** False when no other partition can be compacted now either. */
  async #compact(target: CompactionTarget, status: CompactionStatus): Promise<boolean> {
    const { store, clock, codecs, logger, yieldTurn = setImmediate } = this.#options;
    const { partition, config } = target;
    const startedMs = clock.monotonicMs();
    const startOffset = store.info(partition)?.logStartOffset ?? 0;
    const options = {
      store,
      clock,
      codecs,
      maxMapBytes: this.#options.maxMapBytes ?? DEFAULT_MAX_MAP_BYTES,
      hashSeed: this.#random.integer(2 ** 32),
      yieldTurn: () => new Promise<void>((resolve) => yieldTurn(resolve)),
      aborted: new AbortedRecords(target.abortedIn?.(startOffset, status.endOffset) ?? []),
      isStopped: () => this.#stopped,
    };
    try {
      await compactPartition(options, partition, status, config);
    } catch (error) {
      return this.#failed(partition, status, error);
    }
    this.#options.onCompacted?.(partition, status.endOffset);
    const bytesBefore = status.cleanBytes + status.dirtyBytes;
    const bytesAfter = store.info(partition) === undefined ? 0 : store.compactionStatus(partition).cleanBytes;
    this.#passes += 1;
    this.#bytesBefore += bytesBefore;
    this.#bytesAfter += bytesAfter;
    const durationMs = Math.round(clock.monotonicMs() - startedMs);
    const { endOffset } = status;
    logger.info({ partition, endOffset, bytesBefore, bytesAfter, durationMs }, 'partition compacted');
    return true;
  }

  /** @returns whether other partitions may fare better */
  #failed(partition: PartitionKey, status: CompactionStatus | null, error: unknown): boolean {
    const { logger, store } = this.#options;
    if (this.#stopped || store.info(partition) === undefined) return true; // Stopped, or deleted meanwhile.
    // Retention was faster: the next tick begins at the new log start.
    if (isNaruError(error, 'OFFSET_OUT_OF_RANGE')) return true;
    this.#failures += 1;
    const fields = { partition, fromOffset: status?.cleanEndOffset, toOffset: status?.endOffset, err: toError(error) };
    if (isNaruError(error) && error.retriable) {
      logger.warn(fields, `compaction failed with ${error.code}; it is tried again`);
      return error.code === 'STORAGE_FULL';
    }
    this.#skipped.set(partition, this.#logState(partition));
    logger.error(fields, 'compaction failed; the partition is left as it is until its log start moves or a restart');
    return true;
  }

  /** Partitions that are gone, or whose log begins elsewhere now, are tried again. */
  #forgetSkipped(): void {
    for (const [partition, state] of this.#skipped) {
      if (this.#options.store.info(partition) === undefined || this.#logState(partition) !== state) {
        this.#skipped.delete(partition);
      }
    }
  }

  #logState(partition: PartitionKey): string {
    const { store } = this.#options;
    return `${store.info(partition)?.logStartOffset} ${store.compactionStatus(partition).cleanEndOffset}`;
  }
}
