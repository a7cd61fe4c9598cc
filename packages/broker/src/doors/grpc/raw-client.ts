/**
 * A client without an SDK, for tests of the doors: one connection, plain calls, and streams whose every message the test
 * sends and takes itself. Waits for messages, never for time.
 */
import {
  connect,
  constants,
  type ClientHttp2Session,
  type ClientHttp2Stream,
  type IncomingHttpHeaders,
} from 'node:http2';
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethodBiDiStreaming,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import { ConnectError, createClient, type Client } from '@connectrpc/connect';
import { createGrpcTransport, Http2SessionManager } from '@connectrpc/connect-node';
import { findTrailerError } from '@connectrpc/connect/protocol-grpc';
import type { ErrorCode } from '@naru/protocol';
import { frameOf, GrpcFrameReader } from '@naru/protocol/grpc-frames';
import {
  AdminService,
  ErrorSchema,
  PublisherService,
  PublishStreamRequestSchema,
  SubscriberService,
  SubscribeRequestSchema,
  type PublishStreamResponseSchema,
  type SubscribeResponseSchema,
  type AssignedPartition,
  type Error as ErrorMessage,
  type PartitionRef,
  type PublishStreamResponse,
  type SubscribeResponse,
} from '@naru/protocol/proto';

const TEXT = new TextEncoder();

interface WireMessage {
  readonly message: { readonly case: string | undefined; readonly value?: unknown };
}

type CaseOf<Response extends WireMessage> = Exclude<Response['message']['case'], undefined>;
type ValueOf<Response extends WireMessage, Case> = Extract<Response['message'], { case: Case }>['value'];

const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;

/** What the broker said of a failed call; undefined when it said nothing. */
export function errorOf(error: unknown): ErrorMessage | undefined {
  return ConnectError.from(error).findDetails(ErrorSchema)[0];
}

/** One stream straight on HTTP/2: what came and was not taken yet is kept in order. */
export class RawStream<I extends DescMessage, O extends DescMessage, Response extends WireMessage & MessageShape<O>> {
  readonly #stream: ClientHttp2Stream;
  readonly #method: DescMethodBiDiStreaming<I, O>;
  readonly inbox: Response[] = [];
  /** How the stream ended: why it failed, or null. Never settles when nothing is read. */
  readonly ended: Promise<unknown>;
  #onChange: (() => void)[] = [];
  #isOver = false;
  #failure: Error | null = null;

