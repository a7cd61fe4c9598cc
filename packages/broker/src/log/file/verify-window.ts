/**
 * Reading a file from its beginning to its end in bounded memory, with small steps back.
 *
 * Owns one buffer; what it gives is valid until the next {@link FileWindow.load}.
 */
import type { DiskFile } from '@naru/base';

/** Held at a time, and so the most that one call gives. */
export const WINDOW_BYTES = 1024 * 1024;

export class FileWindow {
  readonly #file: DiskFile;
  readonly #buffer: Uint8Array;
  readonly #onRead: (endPosition: number) => void;
  #at = 0;
  #length = 0;

  /**
   * @param sizeBytes of the file
   * @param onRead called after each read from the disk, with the position after it; may throw to stop
   */
  constructor(file: DiskFile, sizeBytes: number, onRead: (endPosition: number) => void) {
    this.#file = file;
    this.#buffer = new Uint8Array(Math.min(sizeBytes, WINDOW_BYTES));
    this.#onRead = onRead;
  }

  /** The bytes, if they are in memory. */
  view(position: number, length: number): Uint8Array | null {
    const from = position - this.#at;
    return from >= 0 && from + length <= this.#length ? this.#buffer.subarray(from, from + length) : null;
  }

  /** Up to `length` bytes, at most {@link WINDOW_BYTES}; fewer at the end of the file. */
  async load(position: number, length: number): Promise<Uint8Array> {
    const there = this.view(position, length);
    if (there !== null) return there;
    this.#length = await this.#file.read(this.#buffer, position);
    this.#at = position;
    this.#onRead(position + this.#length);
    return this.#buffer.subarray(0, Math.min(length, this.#length));
  }
}
