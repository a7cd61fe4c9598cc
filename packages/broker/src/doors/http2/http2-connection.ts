/**
 * The server's side of an HTTP/2 connection (RFC 9113) on a plain socket: what the streams that carry events need, without what
 * node:http2 does for each frame of 16 KiB.
 *
 * Owns the state of the connection: settings, header compression, which streams are open, the window of the connection, and what
 * a client may not do. No server push, no priorities: what RFC 9113 has deprecated is read and left alone.
 *
 * Invariants: what a client can make this side hold or do is limited: open streams, the window of each, a header block and the
 * number of its frames, frames that achieve nothing ({@link Allowance}), and answers that it does not read ({@link FrameWriter}).
 */
import type { Socket } from 'node:net';
import type { Clock, Logger, TimerHandle, Timers } from '@naru/base';
import { Allowance } from './allowance.ts';
import { FrameParser, type FrameListener } from './frame-parser.ts';
import { FrameWriter } from './frame-writer.ts';
import {
  DEFAULT_FRAME_BYTES,
  DEFAULT_WINDOW_BYTES,
  ERROR_CODE,
  FLAG,
  FRAME,
  frame,
  goawayFrame,
  Http2ConnectionError,
  MAX_FRAME_BYTES,
  MAX_WINDOW_BYTES,
  rstStreamFrame,
  SETTING,
  SETTING_BYTES,
  SETTINGS_ACK,
  settingsFrame,
  windowUpdateFrame,
  type ErrorCode,
} from './frames.ts';
import { HpackDecoder, HpackError, type HeaderField } from './hpack-decoder.ts';
import { Http2Stream, type StreamOwner } from './http2-stream.ts';
import { areTrailers, readRequestHead } from './request-head.ts';

/** Of a header block as it is sent; what it says has a limit of its own. */
const MAX_BLOCK_BYTES = 32 * 1024;
/** Frames of one header block. */
const MAX_BLOCK_FRAMES = 32;
/** For a client to read why its connection is closed. */
const FAREWELL_MS = 1_000;
/** Streams that this side has reset, of which frames may still be on their way. */
const MAX_REMEMBERED_RESETS = 1_000;

export interface Http2Limits {
  /** What a client may send on a stream, and on the connection, before this side has taken it. */
  readonly streamWindowBytes: number;
  readonly connectionWindowBytes: number;
  /** Of streams that nobody reads, beyond which the window of the connection is given back no more. */
  readonly heldBytes: number;
  readonly maxFrameBytes: number;
  readonly maxStreams: number;
  /** Names, values, and 32 bytes for each field. */
  readonly maxHeaderBytes: number;
}

export interface Http2Options {
  readonly limits: Http2Limits;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** A request, whose body may still come. Listens to the stream before it returns. */
  readonly onStream: (stream: Http2Stream) => void;
  readonly onClosed: () => void;
}

/** A header block that is not complete. */
interface OpenBlock {
  readonly streamId: number;
  readonly endStream: boolean;
  readonly parts: Buffer[];
  bytes: number;
}

export class Http2Connection implements FrameListener, StreamOwner {
  readonly peer: string;
  readonly writer: FrameWriter;
  readonly #socket: Socket;
  readonly #options: Http2Options;
  readonly #decoder = new HpackDecoder();
  readonly #allowance: Allowance;
  readonly #streams = new Map<number, Http2Stream>();
  readonly #reset = new Set<number>();
  /** Of those that were heard of, and of those that this side has opened. */
  #lastStreamId = 0;
  #lastOpenedId = 0;
  #block: OpenBlock | null = null;
  #hasSettings = false;
  /** SETTINGS_INITIAL_WINDOW_SIZE of the client. */
  #sendWindowBytes = DEFAULT_WINDOW_BYTES;
  #receiveWindow: number;
  /** Taken, and not yet given back to the client's window. */
  #takenBytes = 0;
  /** Of streams that nobody reads. */
  #heldBytes = 0;
  #isGoing = false;
  /** It has failed, and is closed. */
  #farewell: TimerHandle | null = null;

