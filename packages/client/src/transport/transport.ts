/**
 * The seam between the SDK and a broker. Speaks the messages of `proto/naru/v1`; production is gRPC
 * (connect-transport.ts), tests have an in-memory one.
 *
 * Knows how to open streams and make calls, and maps every failure to a NaruError. Does not reconnect, retry or keep any
 * state of publishers and subscribers: a broken stream is its owner's to open again.
 */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type {
  PublishStreamRequest,
  PublishStreamResponse,
  SubscribeRequest,
  SubscribeResponse,
} from '@naru/protocol/proto';

export type PublishStream = MessageStream<PublishStreamRequest, PublishStreamResponse>;
export type SubscribeStream = MessageStream<SubscribeRequest, SubscribeResponse>;

export interface Transport {
  openPublishStream(): PublishStream;
  openSubscribeStream(): SubscribeStream;
  /** A call with one answer. Rejects with a NaruError; NETWORK when the broker could not be reached. */
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>>;
  /** Ends everything that is open. */
  close(): Promise<void>;
}

/**
 * A two-way stream of messages. It connects when its messages are first iterated, which is done once. The iteration ends
 * when the broker ends the stream, and throws a NaruError when it breaks.
 */
export interface MessageStream<Out, In> extends AsyncIterable<In> {
  /**
   * Queues a message, in order. It is the stream's until taken by the connection: do not change it. Dropped once the
   * stream is over. The caller limits what it queues by {@link backlog}.
   */
  send(message: Out): void;
  /** Messages that the connection has not taken yet. */
  readonly backlog: number;
  /** Called whenever the backlog has become empty. */
  onDrain: (() => void) | null;
  /** No more messages will be sent; what is queued still goes out. */
  end(): void;
  /** Breaks the stream off. */
  abort(): void;
}
