/**
 * Writes responses to a socket, in slices: what a client does not take is waiting here, where it is counted, and whether it
 * takes anything at all shows.
 *
 * Owns buffers from {@link ResponseWriter.write} until they are sent; they are read only.
 */
import type { Socket } from 'node:net';
import type { Clock } from '@naru/base';

/** What the socket has at a time. A client that takes less than this within the time-out counts as one that takes nothing. */
const SLICE_BYTES = 256 * 1024;

export class ResponseWriter {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #onSent: (bytes: number) => void;
  #queue: Uint8Array[] = [];
  /** Of the first buffer of the queue, handed to the socket. */
  #skip = 0;
  #writing = false;
  #unsentBytes = 0;
  #progressMs = 0;

  /** @param onSent is told after every slice that the client's side took */
  constructor(socket: Socket, clock: Clock, onSent: (bytes: number) => void) {
    this.#socket = socket;
    this.#clock = clock;
    this.#onSent = onSent;
  }

  get unsentBytes(): number {
    return this.#unsentBytes;
  }

  /** For how long nothing was taken of what waits; 0 when nothing waits. */
  stalledMs(nowMs: number): number {
    return this.#unsentBytes === 0 ? 0 : nowMs - this.#progressMs;
  }

  write(parts: readonly Uint8Array[]): void {
    if (this.#unsentBytes === 0) this.#progressMs = this.#clock.monotonicMs();
    for (const part of parts) {
      this.#push(part);
      this.#unsentBytes += part.length;
    }
    if (!this.#writing) this.#writeSlice();
  }

  /** Batches that were read from a file together go together, too: each buffer that the socket is given costs. */
  #push(part: Uint8Array): void {
    const last = this.#queue.at(-1);
    if (last !== undefined && last.buffer === part.buffer && last.byteOffset + last.length === part.byteOffset) {
      this.#queue[this.#queue.length - 1] = Buffer.from(last.buffer, last.byteOffset, last.length + part.length);
    } else this.#queue.push(part);
  }

  #writeSlice(): void {
    const slice: Uint8Array[] = [];
    let bytes = 0;
    let used = 0;
    for (const part of this.#queue) {
      const rest = Math.min(part.length - this.#skip, SLICE_BYTES - bytes);
      slice.push(part.subarray(this.#skip, this.#skip + rest));
      bytes += rest;
      if (this.#skip + rest < part.length) {
        this.#skip += rest;
        break;
      }
      used += 1;
      this.#skip = 0;
      if (bytes === SLICE_BYTES) break;
    }
    if (used === this.#queue.length) this.#queue = [];
    else this.#queue.splice(0, used);
    const last = slice.pop();
    if (last === undefined) return;
    this.#writing = true;
    this.#socket.cork();
    for (const part of slice) this.#socket.write(part);
    this.#socket.write(last, (error) => {
      // A connection that broke: whoever closed it counts what is left.
      if (error === undefined || error === null) this.#sent(bytes);
    });
    this.#socket.uncork();
  }

  #sent(bytes: number): void {
    this.#writing = false;
    this.#unsentBytes -= bytes;
    this.#progressMs = this.#clock.monotonicMs();
    this.#onSent(bytes);
    if (!this.#writing && this.#queue.length > 0) this.#writeSlice();
  }
}
