/**
 * gRPC's streaming methods straight on node:http2, for the two that carry the data.
 *
 * The library's pipeline costs several times what the stream below it does (bench: bare-connect beside bare-http2), so
 * plain gRPC over HTTP/2 on these methods is served here. Everything else, and these methods over Connect, gRPC-Web, with a
 * deadline or with compressed messages, goes through the library to the same code.
 *
 * Owns framing, flow control, trailers. Knows no method.
 */
import type { IncomingHttpHeaders, ServerHttp2Stream } from 'node:http2';
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { toError, type Logger } from '@naru/base';
import { ERRORS, NaruError, type Refusal } from '@naru/protocol';
import { frameOf, GrpcFrameReader } from '@naru/protocol/grpc-frames';
import { ErrorSchema } from '@naru/protocol/proto';
import { toErrorMessage, toRefusal } from './wire-errors.ts';

/** Messages that were received and not yet taken, in bytes, beyond which the other side has to wait. */
const MAX_WAITING_BYTES = 1024 * 1024;

/** A bidirectional method: bytes of messages in, pieces of messages out. */
export interface StreamMethod {
  readonly path: string;
  serve(requests: AsyncIterable<Uint8Array>, peer: string, signal: AbortSignal): AsyncIterable<readonly Uint8Array[]>;
}

/**
 * Messages out of bytes. Not a generator, which would cost several turns of the microtask queue for each message.
 *
 * @param read one message, for the frequent ones; null where {@link decode} has to. Default: it always has to
 * @throws NaruError INVALID_REQUEST for bytes that are no such message
 */
export function decoded<Desc extends DescMessage>(
  schema: Desc,
  messages: AsyncIterable<Uint8Array>,
  read: (bytes: Uint8Array) => MessageShape<Desc> | null = () => null,
): AsyncIterable<MessageShape<Desc>> {
  return {
    [Symbol.asyncIterator]() {
      const iterator = messages[Symbol.asyncIterator]();
      return {
        async next() {
          const next = await iterator.next();
          if (next.done === true) return { done: true, value: undefined };
          return { done: false, value: read(next.value) ?? decode(schema, next.value) };
        },
      };
    },
  };
}

