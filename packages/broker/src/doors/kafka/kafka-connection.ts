/**
 * One Kafka connection: requests in, answers out, in order.
 *
 * Requests begin in the order in which they came. As in Kafka one is served at a time, and the next begins when the answer
 * before it is taken; except that Produce requests follow each other without waiting until they are durable, and still leave
 * in order. So a client sees what it would see of Kafka, and what is held for a connection is bounded: the produce requests
 * in flight, or one answer.
 *
 * Invariants: at most {@link MAX_REQUESTS_IN_FLIGHT} requests and {@link MAX_BYTES_IN_FLIGHT} bytes of them, plus one request,
 * have begun and are not answered; while nothing may begin, nothing is read.
 */
import type { Socket } from 'node:net';
import { toError, type Clock, type Logger } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { kafkaApis } from '@naru/protocol/kafka';
import type { ByteBudget } from '../../service/byte-budget.ts';
import type { AnswerMemory } from './answer-memory.ts';
import { FrameReader } from './frame-reader.ts';
import { ConnectionRefusal, type KafkaCall } from './kafka-handler.ts';
import { RequestAnswerer, type KafkaFrame } from './request-answerer.ts';
import { ResponseWriter } from './response-writer.ts';

const MAX_REQUESTS_IN_FLIGHT = 128;
const MAX_BYTES_IN_FLIGHT = 8 * 1024 * 1024;
/** A frame that takes more memory than this before it is all there waits until there is some. */
const FREE_FRAME_BYTES = 64 * 1024;
/** Acknowledgements that a client has not taken, beyond which its batches are not taken either. */
const MAX_UNSENT_BYTES = 256 * 1024;

export interface ConnectionLimits {
  /** Of one request. */
  readonly maxRequestBytes: number;
  /** Kafka's connections.max.idle.ms. */
  readonly idleTimeoutMs: number;
  /** How long a request may take to arrive, not counting the time that it was made to wait. */
  readonly requestTimeoutMs: number;
  /** How long a client may take nothing of an answer. */
  readonly unreadTimeoutMs: number;
}

/** Memory that all connections share. */
export interface ConnectionBudgets {
  /** Requests that are arriving. */
  readonly arriving: ByteBudget;
  /** Batches that are being stored. */
  readonly producing: ByteBudget;
  readonly answers: AnswerMemory;
}

export interface ConnectionOptions {
  readonly answerer: RequestAnswerer;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: ConnectionLimits;
  readonly budgets: ConnectionBudgets;
  readonly advertised: KafkaCall['advertised'];
  /** The client did what no client should, and is closed. */
  readonly onRefused: () => void;
  readonly onClosed: () => void;
}

interface Request extends KafkaFrame {
  readonly isProduce: boolean;
  readonly isFetch: boolean;
  /** Undefined until it is answered, null when nothing is to be sent, an error when it ends the connection. */
  answer: readonly Uint8Array[] | null | Error | undefined;
}

export class KafkaConnection {
  readonly #socket: Socket;
  readonly #options: ConnectionOptions;
  readonly #frames: FrameReader;
  readonly #writer: ResponseWriter;
  readonly #abort = new AbortController();
  readonly #call: Omit<KafkaCall, 'version' | 'clientId'>;
  /** Read, and waiting until it may begin. */
  #next: Request | null = null;
  /** Begun, in order. */
  readonly #begun: Request[] = [];
  #begunBytes = 0;
  /** Taken from the budget for the request that is arriving. */
  #arrivingBytes = 0;
  #waitsForBudget = false;
  #closing = false;
  #activeMs: number;
  #readingSinceMs: number;

