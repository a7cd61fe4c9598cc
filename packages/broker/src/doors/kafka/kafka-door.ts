/**
 * Kafka's wire protocol on connections that the listener hands over.
 *
 * Owns the connections, the memory that they share, and their time-outs; what requests mean is the handlers'.
 */
import type { Socket } from 'node:net';
import type { Clock, Logger, TimerHandle, Timers } from '@naru/base';
import { ByteBudget } from '../../service/byte-budget.ts';
import { AnswerMemory } from './answer-memory.ts';
import { KafkaConnection, plainAddress, type ConnectionBudgets, type ConnectionLimits } from './kafka-connection.ts';
import type { KafkaHandlers } from './kafka-handler.ts';
import { RequestAnswerer } from './request-answerer.ts';

/** Of all requests that are arriving. */
const MAX_ARRIVING_BYTES = 128 * 1024 * 1024;
/** Of all answers that clients have not taken; Fetch waits beyond it. */
const MAX_UNSENT_BYTES = 128 * 1024 * 1024;
/** How often time-outs are looked at. */
const CHECK_INTERVAL_MS = 5_000;

export const DEFAULT_CONNECTION_LIMITS: Omit<ConnectionLimits, 'maxRequestBytes'> = {
  idleTimeoutMs: 10 * 60_000,
  requestTimeoutMs: 2 * 60_000,
  unreadTimeoutMs: 60_000,
};

export interface KafkaDoorOptions {
  readonly handlers: KafkaHandlers;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly logger: Logger;
  /** Of one request; below 16 MiB, so that the first byte of a connection tells Kafka from other protocols. */
  readonly maxRequestBytes: number;
  /** Batches that are being stored, of all doors. */
  readonly producing: ByteBudget;
  /** What clients are told to connect to; null for what they did connect to. */
  readonly advertisedHost: string | null;
  readonly advertisedPort: number | null;
}

export class KafkaDoor {
  readonly #options: KafkaDoorOptions;
  readonly #answerer: RequestAnswerer;
  readonly #budgets: ConnectionBudgets;
  readonly #limits: ConnectionLimits;
  readonly #connections = new Set<KafkaConnection>();
  #timer: TimerHandle | null = null;
  /** Connections closed for what their clients did, since the start. */
  refused = 0;

  constructor(options: KafkaDoorOptions) {
    this.#options = options;
    this.#answerer = new RequestAnswerer(options.handlers);
    this.#budgets = {
      arriving: new ByteBudget(MAX_ARRIVING_BYTES),
      producing: options.producing,
      answers: new AnswerMemory(MAX_UNSENT_BYTES),
    };
    this.#limits = { ...DEFAULT_CONNECTION_LIMITS, maxRequestBytes: options.maxRequestBytes };
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Since the start. */
  get requests(): number {
    return this.#answerer.requests;
  }

  /** Memory of large requests that are arriving. */
  get arrivingBytes(): number {
    return this.#budgets.arriving.usedBytes;
  }

  /** Bytes of answers that clients have not taken. */
  get unsentBytes(): number {
    return this.#budgets.answers.unsentBytes;
  }

  /** Takes a connection. */
  accept(socket: Socket): void {
    const { clock, logger, advertisedHost, advertisedPort } = this.#options;
    const connection = new KafkaConnection(socket, {
      answerer: this.#answerer,
      clock,
      logger,
      limits: this.#limits,
      budgets: this.#budgets,
      advertised: {
        host: advertisedHost ?? plainAddress(socket.localAddress),
        port: advertisedPort ?? socket.localPort ?? 0,
      },
      onRefused: () => {
        this.refused += 1;
      },
      onClosed: () => {
        this.#connections.delete(connection);
        if (this.#connections.size > 0) return;
        this.#timer?.cancel();
        this.#timer = null;
      },
    });
    this.#connections.add(connection);
    this.#timer ??= this.#checkLater();
  }

  /** Connections close when what they have begun is answered. */
  close(): void {
    for (const connection of this.#connections) connection.close();
  }

  #checkLater(): TimerHandle {
    return this.#options.timers.after(CHECK_INTERVAL_MS, () => {
      const nowMs = this.#options.clock.monotonicMs();
      for (const connection of this.#connections) connection.check(nowMs);
      this.#timer = this.#connections.size === 0 ? null : this.#checkLater();
    });
  }
}
