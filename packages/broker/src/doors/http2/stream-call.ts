/**
 * A stream for code that waits: what the client sends as an async iterable, and writing that waits for room.
 *
 * Owns what was received and is not taken yet. The client may send {@link MAX_WAITING_BYTES} and the stream's window ahead.
 */
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { HeaderField } from './hpack-decoder.ts';
import type { Http2Stream, StreamListener } from './http2-stream.ts';

/** Received and not yet taken, in bytes, beyond which the other side has to wait. */
const MAX_WAITING_BYTES = 256 * 1024;
/** What an item takes beside its bytes: a client can send many empty ones. */
const ITEM_BYTES = 128;

/** Makes items, such as messages, of a body's parts. */
export interface BodyReader {
  /** @param part is not valid after the call @throws NaruError INVALID_REQUEST: nothing more is read */
  push(part: Uint8Array, onItem: (item: Uint8Array) => void): void;
  /** What is wrong with a body that ends here; null when nothing is. */
  atEnd(): NaruError | null;
}

/** The parts as they come. */
const PARTS: BodyReader = { push: (part, onItem) => onItem(Buffer.from(part)), atEnd: () => null };

export class StreamCall implements StreamListener, AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  readonly #stream: Http2Stream;
  readonly #reader: BodyReader;
  readonly #abort = new AbortController();
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #taker: ((result: IteratorResult<Uint8Array>) => void) | null = null;
  #failTaker: ((error: unknown) => void) | null = null;
  #isOver = false;
  #error: Error | null = null;
  #onRoom: (() => void) | null = null;
  readonly #onItem = (item: Uint8Array): void => this.#add(item);

  constructor(stream: Http2Stream, reader: BodyReader = PARTS) {
    this.#stream = stream;
    this.#reader = reader;
    stream.listen(this);
  }

  /** Aborted when the stream is over, however it ended. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  get isClosed(): boolean {
    return this.#stream.isClosed;
  }

  respond(status: number, headers: readonly HeaderField[]): void {
    this.#stream.respond(status, headers);
  }

  /** Undefined when more can be written; else resolves when it can, or when there is no use. */
  write(pieces: readonly Uint8Array[]): Promise<void> | undefined {
    if (this.#stream.write(pieces)) return undefined;
    return new Promise((resolve) => {
      this.#onRoom = resolve;
    });
  }

  /** What came of the body, and what still comes, is dropped. Parameters: {@link Http2Stream.end}. */
  end(trailers: readonly HeaderField[] = [], readsOn = true): void {
    this.#stream.end(trailers, readsOn);
    this.#finish(null);
    this.#waiting.length = 0;
    this.#stream.resume();
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const item = this.#waiting.shift();
    if (item !== undefined) {
      const wasFull = this.#waitingBytes >= MAX_WAITING_BYTES;
      this.#waitingBytes -= item.length + ITEM_BYTES;
      if (wasFull && this.#waitingBytes < MAX_WAITING_BYTES) this.#stream.resume();
      return Promise.resolve({ done: false, value: item });
    }
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#isOver) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#taker = resolve;
      this.#failTaker = reject;
    });
  }

  onData(part: Uint8Array): void {
    if (this.#isOver) return;
    try {
      this.#reader.push(part, this.#onItem);
    } catch (error) {
      this.#finish(error);
    }
  }

  onEnd(): void {
    if (!this.#isOver) this.#finish(this.#reader.atEnd());
  }

  onDrain(): void {
    const onRoom = this.#onRoom;
    this.#onRoom = null;
    onRoom?.();
  }

  onClose(): void {
    this.#finish(new NaruError('NETWORK', 'the client is gone'));
    this.#abort.abort();
    this.onDrain();
  }

  #add(item: Uint8Array): void {
    const taker = this.#taker;
    if (taker !== null) {
      this.#taker = null;
      taker({ done: false, value: item });
      return;
    }
    this.#waiting.push(item);
    this.#waitingBytes += item.length + ITEM_BYTES;
    if (this.#waitingBytes >= MAX_WAITING_BYTES) this.#stream.pause();
  }

  #finish(error: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#error = error === null ? null : toError(error);
    const taker = this.#taker;
    this.#taker = null;
    if (taker === null) return;
    if (error === null) taker({ done: true, value: undefined });
    else this.#failTaker?.(error);
  }
}