  /** @param reads false: nothing is ever read from the stream */
  constructor(session: ClientHttp2Session, method: DescMethodBiDiStreaming<I, O>, reads = true) {
    this.#method = method;
    this.#stream = session.request({
      ':method': 'POST',
      ':path': `/${method.parent.typeName}/${method.name}`,
      'content-type': 'application/grpc+proto',
      te: 'trailers',
    });
    this.ended = new Promise((resolve) => {
      let trailers: IncomingHttpHeaders = {};
      this.#stream.on('trailers', (headers) => {
        trailers = headers;
        this.#stream.end();
      });
      this.#stream.on('error', (error) => {
        this.#failure ??= error;
      });
      this.#stream.on('close', () => {
        const status = trailers['grpc-status'];
        const names = ['grpc-status', 'grpc-message', 'grpc-status-details-bin'];
        const headers = new Headers(
          names.flatMap((name) => (trailers[name] === undefined ? [] : [[name, String(trailers[name])]])),
        );
        this.#failure ??=
          status === undefined ? new Error('the stream broke off') : (findTrailerError(headers) ?? null);
        this.#isOver = true;
        this.#changed();
        resolve(this.#failure);
      });
    });
    if (reads) this.#read();
  }

  sendRaw(request: MessageShape<I>): void {
    this.sendBytes(...frameOf([toBinary(this.#method.input, request)]));
  }

  /** Sends what need not be a message. */
  sendBytes(...pieces: readonly Uint8Array[]): void {
    for (const piece of pieces) this.#stream.write(piece);
  }

  /** Bytes that the connection has not taken yet. */
  get unsentBytes(): number {
    return this.#stream.writableLength;
  }

  /** Closes this side. */
  finish(): void {
    this.#stream.end();
  }

  /** Breaks the stream. */
  destroy(): void {
    this.#stream.close(constants.NGHTTP2_CANCEL);
  }

  /** The next message of this kind; other kinds wait for their turn. Rejects when the stream ends without one. */
  async take<Case extends CaseOf<Response>>(kind: Case): Promise<ValueOf<Response, Case>> {
    for (;;) {
      const index = this.inbox.findIndex(({ message }) => message.case === kind);
      if (index >= 0) return this.inbox.splice(index, 1)[0]?.message.value;
      if (this.#isOver) throw this.#failure ?? new Error(`the stream ended without ${kind}`);
      await new Promise<void>((resolve) => this.#onChange.push(resolve));
    }
  }

  /** Kinds that wait to be taken. */
  kinds(): (string | undefined)[] {
    return this.inbox.map(({ message }) => message.case);
  }

  /** The broker's error that ended the stream. */
  async error(): Promise<ErrorMessage | undefined> {
    const failure = await this.ended;
    if (failure === null) throw new Error('the stream ended without an error');
    return errorOf(failure);
  }

  #read(): void {
    const reader = new GrpcFrameReader(MAX_MESSAGE_BYTES);
    this.#stream.on('data', (chunk: Buffer) => {
      reader.push(chunk, (message) => this.inbox.push(fromBinary(this.#method.output, message) as Response));
      this.#changed();
    });
  }

  #changed(): void {
    for (const resume of this.#onChange.splice(0)) resume();
  }
}

export type Published = { readonly offset: number; readonly partition: number; readonly error: ErrorCode | null };

export class RawClient {
  readonly admin: Client<typeof AdminService>;
  readonly publisher: Client<typeof PublisherService>;
  /** Single calls of a subscriber. */
  readonly calls: Client<typeof SubscriberService>;
  readonly #sessions: Http2SessionManager;
  readonly #baseUrl: string;
  readonly #windowBytes: number | undefined;
  #session: ClientHttp2Session | null = null;

  /**
   * @param bootstrap `host:port`
   * @param windowBytes what the broker may send on a stream before it is read. Default: the platform's
   */
  constructor(bootstrap: string, windowBytes?: number) {
    this.#windowBytes = windowBytes;
    const baseUrl = `http://${bootstrap}`;
    this.#baseUrl = baseUrl;
    this.#sessions = new Http2SessionManager(baseUrl);
    const transport = createGrpcTransport({ baseUrl, sessionManager: this.#sessions });
    this.admin = createClient(AdminService, transport);
    this.publisher = createClient(PublisherService, transport);
    this.calls = createClient(SubscriberService, transport);
  }

  /** The connection of streams; calls have another one. */
  get session(): ClientHttp2Session {
    if (this.#session === null) {
      const window = this.#windowBytes;
      this.#session = connect(this.#baseUrl, window === undefined ? {} : { settings: { initialWindowSize: window } });
      // Whoever waits for a stream is told by the stream.
      this.#session.on('error', () => {});
    }
    return this.#session;
  }

  /** Breaks the connections. */
  destroy(): void {
    this.#sessions.abort();
    this.#session?.destroy();
  }

  /** Returns the topic's id. */
  async createTopic(name: string, partitionCount = 1): Promise<Uint8Array> {
    const { topic } = await this.admin.createTopic({ name, partitionCount });
    if (topic === undefined) throw new Error('no topic in the answer');
    return topic.topicId;
  }

  async publish(topic: string, partition: number, values: readonly string[]): Promise<Published[]> {
    const records = values.map((value) => ({ value: TEXT.encode(value), partition }));
    const { results } = await this.publisher.publish({ topic, records });
    return results.map((result) => ({
      offset: Number(result.offset),
      partition: result.partition,
      error: (result.error?.code as ErrorCode | undefined) ?? null,
    }));
  }

  openPublishing(reads = true): RawPublisher {
    return new RawPublisher(this, reads);
  }

  /** Joins at once. */
  subscribe(
    join: MessageInitShape<typeof SubscribeRequestSchema>['message'] & { case: 'join' },
    reads = true,
  ): RawSubscriber {
    const stream = new RawSubscriber(this, reads);
    stream.send(join);
    return stream;
  }

  async error(call: Promise<unknown>): Promise<ErrorMessage | undefined> {
    try {
      await call;
    } catch (error) {
      return errorOf(error);
    }
    throw new Error('the call succeeded');
  }
}

export class RawPublisher extends RawStream<
  typeof PublishStreamRequestSchema,
  typeof PublishStreamResponseSchema,
  PublishStreamResponse
> {
  constructor(client: RawClient, reads: boolean) {
    super(client.session, PublisherService.method.publishStream, reads);
  }

  send(message: NonNullable<MessageInitShape<typeof PublishStreamRequestSchema>['message']>): void {
    this.sendRaw(create(PublishStreamRequestSchema, { message }));
  }

  batch(correlationId: number, topicId: Uint8Array, records: Uint8Array, partition = 0): void {
    this.send({ case: 'batch', value: { correlationId, topicId, partition, records } });
  }

  /** Acknowledgements as `correlation id → offset, or error code`, until there are `count`. */
  async acks(count: number): Promise<Map<number, number | string>> {
    const found = new Map<number, number | string>();
    while (found.size < count) {
      for (const ack of (await this.take('acks')).acks) {
        found.set(ack.correlationId, ack.error?.code ?? Number(ack.baseOffset));
      }
    }
    return found;
  }
}

export class RawSubscriber extends RawStream<
  typeof SubscribeRequestSchema,
  typeof SubscribeResponseSchema,
  SubscribeResponse
> {
  #nextId = 1;

  constructor(client: RawClient, reads: boolean) {
    super(client.session, SubscriberService.method.subscribe, reads);
  }

  send(message: NonNullable<MessageInitShape<typeof SubscribeRequestSchema>['message']>): void {
    this.sendRaw(create(SubscribeRequestSchema, { message }));
  }

  /** Asks for records; returns the poll's id. */
  poll(maxWaitMs = 0, maxBytes = 0): number {
    const pollId = this.#nextId++;
    this.send({ case: 'poll', value: { pollId, maxWaitMs, maxBytes } });
    return pollId;
  }

  /** The refusals of a commit. */
  async commit(
    partition: PartitionRef | undefined,
    offset: number,
    finished: readonly (readonly [number, number])[] = [],
    metadata = '',
  ): Promise<string[]> {
    const commitId = this.#nextId++;
    const ranges = finished.map(([from, to]) => ({ from: BigInt(from), to: BigInt(to) }));
    const partitions = [
      { ...(partition === undefined ? {} : { partition }), offset: BigInt(offset), finished: ranges, metadata },
    ];
    this.send({ case: 'commit', value: { commitId, partitions } });
    const { errors } = await this.take('committed');
    return errors.map(({ error }) => error?.code ?? '');
  }

  /** Assigned partitions until there are `count`, by number. */
  async assigned(count: number): Promise<AssignedPartition[]> {
    const found: AssignedPartition[] = [];
    while (found.length < count) found.push(...(await this.take('assigned')).partitions);
    return found.sort((a, b) => (a.partition?.partition ?? 0) - (b.partition?.partition ?? 0));
  }
}
