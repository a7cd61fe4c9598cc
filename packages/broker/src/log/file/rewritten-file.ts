/**
 * A segment file that compaction makes: written beside the log, from beginning to end, with its index.
 *
 * Owns the two files until they are moved to their place. Nobody reads them before that, and after a crash nobody looks at
 * them: so a failed write or sync costs this file and nothing else.
 */
import type { Disk, DiskFile } from '@naru/base';
import type { StoredBatch } from '../log-store.ts';
import type { FileLogLimits } from './limits.ts';
import { NO_TIMESTAMP, SparseIndex } from './sparse-index.ts';

export class RewrittenFile {
  readonly path: string;
  readonly index: SparseIndex;
  sizeBytes = 0;
  maxTimestampMs = NO_TIMESTAMP;
  readonly #disk: Disk;
  readonly #limits: FileLogLimits;
  #file: DiskFile | null = null;
  /** Taken, and not in the file yet. */
  #buffers: Uint8Array[] = [];
  #bufferedBytes = 0;
  #unsyncedBytes = 0;

  /** @param path without suffix */
  constructor(disk: Disk, path: string, limits: FileLogLimits) {
    this.#disk = disk;
    this.path = path;
    this.#limits = limits;
    this.index = new SparseIndex(limits.indexIntervalBytes);
  }

  async create(): Promise<void> {
    this.#file = await this.#disk.open(`${this.path}.log`, 'write');
    // One may be left from a rewrite that failed.
    await this.#file.truncate(0);
  }

  /** Adds a batch to what {@link write} writes. Its bytes are not to be changed until then. */
  add({ baseOffset, maxTimestampMs, records }: StoredBatch): void {
    this.index.note(baseOffset, this.sizeBytes, this.maxTimestampMs);
    this.maxTimestampMs = Math.max(this.maxTimestampMs, maxTimestampMs);
    this.sizeBytes += records.length;
    this.#bufferedBytes += records.length;
    const last = this.#buffers.at(-1);
    const adjoins = last !== undefined && last.buffer === records.buffer && endOf(last) === records.byteOffset;
    if (adjoins) {
      // Neighbours in the file that they were read from: one piece.
      const bytes = new Uint8Array(last.buffer, last.byteOffset, last.length + records.length);
      this.#buffers[this.#buffers.length - 1] = bytes;
    } else this.#buffers.push(records);
  }

  async write(): Promise<void> {
    const file = this.#file;
    if (file === null || this.#bufferedBytes === 0) return;
    const buffers = this.#buffers;
    const bytes = this.#bufferedBytes;
    this.#buffers = [];
    this.#bufferedBytes = 0;
    await file.write(buffers, this.sizeBytes - bytes);
    this.#unsyncedBytes += bytes;
    if (this.#unsyncedBytes < this.#limits.rewriteSyncBytes) return;
    this.#unsyncedBytes = 0;
    await file.sync();
  }

  /** Makes the file and its index durable; their names are not. */
  async finish(): Promise<void> {
    await this.#file?.sync();
    await this.close();
    const index = await this.#disk.open(`${this.path}.index`, 'write');
    try {
      await index.truncate(0);
      await index.write([this.index.encode(this.sizeBytes)], 0);
      await index.sync();
    } finally {
      await index.close();
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = null;
    await file?.close();
  }

  /** Removes what is there of it under its first name. */
  async remove(): Promise<void> {
    await this.close();
    await this.#disk.remove(`${this.path}.log`);
    await this.#disk.remove(`${this.path}.index`);
  }

  /** Gives the files the names that `path` makes. */
  async moveTo(path: string): Promise<void> {
    await this.#disk.rename(`${this.path}.log`, `${path}.log`);
    await this.#disk.rename(`${this.path}.index`, `${path}.index`);
  }
}

function endOf(bytes: Uint8Array): number {
  return bytes.byteOffset + bytes.length;
}
