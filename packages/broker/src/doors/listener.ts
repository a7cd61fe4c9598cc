/**
 * The port. Looks at the first bytes of each connection and hands it to the door that speaks what they begin.
 *
 * HTTP/2 begins with its preface, HTTP/1 with a method, TLS with 0x16, and Kafka with the first byte of a frame's size, which is
 * 0 below 16 MiB. Owns sockets until a door has them, and their number.
 */
import { createServer, type Server, type Socket } from 'node:net';
import type { Logger, Timers } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { PREFACE } from './http2/frames.ts';
import { SharedReads } from './shared-reads.ts';

export type DoorName = 'http2' | 'http1' | 'kafka' | 'tls' | 'unknown';

/** They take a connection whose first bytes are still to be read. */
export interface Doors {
  /** `data` is valid during its event only. */
  readonly http2: (socket: Socket) => void;
  readonly http1: (socket: Socket) => void;
  /** `data` is valid during its event only. */
  readonly kafka: (socket: Socket) => void;
}

export interface ListenerLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  /** How long a connection may take to say what it is. */
  readonly greetingTimeoutMs: number;
}

export const DEFAULT_LISTENER_LIMITS: ListenerLimits = {
  maxConnections: 2_000,
  maxConnectionsPerAddress: 1_000,
  greetingTimeoutMs: 10_000,
};

/** Silence after which a connection is probed. */
const KEEP_ALIVE_AFTER_MS = 30_000;

/** Its first line. */
const HTTP2_PREFACE = PREFACE.toString('latin1', 0, PREFACE.indexOf('\r'));
const HTTP1_METHODS = ['GET ', 'HEAD ', 'POST ', 'PUT ', 'DELETE ', 'OPTIONS ', 'PATCH ', 'CONNECT ', 'TRACE '];
const TLS_HANDSHAKE = 0x16;
const KAFKA_SIZE = 0;
/** Enough to tell all of them apart. */
const LONGEST_GREETING = HTTP2_PREFACE.length;

/** What `bytes` begin; null when more are needed. */
export function recognise(bytes: Uint8Array): DoorName | null {
  if (bytes.length === 0) return null;
  if (bytes[0] === TLS_HANDSHAKE) return 'tls';
  if (bytes[0] === KAFKA_SIZE) return 'kafka';
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, LONGEST_GREETING)).toString('latin1');
  if (text.startsWith(HTTP2_PREFACE)) return 'http2';
  if (HTTP1_METHODS.some((method) => text.startsWith(method))) return 'http1';
  return [HTTP2_PREFACE, ...HTTP1_METHODS].some((greeting) => greeting.startsWith(text)) ? null : 'unknown';
}

/** A connection that was accepted. */
interface Accepted {
  /** Another one once a door has it. */
  socket: Socket;
}

export class Listener {
  readonly #doors: Doors;
  readonly #timers: Timers;
  readonly #logger: Logger;
  readonly #limits: ListenerLimits;
  readonly #server: Server;
  readonly #sharedReads = new SharedReads();
  readonly #open = new Set<Accepted>();
  /** Of these, the ones that have not said what they are. */
  readonly #greeting = new Set<Socket>();
  #onIdle: (() => void)[] = [];
  readonly #perAddress = new Map<string, number>();
  /** Since the start, for /metrics. */
  accepted = 0;
  refused = 0;

  constructor(doors: Doors, timers: Timers, logger: Logger, limits: ListenerLimits = DEFAULT_LISTENER_LIMITS) {
    this.#doors = doors;
    this.#timers = timers;
    this.#logger = logger;
    this.#limits = limits;
    // Peers that vanished without a word are found by the platform's own probes.
    const options = { noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_AFTER_MS };
    this.#server = createServer(options, (socket) => this.#accept(socket));
  }

  get connections(): number {
    return this.#open.size;
  }