  constructor(socket: Socket, options: Http2Options) {
    const { limits, clock } = options;
    this.#socket = socket;
    this.#options = options;
    this.peer = socket.remoteAddress ?? '';
    this.#allowance = new Allowance(clock);
    this.#receiveWindow = limits.connectionWindowBytes;
    this.writer = new FrameWriter(socket, () => this.#fail(ERROR_CODE.enhanceYourCalm, 'answers are not read'));
    const parser = new FrameParser(this, limits.maxFrameBytes);
    socket.on('data', (chunk: Buffer) => {
      if (this.#farewell !== null) return;
      try {
        parser.push(chunk);
      } catch (error) {
        this.#failBy(error);
      }
    });
    socket.on('close', () => {
      this.#farewell?.cancel();
      this.#breakAll();
      options.onClosed();
    });
    this.#greet();
  }

  /** Takes no new streams, and closes when the open ones are over. */
  close(): void {
    if (this.#isGoing || this.#socket.destroyed) return;
    this.#isGoing = true;
    this.writer.write(goawayFrame(this.#lastOpenedId, ERROR_CODE.noError, ''));
    this.#endWhenIdle();
  }

  hold(bytes: number): void {
    this.#heldBytes += bytes;
    if (bytes < 0) this.#giveBack(0);
  }

  closed(stream: Http2Stream, isReset: boolean): void {
    this.#streams.delete(stream.id);
    // Of a stream that ended in order, nothing can come.
    if (isReset && !stream.hasClientEnded) this.#remember(stream.id);
    this.#endWhenIdle();
  }

  onData(streamId: number, part: Uint8Array, flowBytes: number, isLast: boolean, endStream: boolean): void {
    this.#mayFollow(FRAME.data, streamId);
    this.#receiveWindow -= flowBytes;
    if (this.#receiveWindow < 0)
      throw new Http2ConnectionError(ERROR_CODE.flowControlError, 'more than the window has');
    // Given back at once: a stream that is not read must not hold up the others. Many such do.
    this.#giveBack(flowBytes);
    if (part.length === 0 && !endStream) this.#allowance.spend('empty frames');
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return this.#refuseData(streamId, isLast);
    if (stream.hasClientEnded) return this.#breakOff(stream, ERROR_CODE.streamClosed);
    const code = stream.receive(part, flowBytes) ?? (endStream ? stream.receiveEnd() : null);
    if (code !== null) this.#breakOff(stream, code);
  }

  onFrame(type: number, flags: number, streamId: number, payload: Buffer): void {
    this.#mayFollow(type, streamId);
    switch (type) {
      case FRAME.headers:
        return this.#onHeaders(flags, streamId, payload);
      case FRAME.continuation:
        return this.#onContinuation(flags, payload);
      case FRAME.settings:
        return this.#onSettings(flags, streamId, payload);
      case FRAME.windowUpdate:
        return this.#onWindowUpdate(streamId, payload);
      case FRAME.rstStream:
        return this.#onReset(streamId, payload);
      case FRAME.ping:
        if (streamId !== 0) throw misplaced('PING');
        checkSize('PING', payload, 8);
        if ((flags & FLAG.ack) === 0) this.writer.write(frame(FRAME.ping, FLAG.ack, 0, payload));
        return;
      case FRAME.priority:
        if (streamId === 0) throw misplaced('PRIORITY');
        if (payload.length !== 5) this.#resetStream(streamId, ERROR_CODE.frameSizeError);
        else if (dependency(payload) === streamId) this.#resetStream(streamId, ERROR_CODE.protocolError);
        return this.#allowance.spend('priorities');
      case FRAME.goaway:
        if (streamId !== 0) throw misplaced('GOAWAY');
        if (payload.length < 8) throw new Http2ConnectionError(ERROR_CODE.frameSizeError, 'a GOAWAY is too short');
        // The client closes the connection when its calls are over.
        return;
      case FRAME.pushPromise:
        throw new Http2ConnectionError(ERROR_CODE.protocolError, 'a client cannot push');
      default:
        // Extensions, which whoever does not know them ignores.
        this.#allowance.spend('unknown frames');
    }
  }

  #greet(): void {
    const { streamWindowBytes, connectionWindowBytes, maxFrameBytes, maxStreams, maxHeaderBytes } =
      this.#options.limits;
    const settings = settingsFrame([
      [SETTING.maxConcurrentStreams, maxStreams],
      [SETTING.initialWindowSize, streamWindowBytes],
      [SETTING.maxFrameSize, maxFrameBytes],
      [SETTING.maxHeaderListSize, maxHeaderBytes],
    ]);
    this.writer.write(settings);
    this.writer.write(windowUpdateFrame(0, connectionWindowBytes - DEFAULT_WINDOW_BYTES));
  }

  /** The order of frames: settings first, and header blocks in one piece. */
  #mayFollow(type: number, streamId: number): void {
    if (!this.#hasSettings && type !== FRAME.settings)
      throw new Http2ConnectionError(ERROR_CODE.protocolError, 'the first frame is not SETTINGS');
    const isContinued = this.#block !== null && this.#block.streamId === streamId && type === FRAME.continuation;
    if (this.#block === null ? type === FRAME.continuation : !isContinued)
      throw new Http2ConnectionError(ERROR_CODE.protocolError, 'a header block is torn');
  }

  #giveBack(bytes: number): void {
    this.#takenBytes += bytes;
    const { connectionWindowBytes, heldBytes } = this.#options.limits;
    if (this.#takenBytes < connectionWindowBytes / 2 || this.#heldBytes >= heldBytes) return;
    this.writer.write(windowUpdateFrame(0, this.#takenBytes));
    this.#receiveWindow += this.#takenBytes;
    this.#takenBytes = 0;
  }

  #refuseData(streamId: number, isLast: boolean): void {
    if (this.#isIdle(streamId)) throw misplaced('DATA');
    if (this.#reset.has(streamId) || !isLast) return;
    this.#allowance.spend('frames of streams that are over');
    this.writer.write(rstStreamFrame(streamId, ERROR_CODE.streamClosed));
  }

  #onHeaders(flags: number, streamId: number, payload: Buffer): void {
    if (streamId % 2 === 0) throw misplaced('HEADERS');
    let from = 0;
    let padding = 0;
    if ((flags & FLAG.padded) !== 0) {
      padding = payload[0] ?? 0;
      from = 1;
    }
    const hasPriority = (flags & FLAG.priority) !== 0;
    const dependsOn = hasPriority && payload.length >= from + 5 ? dependency(payload.subarray(from)) : 0;
    if (hasPriority) from += 5;
    if (from + padding > payload.length)
      throw new Http2ConnectionError(ERROR_CODE.protocolError, 'HEADERS have more padding than bytes');
    if (dependsOn === streamId) throw new Http2ConnectionError(ERROR_CODE.protocolError, 'a stream depends on itself');
    const part = payload.subarray(from, payload.length - padding);
    const endStream = (flags & FLAG.endStream) !== 0;
    if ((flags & FLAG.endHeaders) !== 0) return this.#onBlock(streamId, part, endStream);
    this.#block = { streamId, endStream, parts: [Buffer.from(part)], bytes: part.length };
  }

  #onContinuation(flags: number, payload: Buffer): void {
    const block = this.#block as OpenBlock;
    block.parts.push(Buffer.from(payload));
    block.bytes += payload.length;
    if (block.bytes > MAX_BLOCK_BYTES || block.parts.length > MAX_BLOCK_FRAMES)
      throw new Http2ConnectionError(ERROR_CODE.enhanceYourCalm, 'a header block is too large');
    if ((flags & FLAG.endHeaders) === 0) return;
    this.#block = null;
    this.#onBlock(block.streamId, Buffer.concat(block.parts), block.endStream);
  }

  #onBlock(streamId: number, block: Buffer, endStream: boolean): void {
    // Also for streams that are not taken: the table goes on.
    const fields = this.#decoder.decode(block, this.#options.limits.maxHeaderBytes);
    const open = this.#streams.get(streamId);
    if (open !== undefined) return this.#onTrailers(open, fields, endStream);
    if (!this.#isIdle(streamId)) {
      if (this.#reset.has(streamId)) return;
      throw new Http2ConnectionError(ERROR_CODE.streamClosed, 'HEADERS of a stream that is over');
    }
    this.#lastStreamId = streamId;
    const { limits } = this.#options;
    if (this.#isGoing || this.#streams.size >= limits.maxStreams)
      return this.#refuse(streamId, ERROR_CODE.refusedStream);
    const request = fields === null ? OVERSIZED : readRequestHead(fields);
    if (request === null) return this.#refuse(streamId, ERROR_CODE.protocolError);
    const stream = new Http2Stream(streamId, request, this, limits.streamWindowBytes, this.#sendWindowBytes);
    this.#lastOpenedId = streamId;
    this.#streams.set(streamId, stream);
    if (fields === null) {
      stream.respond(431, []);
      stream.end();
    } else this.#options.onStream(stream);
    if (!endStream) return;
    const code = stream.receiveEnd();
    if (code !== null) this.#breakOff(stream, code);
  }

  #onTrailers(stream: Http2Stream, fields: HeaderField[] | null, endStream: boolean): void {
    if (stream.hasClientEnded) return this.#breakOff(stream, ERROR_CODE.streamClosed);
    const isSound = endStream && fields !== null && areTrailers(fields);
    const code = isSound ? stream.receiveEnd() : ERROR_CODE.protocolError;
    if (code !== null) this.#breakOff(stream, code);
  }

  #onSettings(flags: number, streamId: number, payload: Buffer): void {
    const isAck = (flags & FLAG.ack) !== 0;
    if (streamId !== 0 || (isAck && !this.#hasSettings)) throw misplaced('SETTINGS');
    this.#hasSettings = true;
    if (isAck) return checkSize('an acknowledgement of SETTINGS', payload, 0);
    if (payload.length % SETTING_BYTES !== 0) throw wrongSize('SETTINGS', payload);
    this.#allowance.spend('settings');
    for (let at = 0; at < payload.length; at += SETTING_BYTES) {
      // Each of them, since one can change the windows of all streams.
      this.#allowance.spend('settings');
      this.#set(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    }
    this.writer.write(SETTINGS_ACK);
  }

  #set(setting: number, value: number): void {
    if (setting === SETTING.enablePush && value > 1)
      throw new Http2ConnectionError(ERROR_CODE.protocolError, `SETTINGS_ENABLE_PUSH is ${value}`);
    if (setting === SETTING.maxFrameSize) {
      if (value < DEFAULT_FRAME_BYTES || value > MAX_FRAME_BYTES)
        throw new Http2ConnectionError(ERROR_CODE.protocolError, `SETTINGS_MAX_FRAME_SIZE is ${value}`);
      this.writer.maxFrameBytes = value;
    }
    if (setting !== SETTING.initialWindowSize) return;
    if (value > MAX_WINDOW_BYTES)
      throw new Http2ConnectionError(ERROR_CODE.flowControlError, `SETTINGS_INITIAL_WINDOW_SIZE is ${value}`);
    const change = value - this.#sendWindowBytes;
    this.#sendWindowBytes = value;
    for (const stream of this.#streams.values()) {
      if (!stream.widen(change)) throw new Http2ConnectionError(ERROR_CODE.flowControlError, 'a window is too large');
    }
  }

  #onWindowUpdate(streamId: number, payload: Buffer): void {
    checkSize('WINDOW_UPDATE', payload, 4);
    const bytes = payload.readUInt32BE(0) & 0x7fffffff;
    if (streamId === 0) {
      if (bytes === 0) throw new Http2ConnectionError(ERROR_CODE.protocolError, 'a window grows by nothing');
      return this.writer.widen(bytes);
    }
    if (this.#isIdle(streamId)) throw misplaced('WINDOW_UPDATE');
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    if (bytes === 0) this.#breakOff(stream, ERROR_CODE.protocolError);
    else if (!stream.widen(bytes)) this.#breakOff(stream, ERROR_CODE.flowControlError);
  }

  #onReset(streamId: number, payload: Buffer): void {
    checkSize('RST_STREAM', payload, 4);
    if (this.#isIdle(streamId)) throw misplaced('RST_STREAM');
    const stream = this.#streams.get(streamId);
    if (stream === undefined) return;
    // Opening streams only to reset them costs a client less than it costs this side.
    this.#allowance.spend('resets');
    stream.broken();
    // It knows that it has: whatever still comes of it is a mistake.
    this.#reset.delete(streamId);
  }

  /** Of this stream nothing was heard. */
  #isIdle(streamId: number): boolean {
    return streamId === 0 || streamId % 2 === 0 || streamId > this.#lastStreamId;
  }

  #resetStream(streamId: number, code: ErrorCode): void {
    const stream = this.#streams.get(streamId);
    if (stream !== undefined) this.#breakOff(stream, code);
    else this.#refuse(streamId, code);
  }

  /** For what a client did: as good for a flood as its own resets (CVE-2025-8671). */
  #breakOff(stream: Http2Stream, code: ErrorCode): void {
    this.#allowance.spend('errors');
    stream.reset(code);
  }

  /** A stream that this side does not open. */
  #refuse(streamId: number, code: ErrorCode): void {
    this.#allowance.spend('streams that are refused');
    this.writer.write(rstStreamFrame(streamId, code));
    this.#remember(streamId);
  }

  /** This side has reset it; the client may not know yet. */
  #remember(streamId: number): void {
    this.#reset.add(streamId);
    if (this.#reset.size > MAX_REMEMBERED_RESETS) this.#reset.delete(this.#reset.values().next().value as number);
  }

  #breakAll(): void {
    for (const stream of this.#streams.values()) {
      try {
        stream.broken();
      } catch (error) {
        this.#options.logger.error({ error }, 'the end of a stream was not taken');
      }
    }
  }

  #endWhenIdle(): void {
    if (this.#isGoing && this.#streams.size === 0) this.writer.end();
  }

  #failBy(error: unknown): void {
    if (error instanceof Http2ConnectionError) this.#fail(error.code, error.message);
    else if (error instanceof HpackError) this.#fail(ERROR_CODE.compressionError, error.message);
    else {
      this.#options.logger.error({ error }, 'an HTTP/2 connection failed');
      this.#fail(ERROR_CODE.internalError, '');
    }
  }

  /** Says why, and closes. */
  #fail(code: ErrorCode, reason: string): void {
    if (this.#farewell !== null) return;
    const { timers, logger } = this.#options;
    this.#farewell = timers.after(FAREWELL_MS, () => this.#socket.destroy());
    logger.debug({ peer: this.peer, code, reason }, 'an HTTP/2 connection was closed');
    this.#breakAll();
    this.writer.write(goawayFrame(this.#lastOpenedId, code, reason));
    this.writer.end();
  }
}

/** Stands for a request whose head nobody has. */
const OVERSIZED = { method: '', path: '', authority: '', headers: new Map<string, string>(), contentLength: null };

function misplaced(what: string): Http2ConnectionError {
  return new Http2ConnectionError(ERROR_CODE.protocolError, `${what} where there can be none`);
}

function checkSize(what: string, payload: Buffer, bytes: number): void {
  if (payload.length !== bytes) throw wrongSize(what, payload);
}

function wrongSize(what: string, payload: Buffer): Http2ConnectionError {
  return new Http2ConnectionError(ERROR_CODE.frameSizeError, `${what} with ${payload.length} bytes`);
}

/** The stream that a PRIORITY names. */
function dependency(payload: Buffer): number {
  return payload.readUInt32BE(0) & 0x7fffffff;
}
