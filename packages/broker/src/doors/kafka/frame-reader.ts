/**
 * Cuts a connection's bytes into Kafka's frames: four bytes of size, then as many bytes.
 *
 * Owns the bytes between what was pushed and what was taken. A frame has memory of its own, of its size, which is taken when
 * {@link FrameReader.next} first sees it begin: the chunks are the connection's, which reads into them again.
 */
import { NaruError } from '@naru/protocol';

const SIZE_BYTES = 4;
const NOTHING: Buffer = Buffer.alloc(0);

export class FrameReader {
  readonly #maxFrameBytes: number;
  /** Pushed, and in no frame yet. */
  #rest: Buffer = NOTHING;
  /** The frame that is being put together. */
  #frame: Buffer | null = null;
  #filled = 0;

  /** @param maxFrameBytes of a frame without its size */
  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Whether a frame has begun that is not all there. */
  get isInside(): boolean {
    return this.#frame !== null || this.#rest.length > 0;
  }

  /** @param chunk may be written again after the next {@link keep} */
  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
  }

  /** Copies what was pushed and is in no frame yet. */
  keep(): void {
    if (this.#rest.length > 0) this.#rest = Buffer.from(this.#rest);
  }

  /**
   * Bytes that {@link next} would take for a frame that is not all there; 0 when it has taken them, or needs none.
   *
   * @throws NaruError INVALID_REQUEST for a size that no frame has
   */
  missingMemory(): number {
    if (this.#frame !== null || this.#rest.length < SIZE_BYTES) return 0;
    const size = this.#size();
    return this.#rest.length - SIZE_BYTES >= size ? 0 : size;
  }

  /**
   * The next frame, without its size; null until it is all there. It belongs to the caller.
   *
   * @throws NaruError INVALID_REQUEST for a size that no frame has
   */
  next(): Buffer | null {
    if (this.#frame === null) {
      if (this.#rest.length < SIZE_BYTES) return null;
      // Never from a pool: a batch in it may be kept.
      this.#frame = Buffer.allocUnsafeSlow(this.#size());
      this.#filled = 0;
      this.#drop(SIZE_BYTES);
    }
    const frame = this.#frame;
    const copied = this.#rest.copy(frame, this.#filled);
    this.#filled += copied;
    this.#drop(copied);
    if (this.#filled < frame.length) return null;
    this.#frame = null;
    return frame;
  }

  #drop(bytes: number): void {
    this.#rest = bytes === this.#rest.length ? NOTHING : this.#rest.subarray(bytes);
  }

  #size(): number {
    const size = this.#rest.readInt32BE(0);
    if (size > 0 && size <= this.#maxFrameBytes) return size;
    throw new NaruError(
      'INVALID_REQUEST',
      `a request of ${size} bytes was announced; the limit is ${this.#maxFrameBytes}`,
    );
  }
}