  /** @throws NaruError PORT_IN_USE; INVALID_CONFIGURATION when the address cannot be listened on */
  async listen(host: string, port: number): Promise<{ host: string; port: number }> {
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', (error: NodeJS.ErrnoException) => reject(listenError(error, host, port)));
      this.#server.listen({ host, port }, resolve);
    });
    this.#server.on('error', (error) => this.#logger.error({ error }, 'the listener failed'));
    const address = this.#server.address();
    if (address === null || typeof address === 'string') throw new NaruError('INTERNAL', 'the listener has no address');
    return { host: address.address, port: address.port };
  }

  /** Takes no new connections; those that are open stay, unless they never said what for. */
  stop(): void {
    this.#server.close();
    for (const socket of this.#greeting) socket.destroy();
  }

  /** Resolves when no connection is open. */
  idle(): Promise<void> {
    if (this.#open.size === 0) return Promise.resolve();
    return new Promise((resolve) => this.#onIdle.push(resolve));
  }

  /** Breaks every connection. */
  destroy(): void {
    this.#server.close();
    for (const { socket } of this.#open) socket.destroy();
  }

  #accept(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const ofAddress = this.#perAddress.get(address) ?? 0;
    if (this.#open.size >= this.#limits.maxConnections || ofAddress >= this.#limits.maxConnectionsPerAddress) {
      this.refused += 1;
      socket.destroy();
      return;
    }
    this.accepted += 1;
    this.#perAddress.set(address, ofAddress + 1);
    const accepted: Accepted = { socket };
    this.#open.add(accepted);
    this.#watch(accepted, address);
    this.#greet(accepted, address);
  }

  #watch(accepted: Accepted, address: string): void {
    const { socket } = accepted;
    socket.on('close', () => {
      this.#open.delete(accepted);
      const rest = (this.#perAddress.get(address) ?? 1) - 1;
      if (rest === 0) this.#perAddress.delete(address);
      else this.#perAddress.set(address, rest);
      if (this.#open.size === 0) for (const resume of this.#onIdle.splice(0)) resume();
    });
    socket.on('error', () => socket.destroy());
  }

  #greet(accepted: Accepted, address: string): void {
    const { socket } = accepted;
    const timer = this.#timers.after(this.#limits.greetingTimeoutMs, () => socket.destroy());
    this.#greeting.add(socket);
    socket.on('close', () => {
      timer.cancel();
      this.#greeting.delete(socket);
    });
    let seen: Buffer = Buffer.alloc(0);
    const onReadable = (): void => {
      const chunk = socket.read() as Buffer | null;
      if (chunk === null) return;
      seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
      const door = recognise(seen);
      if (door === null) return;
      socket.off('readable', onReadable);
      timer.cancel();
      this.#greeting.delete(socket);
      socket.unshift(seen);
      this.#handOver(accepted, door, address);
    };
    socket.on('readable', onReadable);
  }

  #handOver(accepted: Accepted, door: DoorName, address: string): void {
    const { socket } = accepted;
    if (door === 'http1') return this.#doors.http1(socket);
    if (door === 'http2' || door === 'kafka') {
      accepted.socket = this.#sharedReads.adopt(socket);
      if (accepted.socket !== socket) this.#watch(accepted, address);
      return this.#doors[door](accepted.socket);
    }
    this.refused += 1;
    const what = door === 'tls' ? 'TLS, which is not configured' : 'no protocol that this broker speaks';
    this.#logger.warn({ peer: socket.remoteAddress }, `a connection was closed: it spoke ${what}`);
    socket.destroy();
  }
}

function listenError(error: NodeJS.ErrnoException, host: string, port: number): NaruError {
  if (error.code === 'EADDRINUSE') {
    const message = `port ${port} on ${host} is in use: stop the program that has it, or choose another with --port`;
    return new NaruError('PORT_IN_USE', message, { cause: error });
  }
  return new NaruError('INVALID_CONFIGURATION', `cannot listen on ${host}:${port}: ${error.message}`, { cause: error });
}
