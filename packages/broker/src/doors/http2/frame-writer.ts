/**
 * What goes out on a connection: small frames at once and in order, DATA of all streams in turn, as far as the client's windows
 * and the socket take it.
 *
 * Everything that is said within one turn of the event loop leaves in one write. Owns the connection's send window and the
 * order among streams. What a stream has to send waits with the stream ({@link Sender}); here it is at most {@link MAX_UNSENT_BYTES}.
 */
import type { Socket } from 'node:net';
import {
  DEFAULT_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  ERROR_CODE,
  FRAME,
  FRAME_HEAD_BYTES,
  headersFrames,
  Http2ConnectionError,
  MAX_WINDOW_BYTES,
  writeFrameHead,
} from './frames.ts';
import type { HeaderField } from './hpack-decoder.ts';
import { encodeHeaders, NO_TABLE } from './hpack-encoder.ts';

/** Given to the socket and not yet taken by the system, beyond which streams wait. */
const MAX_UNSENT_BYTES = 512 * 1024;
/** Small frames that a client does not read: answers to pings and settings, resets, heads. More, and it does so on purpose. */
const MAX_SMALL_BYTES = 1024 * 1024;
/** Larger frames would hold up other streams. */
const LARGEST_FRAME_BYTES = 256 * 1024;
/** Up to this size, copying a piece costs less than giving the socket another. */
const COPIED_BYTES = 1024;
const SLAB_BYTES = 8 * 1024;

/** A stream with something to send. */
export interface Sender {
  readonly id: number;
  /** What may go now: of what waits, as much as its own window has. */
  readonly sendable: number;
  /** Gives pieces of exactly `bytes` bytes, and takes them from what waits. */
  take(bytes: number, give: (piece: Uint8Array) => void): void;
  /** Whether nothing comes after what waits, and nothing waits. */
  readonly isAtEnd: boolean;
  /** What ends the stream. It is on its way after this. */
  takeEnd(): Uint8Array;
}

export class FrameWriter {
  readonly #socket: Socket;
  readonly #onOverflow: () => void;
  #windowBytes = DEFAULT_WINDOW_BYTES;
  /** SETTINGS_MAX_FRAME_SIZE of the client. */
  maxFrameBytes = DEFAULT_FRAME_BYTES;
  readonly #ready = new Set<Sender>();
  #pieces: Uint8Array[] = [];
  #bytes = 0;
  #slab: Buffer = Buffer.alloc(0);
  /** The part of the slab that is no piece yet. */
  #slabFrom = 0;
  #slabTo = 0;
  #isFirstBlock = true;
  #isScheduled = false;
  #isEnding = false;
  readonly #flush = (): void => {
    this.#isScheduled = false;
    this.#send();
  };

  /** @param onOverflow the client reads none of what is written for it; told at most once for each write */
  constructor(socket: Socket, onOverflow: () => void) {
    this.#socket = socket;
    this.#onOverflow = onOverflow;
    socket.on('drain', () => this.#schedule());
  }

  /** A header block in frames, to be written before the next is asked for. */
  headers(streamId: number, fields: readonly HeaderField[], endStream: boolean): Uint8Array {
    const block = encodeHeaders(fields);
    const isFirst = this.#isFirstBlock;
    this.#isFirstBlock = false;
    return headersFrames(streamId, isFirst ? Buffer.concat([NO_TABLE, block]) : block, endStream, this.maxFrameBytes);
  }

  /** Frames that no window holds back. */
  write(frames: Uint8Array): void {
    this.#add(frames);
    this.#schedule();
    if (this.#bytes + this.#socket.writableLength > MAX_SMALL_BYTES + MAX_UNSENT_BYTES) this.#onOverflow();
  }

  /** It has something to send, or may send more of it, or ends. */
  ready(sender: Sender): void {
    this.#ready.add(sender);
    this.#schedule();
  }

  /** What it had to send is of no interest any more. */
  forget(sender: Sender): void {
    this.#ready.delete(sender);
  }

  /** @throws Http2ConnectionError for more than a window can have */
  widen(bytes: number): void {
    this.#windowBytes += bytes;
    if (this.#windowBytes > MAX_WINDOW_BYTES)
      throw new Http2ConnectionError(ERROR_CODE.flowControlError, 'the window of the connection is too large');
    this.#schedule();
  }

  /** Closes the connection after what was written. */
  end(): void {
    this.#isEnding = true;
    this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    setImmediate(this.#flush);
  }

  #send(): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    for (;;) {
      this.#fill();
      this.#closePiece();
      if (this.#pieces.length === 0) break;
      const pieces = this.#pieces;
      this.#pieces = [];
      this.#bytes = 0;
      this.#socket.cork();
      for (const piece of pieces) this.#socket.write(piece);
      this.#socket.uncork();
    }
    if (this.#isEnding) this.#socket.end();
  }

  /** DATA of the streams, a frame of each in turn. */
  #fill(): void {
    const blocked: Sender[] = [];
    for (const sender of this.#ready) {
      if (this.#bytes + this.#socket.writableLength >= MAX_UNSENT_BYTES) break;
      this.#ready.delete(sender);
      const bytes = Math.min(sender.sendable, this.#windowBytes, this.maxFrameBytes, LARGEST_FRAME_BYTES);
      if (bytes > 0) this.#addData(sender, bytes);
      if (sender.isAtEnd) this.#add(sender.takeEnd());
      else if (sender.sendable > 0) {
        // To the end of the line. Without a window of its own it comes back when that widens.
        if (this.#windowBytes > 0) this.#ready.add(sender);
        else blocked.push(sender);
      }
    }
    for (const sender of blocked) this.#ready.add(sender);
  }

  #addData(sender: Sender, bytes: number): void {
    this.#windowBytes -= bytes;
    this.#room(FRAME_HEAD_BYTES);
    writeFrameHead(this.#slab, this.#slabTo, bytes, FRAME.data, 0, sender.id);
    this.#slabTo += FRAME_HEAD_BYTES;
    this.#bytes += FRAME_HEAD_BYTES;
    sender.take(bytes, this.#give);
  }

  readonly #give = (piece: Uint8Array): void => this.#add(piece);

  #add(piece: Uint8Array): void {
    this.#bytes += piece.length;
    if (piece.length > COPIED_BYTES) {
      this.#closePiece();
      this.#pieces.push(piece);
      return;
    }
    this.#room(piece.length);
    this.#slab.set(piece, this.#slabTo);
    this.#slabTo += piece.length;
  }

  /** In the slab. */
  #room(bytes: number): void {
    if (this.#slabTo + bytes <= this.#slab.length) return;
    this.#closePiece();
    this.#slab = Buffer.allocUnsafe(SLAB_BYTES);
    this.#slabFrom = this.#slabTo = 0;
  }

  #closePiece(): void {
    if (this.#slabFrom === this.#slabTo) return;
    this.#pieces.push(this.#slab.subarray(this.#slabFrom, this.#slabTo));
    this.#slabFrom = this.#slabTo;
  }
}
