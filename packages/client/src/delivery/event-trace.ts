/** What became of single events: asking, and waiting. Translates between the wire and plain values. */
import { topicIdFromBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { EventTransaction, TraceService, TraceState as WireState } from '@naru/protocol/proto';
import type { GroupTrace as WireGroup, TraceResponse } from '@naru/protocol/proto';
import type { CallOptions } from '../call-options.ts';
import { withDeadline } from '../call-options.ts';
import type { Runtime } from '../runtime.ts';
import type { Transport } from '../transport/transport.ts';

/** One wait of the broker for news, of as many as it takes; milliseconds. */
const MAX_WAIT_MS = 30_000;

export type TraceState =
  | 'waiting'
  | 'delivered'
  | 'processed'
  | 'failed'
  | 'dead-lettered'
  | 'parked'
  | 'skipped'
  | 'unknown';

export interface TraceStep {
  /** Milliseconds since the Unix epoch, as all times here. */
  readonly atMs: number;
  /** A {@link TraceState}, or `redriven`, `purged`. */
  readonly what: string;
  readonly memberId: string;
  readonly attempts: number;
  readonly detail: string;
}

/** What became of an event in one group. */
export interface GroupTrace {
  readonly group: string;
  readonly state: TraceState;
  /** Deliveries or calls of handlers, as far as known. */
  readonly attempts: number;
  /** When the state began; undefined when that is not known any more. */
  readonly atMs: number | undefined;
  /** Empty when it is not known. */
  readonly memberId: string;
  readonly durationMs: number | undefined;
  /** The handler's `ctx.note`. */
  readonly note: string;
  readonly reason: string;
  readonly error: string;
  /** Of `failed`. */
  readonly nextAttemptMs: number | undefined;
  /** Of `waiting`: for what. */
  readonly waitingFor: string;
  /** Of `dead-lettered`: its id for `naru.deadLetters`. */
  readonly deadLetterId: string;
  /** Of `parked`: the request id of the event that it waits behind. */
  readonly behind: string;
  /** What happened before, oldest first, as far as the ledger knows. */
  readonly history: readonly TraceStep[];
}

export interface EventTrace {
  readonly requestId: string;
  readonly topic: string;
  readonly topicId: string;
  readonly partition: number;
  readonly offset: bigint;
  /** Undefined when it is not stored any more, or has no timestamp. */
  readonly timestampMs: number | undefined;
  /** Of key and value; undefined when it is not stored any more. */
  readonly sizeBytes: number | undefined;
  /** CloudEvents attributes; empty without. */
  readonly type: string;
  readonly id: string;
  readonly key: string;
  /** Deleted, by retention or by hand. */
  readonly isGone: boolean;
  /** Of an event that is part of a transaction; groups get committed ones only. Null for others, and where it is not known. */
  readonly transaction: 'open' | 'committed' | 'aborted' | null;
  readonly groups: readonly GroupTrace[];
}

/** A request id, a place, or a CloudEvents id that is a UUIDv7. */
export type TracedEvent =
  | string
  | { readonly topic: string; readonly partition: number; readonly offset: bigint }
  | { readonly cloudEventId: string; readonly topic?: string | undefined; readonly toleranceMs?: number | undefined };

export interface TraceOptions extends CallOptions {
  /** Default: all that are declared for the topic or have committed there. */
  readonly groups?: readonly string[] | undefined;
}

export interface WaitOptions extends CallOptions {
  /** Or several: `groups`. Default: every group that is declared for the topic. */
  readonly group?: string | undefined;
  readonly groups?: readonly string[] | undefined;
}

/** The event is a dead letter of a group that was waited for. */
export class DeadLetteredError extends NaruError {
  override readonly name = 'DeadLetteredError';
  readonly requestId: string;
  /** Every group that was waited for, as it is now. */
  readonly groups: readonly GroupTrace[];

  constructor(requestId: string, groups: readonly GroupTrace[]) {
    const dead = groups.filter(({ state }) => state === 'dead-lettered');
    const which = dead.map(({ group, reason, error }) => `${group} (${[reason, error].filter(Boolean).join(': ')})`);
    super('DEAD_LETTERED', `${requestId} became a dead letter of ${which.join(', ')}`);
    this.requestId = requestId;
    this.groups = groups;
  }
}

/** The event was not processed in time. It may be later. */
export class RequestTimedOutError extends NaruError {
  override readonly name = 'RequestTimedOutError';
  readonly requestId: string;
  /** Every group that was waited for, as it was when the broker said so last; empty when it did not answer. */
  readonly groups: readonly GroupTrace[];

  constructor(requestId: string, timeoutMs: number, groups: readonly GroupTrace[]) {
    const open = groups.filter(({ state }) => state !== 'processed' && state !== 'skipped');
    const where = open.map(({ group, state, waitingFor }) => `${group}: ${state}${waitingFor && ` for ${waitingFor}`}`);
    const detail = where.length === 0 ? '' : ` (${where.join(', ')})`;
    super('REQUEST_TIMED_OUT', `${requestId} was not processed within ${timeoutMs} ms${detail}`);
    this.requestId = requestId;
    this.groups = groups;
  }
}

export class EventTracing {
  readonly #transport: Transport;
  readonly #runtime: Runtime;
  readonly #timeoutMs: number;

  /** @param timeoutMs of calls that do not say */
  constructor(transport: Transport, runtime: Runtime, timeoutMs: number) {
    this.#transport = transport;
    this.#runtime = runtime;
    this.#timeoutMs = timeoutMs;
  }

  async trace(event: TracedEvent, options: TraceOptions = {}): Promise<EventTrace> {
    const request = { event: wireEvent(event), groups: [...(options.groups ?? [])] };
    const response = await withDeadline(this.#runtime.timers, options, this.#timeoutMs, 'trace', (signal) =>
      this.#transport.call(TraceService.method.trace, request, signal),
    );
    return toTrace(response);
  }

  /**
   * Resolves when every group has processed the event.
   *
   * @throws DeadLetteredError, RequestTimedOutError; NaruError ABORTED by the signal
   */
  async wait(requestId: string, options: WaitOptions = {}): Promise<readonly GroupTrace[]> {
    const { clock, timers } = this.#runtime;
    const { group, signal, timeoutMs = this.#timeoutMs } = options;
    const groups = [...(options.groups ?? []), ...(group === undefined ? [] : [group])];
    const endMs = clock.monotonicMs() + timeoutMs;
    let last: readonly GroupTrace[] = [];
    const work = async (inner: AbortSignal): Promise<readonly GroupTrace[]> => {
      for (;;) {
        const leftMs = Math.max(0, endMs - clock.monotonicMs());
        const maxWaitMs = Math.min(MAX_WAIT_MS, Math.floor(leftMs));
        const request = { requestId, groups, maxWaitMs };
        const { processed, groups: wire, error } = await this.#transport.call(TraceService.method.wait, request, inner);
        last = wire.map(toGroup);
        if (processed) return last;
        if (last.some(({ state }) => state === 'dead-lettered')) throw new DeadLetteredError(requestId, last);
        if (error !== undefined && !error.retriable && error.code !== 'REQUEST_TIMED_OUT') {
          throw new NaruError('INVALID_REQUEST', error.message);
        }
        if (maxWaitMs === 0) throw new RequestTimedOutError(requestId, timeoutMs, last);
      }
    };
    try {
      // The broker ends its wait at the same time; a little later nobody answers any more.
      return await withDeadline(timers, { signal, timeoutMs: timeoutMs + GRACE_MS }, undefined, 'wait', work);
    } catch (error) {
      if (!(error instanceof NaruError) || error instanceof RequestTimedOutError) throw error;
      if (error.code === 'REQUEST_TIMED_OUT') throw new RequestTimedOutError(requestId, timeoutMs, last);
      throw error;
    }
  }
}

/** How much longer than the broker's wait a call may take, milliseconds. */
const GRACE_MS = 1_000;

function wireEvent(event: TracedEvent) {
  if (typeof event === 'string') return { case: 'requestId', value: event } as const;
  if ('offset' in event) return { case: 'place', value: event } as const;
  const { cloudEventId: id, topic = '', toleranceMs = 0 } = event;
  return { case: 'cloudEvent', value: { id, topic, toleranceMs: BigInt(toleranceMs) } } as const;
}

function toTrace(response: TraceResponse): EventTrace {
  const { requestId, topic, topicId, partition, offset, timestampMs, sizeBytes, groups } = response;
  return {
    requestId,
    topic,
    topicId: topicIdFromBytes(topicId),
    partition,
    offset,
    timestampMs: optional(timestampMs),
    sizeBytes: optional(sizeBytes),
    type: response.eventType,
    id: response.eventId,
    key: response.keyText,
    isGone: response.gone,
    transaction: TRANSACTIONS[response.transaction] ?? null,
    groups: groups.map(toGroup),
  };
}

function toGroup(wire: WireGroup): GroupTrace {
  return {
    group: wire.groupId,
    state: STATES[wire.state] ?? 'unknown',
    attempts: wire.attempts,
    atMs: optional(wire.atMs),
    memberId: wire.memberId,
    durationMs: optional(wire.durationMs),
    note: wire.note,
    reason: wire.reason,
    error: wire.error,
    nextAttemptMs: optional(wire.nextAttemptMs),
    waitingFor: wire.waitingFor,
    deadLetterId: wire.deadLetterId,
    behind: wire.behind,
    history: wire.history.map(({ atMs, what, memberId, attempts, detail }) => {
      return { atMs: Number(atMs), what, memberId, attempts, detail };
    }),
  };
}

const TRANSACTIONS: Readonly<Partial<Record<EventTransaction, EventTrace['transaction']>>> = {
  [EventTransaction.OPEN]: 'open',
  [EventTransaction.COMMITTED]: 'committed',
  [EventTransaction.ABORTED]: 'aborted',
};

const STATES: Readonly<Partial<Record<WireState, TraceState>>> = {
  [WireState.WAITING]: 'waiting',
  [WireState.DELIVERED]: 'delivered',
  [WireState.PROCESSED]: 'processed',
  [WireState.FAILED]: 'failed',
  [WireState.DEAD_LETTERED]: 'dead-lettered',
  [WireState.PARKED]: 'parked',
  [WireState.SKIPPED]: 'skipped',
};

function optional(value: bigint | undefined): number | undefined {
  return value === undefined ? undefined : Number(value);
}
