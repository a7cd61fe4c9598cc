/**
 * One pass of compaction over one partition: reads what is dirty, notes the latest offset of each key, and has the log
 * store rewrite what lies before.
 *
 * Owns no decision on when (compactor.ts) and none on what stays (core/compaction).
 *
 * Invariant: `rewrite` is called once, knowing every key of the dirty part, since what it rewrote counts as clean. Where the
 * keys do not fit into memory at once, the dirty part is read once for each share of them, and what they supersede is noted
 * by offset before anything is rewritten.
 */
import { NaruError } from '@naru/protocol';
import type { Clock, PartitionKey } from '@naru/base';
import type { BatchRecord, CompressionCodecs } from '@naru/protocol/batch';
import {
  compactableRecords,
  KeyOffsets,
  makeRewriter,
  MAX_SHARE_BITS,
  SupersededOffsets,
  type AbortedBatches,
  type CompactionConfig,
  type Supersession,
} from '../core/compaction/index.ts';
import type { CompactionStatus, LogStore, StoredBatch } from '../log/log-store.ts';

const READ_BYTES = 1024 * 1024;
/** Decoded before the event loop gets a turn, a batch more or less: some ten milliseconds. */
const RECORDS_PER_TURN = 4096;

export interface CompactionPassOptions {
  readonly store: LogStore;
  readonly clock: Clock;
  readonly codecs: CompressionCodecs;
  /** Of keys and offsets in memory, and again of superseded offsets when the keys do not fit. */
  readonly maxMapBytes: number;
  readonly hashSeed: number;
  readonly yieldTurn: () => Promise<void>;
  /** Of everything below the end of the pass. */
  readonly aborted: AbortedBatches;
  /** Asked between any two batches. */
  readonly isStopped: () => boolean;
}

/**
 * @param status what is to be compacted; below the last stable offset, since what is above is not decided, or could still be taken back
 * @throws NaruError SHUTTING_DOWN when stopped, UNSUPPORTED when the partition has too many keys for the memory given, and what
 *   the store rejects with. What was rewritten up to then may stay; it does not count as clean and is right as it is.
 */
export async function compactPartition(
  options: CompactionPassOptions,
  partition: PartitionKey,
  status: CompactionStatus,
  config: CompactionConfig,
): Promise<void> {
  const pass = new CompactionPass(options, partition, status);
  const supersession = (await pass.latestOffsets()) ?? (await pass.supersededByShares());
  const { store, clock, codecs, aborted } = options;
  const { deleteRetentionMs } = config;
  const rewriterOptions = { nowMs: clock.nowMs(), deleteRetentionMs, codecs };
  const rewrite = makeRewriter(supersession, status.endOffset, aborted, rewriterOptions);
  await store.rewrite(partition, status.endOffset, (batch) => {
    checkStopped(options);
    return rewrite(batch);
  });
}

function checkStopped({ isStopped }: CompactionPassOptions): void {
  if (isStopped()) throw new NaruError('SHUTTING_DOWN', 'compaction was stopped; it begins anew');
}

class CompactionPass {
  readonly #options: CompactionPassOptions;
  readonly #partition: PartitionKey;
  readonly #status: CompactionStatus;
  /** Bits of the number of shares that are likely to be enough when one is not. */
  #shareBits = 1;

  constructor(options: CompactionPassOptions, partition: PartitionKey, status: CompactionStatus) {
    this.#options = options;
    this.#partition = partition;
    this.#status = status;
  }

  /** Every key of the dirty part; null when they are too many. */
  async latestOffsets(): Promise<Supersession | null> {
    const keys = this.#keys(0, 0);
    let bytes = 0;
    const fits = await this.#collect(keys, (batch) => (bytes += batch.records.length));
    if (fits) return keys;
    while (2 ** this.#shareBits * bytes < this.#status.dirtyBytes && this.#shareBits < MAX_SHARE_BITS) {
      this.#shareBits += 1;
    }
    return null;
  }

  /** The same knowledge as offsets, found for one share of the keys after another. */
  async supersededByShares(): Promise<Supersession> {
    const { store, maxMapBytes } = this.#options;
    const { cleanEndOffset, endOffset } = this.#status;
    const startOffset = store.info(this.#partition)?.logStartOffset ?? cleanEndOffset;
    const bitmapBytes = SupersededOffsets.sizeBytes(startOffset, endOffset);
    if (bitmapBytes > maxMapBytes) throw this.#tooLarge();
    const superseded = new SupersededOffsets(startOffset, endOffset);
    for (let index = 0; index < 2 ** this.#shareBits; index++) {
      const keys = this.#keys(this.#shareBits, index);
      if (!(await this.#collect(keys))) {
        if (this.#shareBits === MAX_SHARE_BITS) throw this.#tooLarge();
        this.#shareBits += 1;
        index = -1; // What was found stays true: the shares are looked through anew, smaller ones.
        continue;
      }
      await this.#scan(startOffset, (_, records) => {
        for (const { key, offset } of records) {
          if (key !== null && keys.isSuperseded(key, offset)) superseded.add(offset);
        }
        return true;
      });
    }
    return superseded;
  }

  #keys(bits: number, index: number): KeyOffsets {
    const { maxMapBytes, hashSeed } = this.#options;
    return new KeyOffsets({ maxBytes: maxMapBytes, seed: hashSeed, share: { bits, index } });
  }

  #tooLarge(): NaruError {
    const { cleanEndOffset, endOffset } = this.#status;
    const message = `${this.#partition} has too many keys between offsets ${cleanEndOffset} and ${endOffset} for compaction`;
    return new NaruError('UNSUPPORTED', `${message}, which holds ${this.#options.maxMapBytes} bytes of them at a time`);
  }

  /** Puts the keys of the dirty part into `keys`; false as soon as there are too many. */
  async #collect(keys: KeyOffsets, onBatch?: (batch: StoredBatch) => void): Promise<boolean> {
    let fits = true;
    await this.#scan(this.#status.cleanEndOffset, (batch, records) => {
      fits = !keys.isFull;
      if (!fits) return false;
      onBatch?.(batch);
      for (const { key, offset } of records) if (key !== null) keys.put(key, offset);
      return true;
    });
    return fits;
  }

  /** Every batch from `fromOffset` to the end of the dirty part, with the records that count, until `visit` answers false. */
  async #scan(
    fromOffset: number,
    visit: (batch: StoredBatch, records: readonly BatchRecord[]) => boolean,
  ): Promise<void> {
    const { store, codecs, aborted, yieldTurn } = this.#options;
    let decoded = 0;
    const { endOffset } = this.#status;
    for (let offset = fromOffset; offset < endOffset;) {
      const batches = await store.read(this.#partition, offset, READ_BYTES, endOffset);
      if (batches.length === 0) return; // A gap up to the end.
      for (const batch of batches) {
        const records = compactableRecords(batch.records, codecs, aborted) ?? [];
        if (!visit(batch, records)) return;
        offset = batch.lastOffset + 1;
        decoded += records.length;
        if (decoded < RECORDS_PER_TURN) continue;
        decoded = 0;
        await yieldTurn();
        checkStopped(this.#options);
      }
      await yieldTurn();
      checkStopped(this.#options);
    }
  }
}
