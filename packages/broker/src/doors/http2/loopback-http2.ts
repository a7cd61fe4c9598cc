/**
 * For tests: {@link Http2Connection} on a real socket, a {@link RawHttp2Client} at its other end, and what the streams are told.
 *
 * The memory of each chunk is overwritten once the connection has had it, as a socket does that reads into one memory.
 */
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { Clock, LogFields, Timers } from '@naru/base';
import { turns } from '../../runtime/settling.ts';
import type { HeaderField } from './hpack-decoder.ts';
import { Http2Connection, type Http2Limits } from './http2-connection.ts';
import type { Http2Stream, StreamListener } from './http2-stream.ts';
import { POST, RawHttp2Client } from './raw-http2-client.ts';

export const SMALL_LIMITS: Http2Limits = {
  streamWindowBytes: 100_000,
  connectionWindowBytes: 200_000,
  heldBytes: 150_000,
  maxFrameBytes: 32 * 1024,
  maxStreams: 4,
  maxHeaderBytes: 4_096,
};

/** A stream, and what it was told. */
export class Told implements StreamListener {
  readonly stream: Http2Stream;
  readonly #parts: Buffer[] = [];
  ends = 0;
  drains = 0;
  closes = 0;
  /** Told after its end. */
  late = 0;

  constructor(stream: Http2Stream) {
    this.stream = stream;
    stream.listen(this);
  }

  get body(): string {
    return Buffer.concat(this.#parts).toString('latin1');
  }

  onData(part: Uint8Array): void {
    this.#parts.push(Buffer.from(part));
    if (this.closes > 0 || this.ends > 0) this.late += 1;
  }

  onEnd(): void {
    this.ends += 1;
    if (this.closes > 0) this.late += 1;
  }

  onDrain(): void {
    this.drains += 1;
  }

  onClose(): void {
    this.closes += 1;
  }
}

export interface LoopbackOptions {
  readonly clock: Clock & Timers;
  readonly limits?: Http2Limits;
  /** Default: {@link Told} listens, and the test does the rest. */
  readonly onStream?: (stream: Http2Stream) => void;
}

export class Loopback {
  readonly #options: LoopbackOptions;
  readonly #server: Server;
  readonly #clients: RawHttp2Client[] = [];
  readonly #sockets = new Set<Socket>();
  /** By id; of the last connection. */
  readonly streams = new Map<number, Told>();
  readonly connections: Http2Connection[] = [];
  closedConnections = 0;
  readonly errors: unknown[] = [];
  /** Why connections were closed. */
  readonly reasons: string[] = [];
  /** What was written to sockets that had been told of their end. */
  lateWrites = 0;

  private constructor(options: LoopbackOptions) {
    this.#options = options;
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket));
  }

  static async listen(options: LoopbackOptions): Promise<Loopback> {
    const loopback = new Loopback(options);
    loopback.#server.listen(0, '127.0.0.1');
    await once(loopback.#server, 'listening');
    return loopback;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Not greeted yet. */
  async connect(): Promise<RawHttp2Client> {
    const client = await RawHttp2Client.connect(this.port);
    this.#clients.push(client);
    return client;
  }

  async greeted(settings: readonly (readonly [id: number, value: number])[] = []): Promise<RawHttp2Client> {
    const client = await this.connect();
    await client.greet(settings);
    return client;
  }

  /** Sends a request that {@link Told} listens to. */
  async opened(
    client: RawHttp2Client,
    streamId: number,
    fields: readonly HeaderField[] = POST,
    endStream = false,
  ): Promise<Told> {
    client.headers(streamId, fields, endStream);
    await client.settle();
    return this.told(streamId);
  }

  /** A stream that was opened. */
  told(streamId: number): Told {
    const told = this.streams.get(streamId);
    if (told === undefined) throw new Error(`stream ${streamId} was not opened`);
    return told;
  }

  /** Given to sockets and not yet taken by the system. */
  get unsentBytes(): number {
    return [...this.#sockets].reduce((sum, socket) => sum + socket.writableLength, 0);
  }

  /** @throws Error when something went wrong that no test asks for */
  async close(): Promise<void> {
    for (const client of this.#clients) client.destroy();
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
    await turns(2);
    if (this.errors.length > 0) throw new Error('a connection failed', { cause: this.errors[0] });
    if (this.lateWrites > 0) throw new Error('something was written after the end of a connection');
    for (const { stream, closes, late } of this.streams.values()) {
      if (closes !== 1) throw new Error(`stream ${stream.id} was told ${closes} times that it is over`);
      if (late > 0) throw new Error(`stream ${stream.id} was told something after its end`);
    }
  }

  #accept(socket: Socket): void {
    const { clock, limits = SMALL_LIMITS, onStream } = this.#options;
    const take = onStream ?? ((stream: Http2Stream) => void this.streams.set(stream.id, new Told(stream)));
    const logger = {
      debug: ({ reason }: LogFields) => void this.reasons.push(String(reason)),
      info: () => {},
      warn: () => {},
      error: ({ error }: LogFields) => void this.errors.push(error),
    };
    this.#sockets.add(socket);
    socket.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ERR_STREAM_WRITE_AFTER_END') this.lateWrites += 1;
      socket.destroy();
    });
    const onClosed = (): unknown => (this.closedConnections += 1);
    this.connections.push(
      new Http2Connection(socket, { limits, clock, timers: clock, logger, onStream: take, onClosed }),
    );
    socket.on('data', (chunk: Buffer) => chunk.fill(0xff));
  }
}
