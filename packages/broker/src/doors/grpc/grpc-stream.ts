/**
 * gRPC's streaming methods straight on HTTP/2's streams, for the ones that carry the data.
 *
 * The library's pipeline costs several times what the stream below it does (bench: bare-connect beside bare-http2), so
 * plain gRPC over HTTP/2 on these methods is served here. Everything else, and these methods over Connect, gRPC-Web, with a
 * deadline or with compressed messages, goes through the library to the same code.
 *
 * Owns framing and trailers. Knows no method.
 */
import { fromBinary, toBinary, type DescMessage, type MessageShape } from '@bufbuild/protobuf';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import type { Logger } from '@naru/base';
import { ERRORS, NaruError, type Refusal } from '@naru/protocol';
import { frameOf, GrpcFrameReader } from '@naru/protocol/grpc-frames';
import { ErrorSchema } from '@naru/protocol/proto';
import type { HeaderField } from '../http2/hpack-decoder.ts';
import type { Http2Stream } from '../http2/http2-stream.ts';
import type { RequestHead } from '../http2/request-head.ts';
import { StreamCall, type BodyReader } from '../http2/stream-call.ts';
import { toErrorMessage, toRefusal } from './wire-errors.ts';

const RESPONSE_HEADERS: readonly HeaderField[] = [['content-type', 'application/grpc+proto']];

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
export function isPlainGrpc({ method, headers }: RequestHead): boolean {
  const type = headers.get('content-type');
  const encoding = headers.get('grpc-encoding');
  return (
    method === 'POST' &&
    (type === 'application/grpc' || type === 'application/grpc+proto') &&
    (encoding === undefined || encoding === 'identity') &&
    !headers.has('grpc-timeout')
  );
}

/** Serves one call. Settles when it is over; never rejects. */
export async function serveGrpcStream(
  stream: Http2Stream,
  method: StreamMethod,
  maxMessageBytes: number,
  logger: Logger,
): Promise<void> {
  const call = new StreamCall(stream, messagesOf(maxMessageBytes));
  let refusal: Refusal | null = null;
  call.respond(200, RESPONSE_HEADERS);
  try {
    for await (const pieces of method.serve(call, stream.peer, call.signal)) {
      const room = call.write(frameOf(pieces));
      if (room !== undefined) await room;
      if (call.isClosed) return;
    }
  } catch (error) {
    if (call.isClosed) return;
    refusal = toRefusal(error);
    if (refusal.code === 'INTERNAL') logger.error({ error, method: method.path }, 'a stream failed');
  }
  // The client closes its side when it sees that the call is over. A reset, which HTTP/2 allows here, would be taken for a
  // broken connection by some clients.
  call.end(trailersFor(refusal));
}

function messagesOf(maxMessageBytes: number): BodyReader {
  const reader = new GrpcFrameReader(maxMessageBytes);
  return {
    push: (part, onMessage) => reader.push(part, onMessage),
    atEnd: () =>
      reader.isBetweenMessages ? null : new NaruError('INVALID_REQUEST', 'the stream ended inside a message'),
  };
}

function trailersFor(refusal: Refusal | null): HeaderField[] {
  if (refusal === null) return [['grpc-status', '0']];
  return [
    ['grpc-status', String(ERRORS[refusal.code].grpc)],
    ['grpc-message', encodeURIComponent(refusal.message)],
    ['grpc-status-details-bin', Buffer.from(statusOf(refusal)).toString('base64').replace(/=+$/, '')],
  ];
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
