/**
 * gRPC over HTTP/2. One connection for each kind of traffic, so that large answers to subscribers do not delay
 * acknowledgements. Connections open when needed and again after they broke; with several brokers, the next one.
 */
import type {
  DescMessage,
  DescMethod,
  DescMethodStreaming,
  DescMethodUnary,
  MessageInitShape,
  MessageShape,
} from '@bufbuild/protobuf';
import type { Transport as RpcTransport } from '@connectrpc/connect';
import { Http2SessionManager, createGrpcTransport } from '@connectrpc/connect-node';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { NaruError, isNaruError } from '@naru/protocol';
import { encodePublishBatch } from '@naru/protocol/grpc-frames';
import { PublisherService, SubscriberService, TransactionService } from '@naru/protocol/proto';
import type { PublishStreamRequest } from '@naru/protocol/proto';
import { GrpcStream } from './grpc-stream.ts';
import type { MessageStream, PublishStream, SubscribeStream, Transport } from './transport.ts';
import { toNaruError } from './wire-errors.ts';

/** Bytes that a broker may send before we have read them, for one stream and for all streams of a connection. */
const RECEIVE_WINDOW_BYTES = 4 * 1024 * 1024;
/** A connection with open streams that is silent for this long is asked whether it is alive. */
const PING_INTERVAL_MS = 10_000;
const PING_TIMEOUT_MS = 10_000;
/** Largest message that a broker may send: polls ask for far less, but one batch comes even when it is larger. */
const READ_MAX_BYTES = 64 * 1024 * 1024;

/** Calls that are somebody's throughput. */
const FREQUENT: ReadonlySet<DescMethod> = new Set([TransactionService.method.endTransaction]);

export interface ConnectTransportOptions {
  /** `host:port`, or an `http://` or `https://` URL. At least one. */
  readonly brokers: readonly string[];
}

/** One connection to one broker. */
interface Link {
  readonly broker: string;
  readonly rpc: RpcTransport;
  readonly sessions: Http2SessionManager;
}

type Traffic = 'publish' | 'subscribe';

export class ConnectTransport implements Transport {
  readonly #brokers: readonly string[];
  readonly #links = new Map<Traffic, Link>();
  readonly #streams = new Set<MessageStream<never, unknown>>();
  #current = 0;

  constructor(options: ConnectTransportOptions) {
    this.#brokers = options.brokers;
  }

  openPublishStream(): PublishStream {
    const { publishStream } = PublisherService.method;
    return this.#open('publish', publishStream, ({ message }: PublishStreamRequest) => {
      if (message.case !== 'batch') return null;
      const { correlationId, topicId, partition, records } = message.value;
      return encodePublishBatch(correlationId, topicId, partition, records);
    });
  }

  openSubscribeStream(): SubscribeStream {
    return this.#open('subscribe', SubscriberService.method.subscribe, () => null);
  }

  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    if (FREQUENT.has(method)) return this.#callDirectly(method, request, signal);
    const link = this.#link('publish');
    try {
      const response = await link.rpc.unary(method, signal, undefined, undefined, create(method.input, request));
      return response.message;
    } catch (reason) {
      throw this.#failed(link, reason);
    }
  }

  close(): Promise<void> {
    for (const stream of this.#streams) stream.abort();
    for (const link of this.#links.values()) link.sessions.abort();
    this.#links.clear();
    return Promise.resolve();
  }

  /** Takes half as long as the library's way. */
  async #callDirectly<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    signal.throwIfAborted();
    const stream = this.#open('publish', method, () => null);
    const onAbort = (): void => stream.abort();
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      stream.send(create(method.input, request));
      stream.end();
      let answer: MessageShape<O> | undefined;
      // To its end: only then it is known to be good.
      for await (const message of stream) answer = message;
      if (answer !== undefined) return answer;
      throw new NaruError('INTERNAL', `the broker answered ${method.name} with nothing`);
    } finally {
      signal.removeEventListener('abort', onAbort);
    }
  }

  #link(traffic: Traffic): Link {
    const broker = this.#brokers[this.#current % this.#brokers.length] as string;
    const existing = this.#links.get(traffic);
    if (existing?.broker === broker) return existing;
    // Streams on the old connection go on until they end.
    const link = openLink(broker);
    this.#links.set(traffic, link);
    return link;
  }

  #failed(link: Link, reason: unknown): Error {
    const error = toNaruError(reason, link.broker);
    const isCurrent = this.#brokers[this.#current % this.#brokers.length] === link.broker;
    if (isNaruError(error, 'NETWORK', 'SHUTTING_DOWN') && isCurrent) this.#current += 1;
    return error;
  }

  /** @param inPieces a message without copying what is in it, or null for the usual way */
  #open<I extends DescMessage, O extends DescMessage>(
    traffic: Traffic,
    method: DescMethodStreaming<I, O> | DescMethodUnary<I, O>,
    inPieces: (message: MessageShape<I>) => Uint8Array[] | null,
  ): MessageStream<MessageShape<I>, MessageShape<O>> {
    const link = this.#link(traffic);
    const path = `/${method.parent.typeName}/${method.name}`;
    const stream = new GrpcStream<MessageShape<I>, MessageShape<O>>({
      request: (headers) => link.sessions.request('POST', path, headers, {}),
      encode: (message) => inPieces(message) ?? [toBinary(method.input, message)],
      decode: (bytes) => fromBinary(method.output, bytes),
      maxMessageBytes: READ_MAX_BYTES,
      failed: (reason) => this.#failed(link, reason),
      over: () => this.#streams.delete(stream),
    });
    this.#streams.add(stream);
    return stream;
  }
}

function openLink(broker: string): Link {
  const baseUrl = brokerUrl(broker);
  const sessions = new WideSessions(
    baseUrl,
    { pingIntervalMs: PING_INTERVAL_MS, pingTimeoutMs: PING_TIMEOUT_MS },
    { settings: { initialWindowSize: RECEIVE_WINDOW_BYTES } },
  );
  const rpc = createGrpcTransport({
    baseUrl,
    sessionManager: sessions,
    acceptCompression: [],
    readMaxBytes: READ_MAX_BYTES,
  });
  return { broker, rpc, sessions };
}

/** Node leaves the window of the connection at 64 KiB whatever that of its streams is. */
class WideSessions extends Http2SessionManager {
  readonly #widened = new WeakSet<object>();

  override async request(
    ...args: Parameters<Http2SessionManager['request']>
  ): ReturnType<Http2SessionManager['request']> {
    const stream = await super.request(...args);
    const session = stream.session;
    if (session !== undefined && !this.#widened.has(session)) {
      this.#widened.add(session);
      session.setLocalWindowSize(RECEIVE_WINDOW_BYTES);
    }
    return stream;
  }
}

/** `host:port` as a base URL. */
export function brokerUrl(broker: string): string {
  return /^https?:\/\//.test(broker) ? broker.replace(/\/+$/, '') : `http://${broker}`;
}
