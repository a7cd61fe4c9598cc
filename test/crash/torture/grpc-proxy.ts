/**
 * A proxy for gRPC between clients and a broker, that understands requests: it loses and delays answers to ends of transactions, and
 * sends requests again later, from a connection of its own, as a network may that kept them for a while.
 *
 * Everything is forwarded, and forwarded at once; what is lost is the answer.
 */
import { once } from 'node:events';
import { connect, constants, createServer } from 'node:http2';
import type {
  ClientHttp2Session,
  ClientHttp2Stream,
  Http2Server,
  IncomingHttpHeaders,
  ServerHttp2Session,
  ServerHttp2Stream,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { delay, systemTimers } from '@naru/base';
import type { SeededRandom } from '@naru/testkit';

const END = '/naru.v1.TransactionService/EndTransaction';
const PUBLISH = '/naru.v1.PublisherService/PublishStream';
/** Requests that are kept to be sent again, the newest ones. */
const MAX_KEPT = 500;
/** Of a stream of batches, so much of its beginning. */
const MAX_KEPT_BYTES = 64 * 1024;
const MAX_DELAY_MS = 100;
/** What is sent again gets an answer within this, or is given up. */
const REPLAY_MS = 2_000;

interface KeptRequest {
  readonly headers: IncomingHttpHeaders;
  readonly chunks: Buffer[];
  bytes: number;
}

export interface GrpcProxyOptions {
  /** Of the broker. */
  readonly port: () => number;
  readonly random: SeededRandom;
  /** One answer to an end of so many is lost; another one of so many is late. */
  readonly faultShare: number;
}

export class GrpcProxy {
  readonly #options: GrpcProxyOptions;
  readonly #server: Http2Server;
  readonly #sessions = new Map<ServerHttp2Session, ClientHttp2Session>();
  readonly #kept: Record<'end' | 'publish', KeptRequest[]> = { end: [], publish: [] };
  readonly done = { lostAnswers: 0, lateAnswers: 0, cuts: 0, replayedEnds: 0, replayedStreams: 0 };

  constructor(options: GrpcProxyOptions) {
    this.#options = options;
    this.#server = createServer();
    this.#server.on('session', (session) => this.#accept(session));
    this.#server.on('stream', (stream, headers) => this.#forward(stream, headers));
    this.#server.on('sessionError', () => {});
  }

  async listen(): Promise<void> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Breaks all connections. */
  cut(): void {
    this.done.cuts += 1;
    for (const session of this.#sessions.keys()) session.destroy();
  }

  /** Sends requests of the past again, once each. The broker need not be there. */
  async replay(ends: number, streams: number): Promise<void> {
    const { random } = this.#options;
    const session = connect(`http://127.0.0.1:${this.#options.port()}`);
    session.on('error', () => {});
    const requests: KeptRequest[] = [];
    for (let i = 0; i < ends && this.#kept.end.length > 0; i++) requests.push(random.pick(this.#kept.end));
    this.done.replayedEnds += requests.length;
    for (let i = 0; i < streams && this.#kept.publish.length > 0; i++) {
      requests.push(random.pick(this.#kept.publish));
      this.done.replayedStreams += 1;
    }
    await Promise.all(requests.map((request) => replayed(session, request)));
    session.destroy();
  }

  async close(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.cut();
    await closed;
  }

  #accept(session: ServerHttp2Session): void {
    const upstream = connect(`http://127.0.0.1:${this.#options.port()}`);
    this.#sessions.set(session, upstream);
    session.on('error', () => {});
    session.on('close', () => {
      this.#sessions.delete(session);
      upstream.destroy();
    });
    upstream.on('error', () => session.destroy());
    upstream.on('close', () => session.destroy());
  }

  #forward(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const upstream =
      stream.session === undefined ? undefined : this.#sessions.get(stream.session as ServerHttp2Session);
    if (upstream === undefined || upstream.destroyed) {
      stream.close(constants.NGHTTP2_REFUSED_STREAM);
      return;
    }
    this.#keep(stream, headers);
    const request = upstream.request(headers, { endStream: false });
    stream.on('error', () => {});
    request.on('error', () => {});
    stream.on('close', () => request.close(constants.NGHTTP2_CANCEL));
    stream.pipe(request);
    request.on('response', (answer, flags) => {
      void this.#fate(headers[':path']).then((isLost) => {
        if (isLost) this.#lose(stream);
        else if (!stream.destroyed && !stream.closed) this.#answer(stream, request, answer, flags);
      });
    });
    request.on('close', () => {
      if (request.rstCode !== constants.NGHTTP2_NO_ERROR && !stream.closed) stream.close(request.rstCode);
    });
  }

  #answer(stream: ServerHttp2Stream, request: ClientHttp2Stream, answer: IncomingHttpHeaders, flags: number): void {
    const endStream = (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0;
    stream.respond(answer, { endStream, waitForTrailers: !endStream });
    if (endStream) return;
    let trailers: IncomingHttpHeaders = {};
    request.on('trailers', (sent) => (trailers = sent));
    stream.on('wantTrailers', () => stream.sendTrailers(trailers));
    request.pipe(stream);
  }

  /** @returns true when the answer is lost; otherwise it may be late */
  async #fate(path: string | undefined): Promise<boolean> {
    const { random, faultShare } = this.#options;
    if (path !== END) return false;
    const draw = random.integer(faultShare);
    if (draw === 1) {
      this.done.lateAnswers += 1;
      await delay(systemTimers, random.integer(MAX_DELAY_MS));
    }
    return draw === 0;
  }

  #lose(stream: ServerHttp2Stream): void {
    this.done.lostAnswers += 1;
    if (this.#options.random.chance(0.5)) stream.session?.destroy();
    else stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  }

  #keep(stream: ServerHttp2Stream, headers: IncomingHttpHeaders): void {
    const path = headers[':path'];
    if (path !== END && path !== PUBLISH) return;
    const kept = this.#kept[path === END ? 'end' : 'publish'];
    const request: KeptRequest = { headers, chunks: [], bytes: 0 };
    kept.push(request);
    if (kept.length > MAX_KEPT) kept.shift();
    stream.on('data', (chunk: Buffer) => {
      if (request.bytes > MAX_KEPT_BYTES) return;
      request.chunks.push(chunk);
      request.bytes += chunk.length;
    });
  }
}

/** Resolves when there is an answer, or will not be one. */
async function replayed(session: ClientHttp2Session, { headers, chunks }: KeptRequest): Promise<void> {
  if (session.destroyed) return;
  const request = session.request(headers, { endStream: false });
  request.on('error', () => {});
  request.resume();
  const over = new Promise<void>((resolve) => request.on('close', () => resolve()));
  request.end(Buffer.concat(chunks));
  await Promise.race([over, delay(systemTimers, REPLAY_MS)]);
  request.close(constants.NGHTTP2_CANCEL);
}
