/**
 * Takes a client's bytes apart: the preface, then frames. DATA is passed on as it comes, in views of the chunks, so that it
 * is copied once, by who puts messages together; all other frames are small and are put together here.
 *
 * Knows no streams and no connection state, except what a frame's own bytes say.
 */
import { ERROR_CODE, FLAG, FRAME, FRAME_HEAD_BYTES, Http2ConnectionError, PREFACE } from './frames.ts';

const NOTHING = Buffer.alloc(0);
/** Of a frame that is not DATA. Larger ones are allowed by our settings, but there is no use for them. */
const MAX_OTHER_BYTES = 32 * 1024;

export interface FrameListener {
  /**
   * A part of a DATA frame.
   *
   * @param part a view, valid during the call
   * @param flowBytes what it takes from the windows: the part, and padding
   * @param isLast nothing of the frame is left
   */
  onData(streamId: number, part: Uint8Array, flowBytes: number, isLast: boolean, endStream: boolean): void;
  /** Any other frame. @param payload a view, valid during the call */
  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void;
}

export class FrameParser {
  readonly #listener: FrameListener;
  readonly #maxFrameBytes: number;
  #prefaceBytes = 0;
  /** Of the frame that comes, as far as it is there. */
  readonly #head = Buffer.alloc(FRAME_HEAD_BYTES);
  #headBytes = 0;
  #type = 0;
  #flags = 0;
  #streamId = 0;
  /** Of the payload, still to come; for DATA without its padding. */
  #left = 0;
  #paddingLeft = 0;
  #padLengthIsNext = false;
  #payload: Buffer | null = null;

  /** @param maxFrameBytes the SETTINGS_MAX_FRAME_SIZE that the client was told */
  constructor(listener: FrameListener, maxFrameBytes: number) {
    this.#listener = listener;
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** @throws Http2ConnectionError, as do the listener's calls: the connection is of no use after it */
  push(chunk: Buffer): void {
    let at = this.#prefaceBytes < PREFACE.length ? this.#takePreface(chunk) : 0;
    while (at < chunk.length) {
      if (this.#headBytes < FRAME_HEAD_BYTES) {
        at = this.#takeHead(chunk, at);
        if (this.#headBytes < FRAME_HEAD_BYTES) return;
        this.#begin();
      }
      // Also when there is nothing left of the chunk: a frame may have no payload.
      at = this.#type === FRAME.data ? this.#takeData(chunk, at) : this.#takePayload(chunk, at);
    }
  }

  #takePreface(chunk: Buffer): number {
    const end = Math.min(chunk.length, PREFACE.length - this.#prefaceBytes);
    const expected = PREFACE.subarray(this.#prefaceBytes, this.#prefaceBytes + end);
    if (!expected.equals(chunk.subarray(0, end)))
      throw new Http2ConnectionError(ERROR_CODE.protocolError, 'this is not the preface of HTTP/2');
    this.#prefaceBytes += end;
    return end;
  }

  #takeHead(chunk: Buffer, from: number): number {
    const end = Math.min(chunk.length, from + FRAME_HEAD_BYTES - this.#headBytes);
    for (let at = from; at < end; at++) this.#head[this.#headBytes++] = chunk[at] as number;
    return end;
  }

  #begin(): void {
    const head = this.#head;
    const length = head.readUIntBE(0, 3);
    this.#type = head[3] as number;
    this.#flags = head[4] as number;
    this.#streamId = head.readUInt32BE(5) & 0x7fffffff;
    const isData = this.#type === FRAME.data;
    if (length > (isData ? this.#maxFrameBytes : MAX_OTHER_BYTES)) {
      const code = length > this.#maxFrameBytes ? ERROR_CODE.frameSizeError : ERROR_CODE.enhanceYourCalm;
      throw new Http2ConnectionError(code, `a frame of type ${this.#type} has ${length} bytes`);
    }
    this.#left = length;
    this.#paddingLeft = 0;
    this.#padLengthIsNext = isData && (this.#flags & FLAG.padded) !== 0;
    if (this.#padLengthIsNext && length === 0)
      throw new Http2ConnectionError(ERROR_CODE.frameSizeError, 'a padded frame has no room for its padding');
  }

  #takeData(chunk: Buffer, from: number): number {
    let at = from;
    let flowBytes = 0;
    if (this.#padLengthIsNext) {
      if (at === chunk.length) return at;
      this.#padLengthIsNext = false;
      this.#paddingLeft = chunk[at] as number;
      this.#left -= 1 + this.#paddingLeft;
      if (this.#left < 0)
        throw new Http2ConnectionError(ERROR_CODE.protocolError, 'a frame has more padding than bytes');
      at += 1;
      flowBytes = 1;
    }
    const end = Math.min(chunk.length, at + this.#left);
    const part = at === end ? NOTHING : chunk.subarray(at, end);
    this.#left -= part.length;
    const padding = Math.min(chunk.length - end, this.#paddingLeft);
    this.#paddingLeft -= padding;
    flowBytes += part.length + padding;
    const isLast = this.#left === 0 && this.#paddingLeft === 0;
    if (isLast) this.#headBytes = 0;
    if (isLast || flowBytes > 0) {
      this.#listener.onData(this.#streamId, part, flowBytes, isLast, isLast && (this.#flags & FLAG.endStream) !== 0);
    }
    return end + padding;
  }

  #takePayload(chunk: Buffer, from: number): number {
    const end = Math.min(chunk.length, from + this.#left);
    let payload = chunk.subarray(from, end);
    if (this.#payload !== null || payload.length < this.#left) {
      this.#payload ??= Buffer.alloc(this.#left);
      this.#payload.set(payload, this.#payload.length - this.#left);
      this.#left -= payload.length;
      if (this.#left > 0) return end;
      payload = this.#payload;
      this.#payload = null;
    }
    this.#headBytes = 0;
    this.#listener.onFrame(this.#type, this.#flags, this.#streamId, payload);
    return end;
  }
}
