/**
 * One call on an HTTP/2 connection, as whoever answers it sees it.
 *
 * Owns what waits to be sent, the windows of the stream in both directions, and which side has ended. A stream is over when both
 * have, when one of them resets it, or with its connection; {@link StreamListener.onClose} is called then, once.
 */
import type { HeaderField } from './hpack-decoder.ts';
import {
  ERROR_CODE,
  FLAG,
  FRAME,
  frame,
  MAX_WINDOW_BYTES,
  rstStreamFrame,
  windowUpdateFrame,
  type ErrorCode,
} from './frames.ts';
import type { FrameWriter, Sender } from './frame-writer.ts';
import type { RequestHead } from './request-head.ts';

/** Waiting to be sent, beyond which {@link Http2Stream.write} asks to wait. */
const HIGH_WATER_BYTES = 64 * 1024;
const NOTHING = new Uint8Array();

export interface StreamListener {
  /** @param part is not valid after the call */
  onData(part: Uint8Array): void;
  /** The client has sent everything. */
  onEnd(): void;
  /** What {@link Http2Stream.write} asked to wait for. */
  onDrain(): void;
  /** Nothing comes and nothing can be sent any more. */
  onClose(): void;
}

/** Of the connection. */
export interface StreamOwner {
  readonly writer: FrameWriter;
  readonly peer: string;
  /** Bytes that the connection has for the stream, and that nobody takes for now: more, or less when negative. */
  hold(bytes: number): void;
  /** Both sides have ended, or one has broken off. */
  closed(stream: Http2Stream, isReset: boolean): void;
}

const DEAF: StreamListener = { onData() {}, onEnd() {}, onDrain() {}, onClose() {} };

export class Http2Stream implements Sender {
  readonly id: number;
  readonly request: RequestHead;
  /** Address of the client. */
  readonly peer: string;
  readonly #owner: StreamOwner;
  #listener: StreamListener = DEAF;
  /** Out. */
  #queue: Uint8Array[] = [];
  /** Of the first of the queue, sent. */
  #skip = 0;
  #queuedBytes = 0;
  #sendWindow: number;
  #trailers: readonly HeaderField[] = [];
  #isEnding = false;
  #readsOn = true;
  #hasEnded = false;
  #wantsDrain = false;
  /** In. */
  readonly #windowBytes: number;
  #receiveWindow: number;
  /** Received and taken, and not yet given back to the client's window. */
  #takenBytes = 0;
  #bodyBytes = 0;
  #isPaused = false;
  /** Received while it is paused. */
  #heldBytes = 0;
  #hasClientEnded = false;
  #isClosed = false;

  /** @param windowBytes how much the client may send before it is told that it was taken */
  constructor(id: number, request: RequestHead, owner: StreamOwner, windowBytes: number, sendWindow: number) {
    this.id = id;
    this.request = request;
    this.peer = owner.peer;
    this.#owner = owner;
    this.#windowBytes = this.#receiveWindow = windowBytes;
    this.#sendWindow = sendWindow;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  get hasClientEnded(): boolean {
    return this.#hasClientEnded;
  }

  /** Before anything else happens on the stream: at once when it is handed over. */
  listen(listener: StreamListener): void {
    this.#listener = listener;
  }

  // What the answering side does. After the end of the stream all of it does nothing.