  constructor(socket: Socket, options: ConnectionOptions) {
    this.#socket = socket;
    this.#options = options;
    const { clock, limits, budgets, advertised } = options;
    this.#frames = new FrameReader(limits.maxRequestBytes);
    this.#writer = new ResponseWriter(socket, clock, (bytes) => {
      budgets.answers.release(bytes);
      this.#activeMs = clock.monotonicMs();
      this.#advance();
    });
    this.#call = { clientHost: plainAddress(socket.remoteAddress), advertised, signal: this.#abort.signal };
    this.#activeMs = this.#readingSinceMs = clock.monotonicMs();
    socket.on('data', (chunk: Buffer) => {
      this.#activeMs = clock.monotonicMs();
      if (!this.#frames.isInside) this.#readingSinceMs = this.#activeMs;
      this.#frames.push(chunk);
      this.#advance();
      this.#frames.keep();
    });
    socket.on('close', () => this.#closed());
  }

  /** Answers what has begun, then closes. */
  close(): void {
    this.#closing = true;
    this.#advance();
  }

  /** Closes a connection that is idle, or whose client has stopped in the middle of something. */
  check(nowMs: number): void {
    const { idleTimeoutMs, requestTimeoutMs, unreadTimeoutMs } = this.#options.limits;
    if (this.#socket.destroyed) return;
    const isReading = !this.#socket.isPaused();
    if (this.#writer.stalledMs(nowMs) > unreadTimeoutMs) {
      this.#refuse(`it took nothing of an answer for ${unreadTimeoutMs} ms`);
    } else if (isReading && this.#frames.isInside && nowMs - this.#readingSinceMs > requestTimeoutMs) {
      this.#refuse(`a request was not complete after ${requestTimeoutMs} ms`);
    } else if (this.#begun.length === 0 && this.#writer.unsentBytes === 0 && nowMs - this.#activeMs > idleTimeoutMs) {
      this.#socket.destroy();
    }
  }

  #advance(): void {
    try {
      while (!this.#socket.destroyed) {
        if (this.#closing) return this.#finish();
        this.#next ??= this.#read();
        if (this.#next === null) return;
        if (this.#mustWait(this.#next)) return this.#pause();
        const request = this.#next;
        this.#next = null;
        this.#begin(request);
      }
    } catch (error) {
      // What came before is answered first.
      this.#report(error);
      this.#closing = true;
      this.#finish();
    }
  }

  /** Null while there is none, and more has to come. */
  #read(): Request | null {
    const missing = this.#frames.missingMemory();
    if (missing > FREE_FRAME_BYTES && this.#arrivingBytes === 0) {
      if (this.#waits(this.#options.budgets.arriving)) {
        this.#pause();
        return null;
      }
      this.#arrivingBytes = missing;
      this.#options.budgets.arriving.take(missing);
    }
    const bytes = this.#frames.next();
    if (bytes === null) {
      this.#resume();
      return null;
    }
    this.#arrived();
    this.#readingSinceMs = this.#activeMs;
    const frame = RequestAnswerer.read(bytes);
    const { apiKey } = frame.header;
    const isProduce = apiKey === kafkaApis.produce.key;
    return { ...frame, isProduce, isFetch: apiKey === kafkaApis.fetch.key, answer: undefined };
  }

  #arrived(): void {
    this.#options.budgets.arriving.release(this.#arrivingBytes);
    this.#arrivingBytes = 0;
  }

  /** Whatever it waits for calls {@link #advance} again. */
  #mustWait(request: Request): boolean {
    const { producing, answers } = this.#options.budgets;
    if (this.#writer.unsentBytes > (request.isProduce ? MAX_UNSENT_BYTES : 0)) return true;
    const newest = this.#begun.at(-1);
    if (newest !== undefined) {
      if (!request.isProduce || !newest.isProduce) return true;
      if (this.#begun.length >= MAX_REQUESTS_IN_FLIGHT || this.#begunBytes >= MAX_BYTES_IN_FLIGHT) return true;
    }
    if (request.isProduce) return this.#waits(producing);
    return request.isFetch && this.#waits(answers);
  }

  #waits(budget: Pick<ByteBudget, 'room'>): boolean {
    if (this.#waitsForBudget) return true;
    const room = budget.room();
    if (room === null) return false;
    this.#waitsForBudget = true;
    void room.then(() => {
      this.#waitsForBudget = false;
      this.#advance();
    });
    return true;
  }

  #begin(request: Request): void {
    const { answerer, budgets } = this.#options;
    const { length } = request.bytes;
    this.#begun.push(request);
    this.#begunBytes += length;
    if (request.isProduce) budgets.producing.take(length);
    const done = (answer: Request['answer']): void => {
      if (request.isProduce) budgets.producing.release(length);
      if (request.isFetch) budgets.answers.end();
      request.answer = answer;
      this.#send();
    };
    const call = request.isFetch ? { ...this.#call, maxAnswerBytes: budgets.answers.begin() } : this.#call;
    answerer.answer(request, call).then(done, (error: unknown) => done(toError(error)));
  }

  /** Sends what is answered, in order. */
  #send(): void {
    if (this.#socket.destroyed) return;
    this.#activeMs = this.#options.clock.monotonicMs();
    for (let first = this.#begun[0]; first?.answer !== undefined; first = this.#begun[0]) {
      this.#begun.shift();
      this.#begunBytes -= first.bytes.length;
      if (first.answer === null) continue;
      if (first.answer instanceof Error) {
        this.#report(first.answer);
        this.#closing = true;
        this.#begun.length = 0;
        break;
      }
      let bytes = 0;
      for (const part of first.answer) bytes += part.length;
      this.#options.budgets.answers.hold(bytes);
      this.#writer.write(first.answer);
    }
    this.#advance();
  }

  #finish(): void {
    this.#pause();
    if (this.#begun.length === 0 && this.#writer.unsentBytes === 0) this.#socket.destroySoon();
  }

  #pause(): void {
    if (!this.#socket.isPaused()) this.#socket.pause();
  }

  #resume(): void {
    if (!this.#socket.isPaused()) return;
    this.#readingSinceMs = this.#options.clock.monotonicMs();
    this.#socket.resume();
  }

  /** Tells the operator why the connection is closed. */
  #report(error: unknown): void {
    const { logger, onRefused } = this.#options;
    if (error instanceof ConnectionRefusal || isNaruError(error)) {
      onRefused();
      logger.warn({ peer: this.#call.clientHost }, `a Kafka connection was closed: ${error.message}`);
    } else {
      logger.error({ error }, 'a Kafka request failed for a reason that is a bug; its connection was closed');
    }
  }

  #refuse(why: string): void {
    this.#report(new ConnectionRefusal(why));
    this.#socket.destroy();
  }

  #closed(): void {
    this.#abort.abort();
    this.#arrived();
    this.#options.budgets.answers.release(this.#writer.unsentBytes);
    this.#options.onClosed();
  }
}

/** Without the prefix of an IPv4 address on a socket for both. */
export function plainAddress(address: string | undefined): string {
  return (address ?? '').replace(/^::ffff:/, '');
}