function decode<Desc extends DescMessage>(schema: Desc, bytes: Uint8Array): MessageShape<Desc> {
  try {
    return fromBinary(schema, bytes);
  } catch (error) {
    throw new NaruError('INVALID_REQUEST', `a message is no ${schema.typeName}: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** Whether a request can be served here. */
export function isPlainGrpc(headers: IncomingHttpHeaders): boolean {
  const type = headers['content-type'];
  const encoding = headers['grpc-encoding'];
  return (
    (type === 'application/grpc' || type === 'application/grpc+proto') &&
    (encoding === undefined || encoding === 'identity') &&
    headers['grpc-timeout'] === undefined
  );
}

/** Serves one call. Settles when it is over; never rejects. */
export async function serveGrpcStream(
  stream: ServerHttp2Stream,
  method: StreamMethod,
  maxMessageBytes: number,
  logger: Logger,
): Promise<void> {
  if (stream.destroyed) return;
  const abort = new AbortController();
  stream.on('error', (error) => logger.debug({ error, method: method.path }, 'a stream broke'));
  stream.on('close', () => abort.abort());
  let refusal: Refusal | null = null;
  // The compatibility layer, which saw the request first, would send trailers of its own.
  stream.removeAllListeners('wantTrailers');
  stream.on('wantTrailers', () => {
    if (!stream.destroyed) stream.sendTrailers(trailersFor(refusal));
  });
  stream.respond({ ':status': 200, 'content-type': 'application/grpc+proto' }, { waitForTrailers: true });
  const peer = stream.session?.socket.remoteAddress ?? '';
  const requests = new IncomingMessages(stream, maxMessageBytes);
  try {
    for await (const pieces of method.serve(requests, peer, abort.signal)) {
      if (!write(stream, pieces)) await drained(stream);
      if (stream.destroyed) return;
    }
  } catch (error) {
    if (abort.signal.aborted) return;
    refusal = toRefusal(error);
    if (refusal.code === 'INTERNAL') logger.error({ error, method: method.path }, 'a stream failed');
  }
  if (stream.destroyed) return;
  stream.end();
  // The client closes its side when it sees that the call is over. A reset, which HTTP/2 allows here, would overtake the
  // trailers, and some clients take it for a broken connection.
  requests.discard();
}

function write(stream: ServerHttp2Stream, pieces: readonly Uint8Array[]): boolean {
  if (stream.destroyed) return false;
  stream.cork();
  let more = true;
  for (const piece of frameOf(pieces)) more = stream.write(piece);
  stream.uncork();
  return more;
}

function drained(stream: ServerHttp2Stream): Promise<void> {
  if (stream.destroyed || !stream.writableNeedDrain) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done);
      stream.off('close', done);
      resolve();
    };
    stream.on('drain', done);
    stream.on('close', done);
  });
}

/** The messages of a request stream. Taken by one consumer; reading pauses while it is behind. */
class IncomingMessages implements AsyncIterable<Uint8Array>, AsyncIterator<Uint8Array> {
  readonly #stream: ServerHttp2Stream;
  readonly #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #taker: ((result: IteratorResult<Uint8Array>) => void) | null = null;
  #failTaker: ((error: unknown) => void) | null = null;
  #ended = false;
  #error: Error | null = null;

  constructor(stream: ServerHttp2Stream, maxMessageBytes: number) {
    this.#stream = stream;
    const reader = new GrpcFrameReader(maxMessageBytes);
    const onMessage = (message: Uint8Array): void => this.#add(message);
    stream.on('data', (chunk: Buffer) => {
      if (this.#ended) return;
      try {
        reader.push(chunk, onMessage);
      } catch (error) {
        this.#end(error);
      }
    });
    stream.on('end', () => {
      const torn = reader.isBetweenMessages
        ? null
        : new NaruError('INVALID_REQUEST', 'the stream ended inside a message');
      this.#end(torn);
    });
    stream.on('close', () => this.#end(new NaruError('NETWORK', 'the client is gone')));
  }

  [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    return this;
  }

  next(): Promise<IteratorResult<Uint8Array>> {
    const message = this.#waiting.shift();
    if (message !== undefined) {
      this.#waitingBytes -= message.length;
      if (this.#waitingBytes < MAX_WAITING_BYTES && this.#stream.isPaused()) this.#stream.resume();
      return Promise.resolve({ done: false, value: message });
    }
    if (this.#error !== null) return Promise.reject(this.#error);
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => {
      this.#taker = resolve;
      this.#failTaker = reject;
    });
  }

  /** What came, and what still comes, is dropped. */
  discard(): void {
    this.#end(null);
    this.#waiting.length = 0;
    this.#stream.resume();
  }

  #add(message: Uint8Array): void {
    const taker = this.#taker;
    if (taker !== null) {
      this.#taker = null;
      taker({ done: false, value: message });
      return;
    }
    this.#waiting.push(message);
    this.#waitingBytes += message.length;
    if (this.#waitingBytes >= MAX_WAITING_BYTES) this.#stream.pause();
  }

  #end(error: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error === null ? null : toError(error);
    const taker = this.#taker;
    this.#taker = null;
    if (taker === null) return;
    if (error === null) taker({ done: true, value: undefined });
    else this.#failTaker?.(error);
  }
}

function trailersFor(refusal: Refusal | null): Record<string, string> {
  if (refusal === null) return { 'grpc-status': '0' };
  return {
    'grpc-status': String(ERRORS[refusal.code].grpc),
    'grpc-message': encodeURIComponent(refusal.message),
    'grpc-status-details-bin': Buffer.from(statusOf(refusal)).toString('base64').replace(/=+$/, ''),
  };
}

/** A google.rpc.Status with the whole error as its detail. */
function statusOf(refusal: Refusal): Uint8Array {
  const detail = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .string(`type.googleapis.com/${ErrorSchema.typeName}`)
    .tag(2, WireType.LengthDelimited)
    .bytes(toBinary(ErrorSchema, toErrorMessage(refusal)))
    .finish();
  return new BinaryWriter()
    .tag(1, WireType.Varint)
    .int32(ERRORS[refusal.code].grpc)
    .tag(2, WireType.LengthDelimited)
    .string(refusal.message)
    .tag(3, WireType.LengthDelimited)
    .bytes(detail)
    .finish();
}
