/**
 * An HTTP/2 client for tests that has only frames: it sends what it is told, also what no client would, keeps no window, answers
 * nothing by itself, and reads when it is told.
 */
import { connect, type Socket } from 'node:net';
import {
  FLAG,
  FRAME,
  FRAME_HEAD_BYTES,
  frame,
  headersFrames,
  PREFACE,
  SETTINGS_ACK,
  settingsFrame,
  windowUpdateFrame,
  type ErrorCode,
} from './frames.ts';
import { HpackDecoder, type HeaderField } from './hpack-decoder.ts';
import { encodeHeaders } from './hpack-encoder.ts';

const MAX_HEADER_LIST_BYTES = 1024 * 1024;
const LARGEST_FRAME_BYTES = 16 * 1024;

export interface ReceivedFrame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export interface ReceivedHeaders {
  readonly fields: ReadonlyMap<string, string>;
  readonly endStream: boolean;
  /** HEADERS and CONTINUATION. */
  readonly frames: number;
}

export const GET: readonly HeaderField[] = [
  [':method', 'GET'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'localhost'],
];
export const POST: readonly HeaderField[] = [[':method', 'POST'], ...GET.slice(1)];

export class RawHttp2Client {
  readonly #socket: Socket;
  #unread: Buffer = Buffer.alloc(0);
  /** Came and not taken, in order. */
  readonly inbox: ReceivedFrame[] = [];
  readonly #decoder = new HpackDecoder();
  #onChange: (() => void)[] = [];
  #pings = 0;
  /** Resolves when the connection is closed. */
  readonly closed: Promise<void>;
  isClosed = false;
  /** The other side said in order that nothing comes any more. */
  hasEnded = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.isClosed = true;
        this.#changed();
        resolve();
      });
    });
    socket.on('error', () => {});
    socket.on('end', () => (this.hasEnded = true));
    socket.on('data', (chunk: Buffer) => {
      this.#unread = Buffer.concat([this.#unread, chunk]);
      this.#readFrames();
      this.#changed();
    });
  }

  static async connect(port: number): Promise<RawHttp2Client> {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    return new RawHttp2Client(socket);
  }

  write(...frames: readonly Uint8Array[]): void {
    this.#socket.write(Buffer.concat(frames));
  }

  /** What begins a connection; takes what the other side begins with. */
  async greet(settings: readonly (readonly [id: number, value: number])[] = []): Promise<void> {
    this.write(PREFACE, settingsFrame(settings), SETTINGS_ACK);
    while ((await this.takeFrame(FRAME.settings)).flags !== FLAG.ack);
    await this.takeFrame(FRAME.windowUpdate, 0);
  }

  headers(streamId: number, fields: readonly HeaderField[], endStream = false): void {
    this.write(headersFrames(streamId, encodeHeaders(fields), endStream, LARGEST_FRAME_BYTES));
  }

  /** @param padding length of it; the frame is only padded when it is given */
  data(streamId: number, content: Uint8Array | string, endStream = false, padding?: number): void {
    this.write(dataFrame(streamId, content, endStream, padding));
  }

  widen(streamId: number, bytes: number): void {
    this.write(windowUpdateFrame(streamId, bytes));
  }

  /** Says that nothing more is sent, as TCP does. */
  halfClose(): void {
    this.#socket.end();
  }

  stopReading(): void {
    this.#socket.pause();
  }

  startReading(): void {
    this.#socket.resume();
  }

  /** Bytes that the connection has not taken. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  destroy(): void {
    this.#socket.destroy();
  }

  /** The next of this type, and of this stream when one is given; others wait for their turn. Fails when none comes. */
  async takeFrame(type: number, streamId?: number): Promise<ReceivedFrame> {
    const isIt = (one: ReceivedFrame): boolean =>
      one.type === type && (streamId === undefined || one.streamId === streamId);
    return (await this.#take(isIt)) ?? fail(`the connection was closed before a frame of type ${type} came`);
  }

  /** A header block, decoded. Blocks have to be taken in the order in which they come. */
  async takeHeaders(streamId: number): Promise<ReceivedHeaders> {
    const first = await this.takeFrame(FRAME.headers);
    if (first.streamId !== streamId) fail(`headers of ${first.streamId} came where those of ${streamId} were expected`);
    const parts = [first.payload];
    for (let last = first; (last.flags & FLAG.endHeaders) === 0;) {
      last = await this.takeFrame(FRAME.continuation, streamId);
      parts.push(last.payload);
    }
    const fields = this.#decoder.decode(Buffer.concat(parts), MAX_HEADER_LIST_BYTES) ?? fail('too many headers');
    return { fields: new Map(fields), endStream: (first.flags & FLAG.endStream) !== 0, frames: parts.length };
  }

  /** `bytes` of DATA of a stream; fails when a frame does not end there. */
  async takeData(streamId: number, bytes: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = bytes; left > 0;) {
      const { payload } = await this.takeFrame(FRAME.data, streamId);
      parts.push(payload);
      left -= payload.length;
      if (left < 0) fail(`more than ${bytes} bytes came`);
    }
    return Buffer.concat(parts);
  }

  async takeReset(streamId: number): Promise<ErrorCode> {
    return (await this.takeFrame(FRAME.rstStream, streamId)).payload.readUInt32BE(0) as ErrorCode;
  }

  /** Why the connection is closed, which has to follow. */
  async takeFarewell(): Promise<{ code: ErrorCode; lastStreamId: number; reason: string }> {
    const { payload } = await this.takeFrame(FRAME.goaway, 0);
    await this.closed;
    const [lastStreamId, code] = [payload.readUInt32BE(0), payload.readUInt32BE(4) as ErrorCode];
    return { lastStreamId, code, reason: payload.toString('latin1', 8) };
  }

  /** The other side has done what it was asked so far, and all that it sends because of it was received. */
  async settle(): Promise<void> {
    // DATA leaves after the small frames of the same turn: the first answer says that it was made, the second that it came.
    for (let round = 0; round < 2; round++) {
      const payload = Buffer.alloc(8);
      payload.writeUInt32BE(++this.#pings);
      this.write(frame(FRAME.ping, 0, 0, payload));
      const isIt = (one: ReceivedFrame): boolean => one.type === FRAME.ping && one.payload.equals(payload);
      if ((await this.#take(isIt)) === null) fail('the connection was closed before a PING was answered');
    }
  }

  /** Frames of this type that came and were not taken. */
  waiting(type: number, streamId?: number): ReceivedFrame[] {
    return this.inbox.filter((one) => one.type === type && (streamId === undefined || one.streamId === streamId));
  }

  /** Takes what came of WINDOW_UPDATE for a stream, or the connection. */
  takeCredit(streamId: number): number {
    const updates = this.waiting(FRAME.windowUpdate, streamId);
    for (const update of updates) this.inbox.splice(this.inbox.indexOf(update), 1);
    return updates.reduce((sum, { payload }) => sum + payload.readUInt32BE(0), 0);
  }

  async #take(isIt: (one: ReceivedFrame) => boolean): Promise<ReceivedFrame | null> {
    for (;;) {
      const index = this.inbox.findIndex(isIt);
      if (index >= 0) return this.inbox.splice(index, 1)[0] as ReceivedFrame;
      if (this.isClosed) return null;
      await new Promise<void>((resolve) => this.#onChange.push(resolve));
    }
  }

  #readFrames(): void {
    let at = 0;
    while (this.#unread.length - at >= FRAME_HEAD_BYTES) {
      const end = at + FRAME_HEAD_BYTES + this.#unread.readUIntBE(at, 3);
      if (end > this.#unread.length) break;
      const [type, flags] = [this.#unread.readUInt8(at + 3), this.#unread.readUInt8(at + 4)];
      const streamId = this.#unread.readUInt32BE(at + 5);
      this.inbox.push({ type, flags, streamId, payload: this.#unread.subarray(at + FRAME_HEAD_BYTES, end) });
      at = end;
    }
    this.#unread = this.#unread.subarray(at);
  }

  #changed(): void {
    for (const resume of this.#onChange.splice(0)) resume();
  }
}

export function dataFrame(
  streamId: number,
  content: Uint8Array | string,
  endStream = false,
  padding?: number,
): Uint8Array {
  const flags = (endStream ? FLAG.endStream : 0) | (padding === undefined ? 0 : FLAG.padded);
  const bytes = Buffer.from(content);
  const payload = padding === undefined ? bytes : Buffer.concat([Buffer.of(padding), bytes, Buffer.alloc(padding)]);
  return frame(FRAME.data, flags, streamId, payload);
}

function fail(why: string): never {
  throw new Error(why);
}