  respond(status: number, headers: readonly HeaderField[]): void {
    if (this.#isClosed) return;
    const { writer } = this.#owner;
    writer.write(writer.headers(this.id, [[':status', String(status)], ...headers], false));
  }

  /** @param pieces are read only from here on @returns whether more can be written; if not, {@link StreamListener.onDrain} says when */
  write(pieces: readonly Uint8Array[]): boolean {
    if (this.#isClosed || this.#isEnding) return true;
    for (const piece of pieces) {
      if (piece.length === 0) continue;
      this.#queue.push(piece);
      this.#queuedBytes += piece.length;
    }
    this.#owner.writer.ready(this);
    this.#wantsDrain = this.#queuedBytes >= HIGH_WATER_BYTES;
    return !this.#wantsDrain;
  }

  /**
   * @param trailers fields after the body
   * @param readsOn false: what is left of the client's body is of no use; behind the answer the stream is reset, without an error
   *   (RFC 9113, 8.1), unless the client has ended it by then
   */
  end(trailers: readonly HeaderField[] = [], readsOn = true): void {
    if (this.#isClosed || this.#isEnding) return;
    this.#isEnding = true;
    this.#trailers = trailers;
    this.#readsOn = readsOn;
    this.#owner.writer.ready(this);
  }

  reset(code: ErrorCode): void {
    if (this.#isClosed) return;
    this.#owner.writer.write(rstStreamFrame(this.id, code));
    this.#close(true);
  }

  /** What the client may send already still comes; it may send no more. */
  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
    this.#release();
    this.#giveBack();
  }

  // Sender: what the connection's writer asks.

  get sendable(): number {
    return Math.min(this.#queuedBytes, Math.max(0, this.#sendWindow));
  }

  get isAtEnd(): boolean {
    return this.#isEnding && !this.#hasEnded && this.#queuedBytes === 0;
  }

  take(bytes: number, give: (piece: Uint8Array) => void): void {
    let rest = bytes;
    let used = 0;
    while (rest > 0) {
      const first = this.#queue[used] as Uint8Array;
      const end = Math.min(first.length, this.#skip + rest);
      give(this.#skip === 0 && end === first.length ? first : first.subarray(this.#skip, end));
      rest -= end - this.#skip;
      this.#skip = end === first.length ? 0 : end;
      if (end === first.length) used += 1;
    }
    if (used === this.#queue.length) this.#queue = [];
    else if (used > 0) this.#queue.splice(0, used);
    this.#queuedBytes -= bytes;
    this.#sendWindow -= bytes;
    if (!this.#wantsDrain || this.#queuedBytes >= HIGH_WATER_BYTES) return;
    this.#wantsDrain = false;
    this.#listener.onDrain();
  }

  takeEnd(): Uint8Array {
    this.#hasEnded = true;
    const isReset = !this.#hasClientEnded && !this.#readsOn;
    if (this.#hasClientEnded || isReset) this.#close(isReset);
    const end =
      this.#trailers.length === 0
        ? frame(FRAME.data, FLAG.endStream, this.id, NOTHING)
        : this.#owner.writer.headers(this.id, this.#trailers, true);
    return isReset ? Buffer.concat([end, rstStreamFrame(this.id, ERROR_CODE.noError)]) : end;
  }

  // What the connection received.

  /** @returns whether the window can be that large */
  widen(bytes: number): boolean {
    this.#sendWindow += bytes;
    if (this.#sendWindow > MAX_WINDOW_BYTES) return false;
    if (this.sendable > 0) this.#owner.writer.ready(this);
    return true;
  }

  /** @returns an error code when the client may not do that */
  receive(part: Uint8Array, flowBytes: number): ErrorCode | null {
    this.#receiveWindow -= flowBytes;
    if (this.#receiveWindow < 0) return ERROR_CODE.flowControlError;
    this.#bodyBytes += part.length;
    const { contentLength } = this.request;
    if (contentLength !== null && this.#bodyBytes > contentLength) return ERROR_CODE.protocolError;
    this.#takenBytes += flowBytes;
    if (part.length > 0) this.#listener.onData(part);
    if (this.#isPaused && !this.#isClosed) {
      this.#heldBytes += flowBytes;
      this.#owner.hold(flowBytes);
    }
    this.#giveBack();
    return null;
  }

  /** @returns an error code when the client may not do that */
  receiveEnd(): ErrorCode | null {
    // Whoever was told of the last data, or of the stream, may have ended it.
    if (this.#isClosed) return null;
    const { contentLength } = this.request;
    if (contentLength !== null && this.#bodyBytes !== contentLength) return ERROR_CODE.protocolError;
    this.#hasClientEnded = true;
    this.#listener.onEnd();
    if (this.#hasEnded) this.#close(false);
    return null;
  }

  /** The client reset it, or the connection is gone. */
  broken(): void {
    this.#close(true);
  }

  #release(): void {
    const bytes = this.#heldBytes;
    this.#heldBytes = 0;
    if (bytes > 0) this.#owner.hold(-bytes);
  }

  /** In steps of half a window, so that few frames are needed. */
  #giveBack(): void {
    if (this.#isPaused || this.#hasClientEnded || this.#isClosed || this.#takenBytes < this.#windowBytes / 2) return;
    this.#owner.writer.write(windowUpdateFrame(this.id, this.#takenBytes));
    this.#receiveWindow += this.#takenBytes;
    this.#takenBytes = 0;
  }

  #close(isReset: boolean): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#owner.writer.forget(this);
    this.#release();
    this.#owner.closed(this, isReset);
    this.#listener.onClose();
  }
}
