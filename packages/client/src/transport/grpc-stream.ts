/**
 * A two-way gRPC stream straight on node:http2, for the two methods that carry the data: the library's pipeline costs
 * several times what the stream below it does. Connections are the library's; so are all other calls.
 *
 * Owns framing, back-pressure in both directions, and how a stream ends. Knows no method.
 */
import type { ClientHttp2Stream, IncomingHttpHeaders } from 'node:http2';
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { fromBinary } from '@bufbuild/protobuf';
import { Code, ConnectError } from '@connectrpc/connect';
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { frameOf, GrpcFrameReader } from '@naru/protocol/grpc-frames';
import { ErrorSchema } from '@naru/protocol/proto';
import type { MessageStream } from './transport.ts';
import { fromWireError } from './wire-errors.ts';

/** Bytes of messages received and not yet taken, beyond which the broker has to wait. */
const MAX_WAITING_BYTES = 2 * 1024 * 1024;

const REQUEST_HEADERS = { 'content-type': 'application/grpc+proto', te: 'trailers', 'user-agent': 'naru-client' };

export interface GrpcStreamOptions<Out, In> {
  /** Opens the HTTP/2 stream of the method. */
  readonly request: (headers: Readonly<Record<string, string>>) => Promise<ClientHttp2Stream>;
  /** A message in pieces, which may be the message's own memory. */
  readonly encode: (message: Out) => readonly Uint8Array[];
  readonly decode: (bytes: Uint8Array) => In;
  readonly maxMessageBytes: number;
  /** What the owner is told of a failure. */
  readonly failed: (reason: unknown) => Error;
  readonly over: () => void;
}

export class GrpcStream<Out, In> implements MessageStream<Out, In> {
  readonly #options: GrpcStreamOptions<Out, In>;
  #queue: Out[] = [];
  #stream: ClientHttp2Stream | null = null;
  #ending = false;
  #aborted = false;
  onDrain: (() => void) | null = null;

  constructor(options: GrpcStreamOptions<Out, In>) {
    this.#options = options;
  }

  get backlog(): number {
    return this.#queue.length;
  }

  send(message: Out): void {
    if (this.#ending || this.#aborted) return;
    this.#queue.push(message);
    this.#pump();
  }

  end(): void {
    this.#ending = true;
    this.#pump();
  }

  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#queue = [];
    this.#stream?.close(8 /* NGHTTP2_CANCEL */);
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<In, void> {
    try {
      if (this.#aborted) throw new NaruError('ABORTED', 'the stream was aborted');
      const stream = await this.#options.request(REQUEST_HEADERS);
      this.#stream = stream;
      const incoming = new Incoming(stream, this.#options.maxMessageBytes);
      if (this.#aborted) stream.close(8);
      stream.on('drain', () => this.#pump());
      this.#pump();
      for (let message = await incoming.take(); message !== null; message = await incoming.take()) {
        yield this.#options.decode(message);
      }
    } catch (reason) {
      throw this.#options.failed(reason);
    } finally {
      // Leaving the loop early cancels the call.
      this.abort();
      this.#options.over();
    }
  }

  /** Gives the connection what waits, as long as it takes it. */
  #pump(): void {
    const stream = this.#stream;
    if (stream === null || stream.destroyed || stream.closed) return;
    let sent = 0;
    while (sent < this.#queue.length && !stream.writableNeedDrain) {
      stream.cork();
      for (const piece of frameOf(this.#options.encode(this.#queue[sent] as Out))) stream.write(piece);
      stream.uncork();
      sent += 1;
    }
    if (sent > 0) this.#queue = this.#queue.slice(sent);
    if (this.#queue.length > 0 || stream.writableNeedDrain) return;
    if (this.#ending && !stream.writableEnded) stream.end();
    else this.onDrain?.();
  }
}

/** The messages of an answer, and how it ended. */
class Incoming {
  readonly #stream: ClientHttp2Stream;
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #wake: (() => void) | null = null;
  #ended = false;
  #error: Error | null = null;

  constructor(stream: ClientHttp2Stream, maxMessageBytes: number) {
    this.#stream = stream;
    const reader = new GrpcFrameReader(maxMessageBytes);
    let trailers: IncomingHttpHeaders | null = null;
    const onMessage = (message: Uint8Array): void => {
      this.#waiting.push(message);
      this.#waitingBytes += message.length;
      if (this.#waitingBytes >= MAX_WAITING_BYTES) stream.pause();
      this.#wake?.();
    };
    stream.on('response', (headers) => {
      // An answer without messages has its trailers in its headers.
      if (headers['grpc-status'] !== undefined) trailers = headers;
      else if (headers[':status'] !== 200) {
        this.#end(new ConnectError(`HTTP status ${headers[':status']}`, Code.Unavailable));
      }
    });
    stream.on('data', (chunk: Buffer) => {
      try {
        reader.push(chunk, onMessage);
      } catch (error) {
        this.#end(error);
      }
    });
    stream.on('trailers', (headers) => {
      trailers = headers;
    });
    stream.on('end', () => this.#end(trailers === null ? brokenOff() : errorOf(trailers)));
    stream.on('error', (error) => this.#end(error));
    stream.on('close', () => this.#end(trailers === null ? brokenOff() : errorOf(trailers)));
  }

  /** The next message; null at a good end. */
  async take(): Promise<Uint8Array | null> {
    while (this.#waiting.length === 0) {
      if (this.#error !== null) throw this.#error;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    const message = this.#waiting.shift() as Uint8Array;
    this.#waitingBytes -= message.length;
    if (this.#waitingBytes < MAX_WAITING_BYTES && this.#stream.isPaused()) this.#stream.resume();
    return message;
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error === null ? null : toError(error);
    this.#wake?.();
  }
}

function brokenOff(): Error {
  return new ConnectError('the stream broke off', Code.Unavailable);
}

/** Null for status 0. */
function errorOf(trailers: IncomingHttpHeaders): Error | null {
  const status = trailers['grpc-status'];
  if (status === '0') return null;
  const details = trailers['grpc-status-details-bin'];
  const detail = typeof details === 'string' ? detailOf(Buffer.from(details, 'base64')) : null;
  if (detail !== null) return fromWireError(detail);
  const message = trailers['grpc-message'];
  const text = typeof message === 'string' ? decodeMessage(message) : 'no message';
  // oxlint-disable-next-line typescript/no-unsafe-enum-assignment -- the wire has the numbers that Code names
  const error = new ConnectError(text, Number(status));
  error.isWireError = true;
  return error;
}

function decodeMessage(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    // gRPC asks to show what cannot be decoded as it is.
    return text;
  }
}

/** The first naru.v1.Error among the details of a google.rpc.Status. */
function detailOf(status: Uint8Array) {
  const reader = new BinaryReader(status);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    if (field !== 3 || wireType !== WireType.LengthDelimited) {
      reader.skip(wireType, field);
      continue;
    }
    const any = new BinaryReader(reader.bytes());
    let type = '';
    let value: Uint8Array = new Uint8Array();
    while (any.pos < any.len) {
      const [part, partType] = any.tag();
      if (part === 1) type = any.string();
      else if (part === 2) value = any.bytes();
      else any.skip(partType, part);
    }
    if (type.endsWith(`/${ErrorSchema.typeName}`)) return fromBinary(ErrorSchema, value);
  }
  return null;
}
