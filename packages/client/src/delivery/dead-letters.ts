/** Dead letters of groups, as an operator sees them. Translates between the wire and plain values. */
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { delay } from '@naru/base';
import { DeadLetterService, RecordFormat, DeadLetterState as WireState } from '@naru/protocol/proto';
import type { DeadLetter as WireDeadLetter, Record as WireRecord } from '@naru/protocol/proto';
import type { CallOptions } from '../call-options.ts';
import { withDeadline } from '../call-options.ts';
import type { Runtime } from '../runtime.ts';
import type { Transport } from '../transport/transport.ts';
import { EventHeaders } from '../subscriber/event.ts';

/** Of one call. */
const PAGE = 500;
const encoder = new TextEncoder();

export interface DeadLetter {
  /** The event's request id. */
  readonly id: string;
  readonly group: string;
  /** `redriven`: given to the group again, and not handled yet. */
  readonly state: 'dead' | 'redriven';
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** `attempts-exhausted`, `non-retriable`, `rejected`, `deserialization` or `unhandled`. */
  readonly reason: string;
  readonly error: string;
  readonly attempts: number;
  /** Milliseconds since the Unix epoch, as all times here. */
  readonly firstFailureMs: number;
  readonly lastFailureMs: number;
  readonly deadLetteredMs: number;
  /** Events of its key that wait behind it. */
  readonly parkedBehind: number;
  readonly redrives: number;
  readonly key: string;
}

/** A dead letter with its whole event. */
export interface DeadLetterDetails extends DeadLetter {
  readonly keyBytes: Uint8Array | null;
  readonly valueBytes: Uint8Array | null;
  /** Also those that say why it is here: `naru-dlq-reason` and so on. */
  readonly headers: EventHeaders;
  readonly timestampMs: number | undefined;
}

export interface DeadLetterFilter {
  readonly ids?: readonly string[] | undefined;
  readonly topic?: string | undefined;
  readonly key?: string | undefined;
  readonly reason?: string | undefined;
  /** Dead-lettered at this time or later. */
  readonly since?: Date | undefined;
  /** Dead-lettered before. */
  readonly before?: Date | undefined;
}

export interface ListDeadLettersOptions extends DeadLetterFilter, CallOptions {}

export interface ChangeDeadLettersOptions extends DeadLetterFilter, CallOptions {
  /** Only says what would be done. */
  readonly dryRun?: boolean | undefined;
  /** Dead letters a second. Default: as fast as it goes. */
  readonly ratePerSecond?: number | undefined;
  /** Called after each step, with what was done so far. */
  readonly progress?: ((done: number) => void) | undefined;
}

export interface DeadLetterRefusal {
  readonly id: string;
  readonly code: string;
  readonly message: string;
}

export interface RedriveResult {
  readonly redriven: readonly DeadLetter[];
  readonly refused: readonly DeadLetterRefusal[];
}

export class DeadLetters {
  readonly #transport: Transport;
  readonly #runtime: Runtime;
  readonly #timeoutMs: number;

  /** @param timeoutMs of calls that do not say */
  constructor(transport: Transport, runtime: Runtime, timeoutMs: number) {
    this.#transport = transport;
    this.#runtime = runtime;
    this.#timeoutMs = timeoutMs;
  }

  /** Those of a group, a page at a time as they are iterated. */
  async *list(group: string, options: ListDeadLettersOptions = {}): AsyncGenerator<DeadLetter, void> {
    let cursor = '';
    do {
      const request = { filter: wireFilter(group, options), limit: PAGE, cursor };
      const page = await this.#call(DeadLetterService.method.listDeadLetters, request, options);
      yield* page.deadLetters.map(toDeadLetter);
      cursor = page.nextCursor;
    } while (cursor !== '');
  }

  /** How many a group has. */
  async count(group: string, options: CallOptions = {}): Promise<number> {
    const request = { filter: { groupId: group }, limit: 1 };
    const { total } = await this.#call(DeadLetterService.method.listDeadLetters, request, options);
    return Number(total);
  }

  /** @throws NaruError DEAD_LETTER_NOT_FOUND */
  async get(group: string, id: string, options: CallOptions = {}): Promise<DeadLetterDetails> {
    const request = { groupId: group, id, format: RecordFormat.BYTES };
    const { deadLetter, record } = await this.#call(DeadLetterService.method.getDeadLetter, request, options);
    return { ...toDeadLetter(deadLetter as WireDeadLetter), ...toRecord(record) };
  }

  /**
   * Gives dead letters to their group again, those of a key in order; other groups do not see them. What is dead-lettered after it has
   * begun is not touched. Ended early it may be called again: what was redriven is not a second time.
   */
  async redrive(group: string, options: ChangeDeadLettersOptions = {}): Promise<RedriveResult> {
    const redriven: DeadLetter[] = [];
    const refused: DeadLetterRefusal[] = [];
    const dryRun = options.dryRun === true;
    await this.#inSteps(options, async (cursor, untilMs, limit) => {
      const request = { filter: wireFilter(group, options), limit, cursor, untilMs, dryRun };
      const page = await this.#call(DeadLetterService.method.redriveDeadLetters, request, options);
      redriven.push(...page.redriven.map(toDeadLetter));
      for (const { id, error } of page.refused) {
        refused.push({ id, code: error?.code ?? '', message: error?.message ?? '' });
      }
      return { ...page, done: page.redriven.length };
    });
    return { redriven, refused };
  }

  /** Forgets dead letters for good. What waited behind a parked one follows. */
  async purge(group: string, options: ChangeDeadLettersOptions = {}): Promise<readonly DeadLetter[]> {
    const purged: DeadLetter[] = [];
    const dryRun = options.dryRun === true;
    await this.#inSteps(options, async (cursor, untilMs, limit) => {
      const request = { filter: wireFilter(group, options), limit, cursor, untilMs, dryRun };
      const page = await this.#call(DeadLetterService.method.purgeDeadLetters, request, options);
      purged.push(...page.purged.map(toDeadLetter));
      return { ...page, done: page.purged.length };
    });
    return purged;
  }

  async #inSteps(
    { ratePerSecond, progress, signal }: ChangeDeadLettersOptions,
    step: (
      cursor: string,
      untilMs: bigint,
      limit: number,
    ) => Promise<{ nextCursor: string; untilMs: bigint; done: number }>,
  ): Promise<void> {
    const limit = ratePerSecond === undefined ? PAGE : Math.max(1, Math.min(PAGE, Math.floor(ratePerSecond)));
    let [cursor, untilMs, done] = ['', 0n, 0];
    for (;;) {
      const page = await step(cursor, untilMs, limit);
      done += page.done;
      progress?.(done);
      if (page.nextCursor === '') return;
      cursor = page.nextCursor;
      untilMs = page.untilMs;
      if (ratePerSecond !== undefined) await delay(this.#runtime.timers, (page.done / ratePerSecond) * 1_000, signal);
    }
  }

  #call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    options: CallOptions,
  ): Promise<MessageShape<O>> {
    return withDeadline(this.#runtime.timers, options, this.#timeoutMs, 'dead letters', (signal) =>
      this.#transport.call(method, request, signal),
    );
  }
}

function wireFilter(group: string, filter: DeadLetterFilter) {
  const { ids = [], topic = '', key, reason = '', since, before } = filter;
  return {
    groupId: group,
    ids: [...ids],
    topic,
    reason,
    sinceMs: BigInt(since?.getTime() ?? 0),
    beforeMs: BigInt(before?.getTime() ?? 0),
    ...(key === undefined ? {} : { keyText: key }),
  };
}

function toDeadLetter(wire: WireDeadLetter): DeadLetter {
  const { id, topic, partition, offset, reason, error, attempts, parkedBehind, redrives } = wire;
  return {
    id,
    group: wire.groupId,
    state: wire.state === WireState.REDRIVEN ? 'redriven' : 'dead',
    topic,
    partition,
    offset,
    reason,
    error,
    attempts,
    firstFailureMs: Number(wire.firstFailureMs),
    lastFailureMs: Number(wire.lastFailureMs),
    deadLetteredMs: Number(wire.deadLetteredMs),
    parkedBehind,
    redrives,
    key: wire.keyText,
  };
}

function toRecord(record: WireRecord | undefined) {
  const headers = (record?.headers ?? []).map(({ key, value, valueText }) => {
    return { key, value: value ?? (valueText === undefined ? null : encoder.encode(valueText)) };
  });
  const { key, keyText, value, valueText } = record ?? {};
  return {
    keyBytes: key ?? (keyText === undefined ? null : encoder.encode(keyText)),
    valueBytes: value ?? (valueText === undefined ? null : encoder.encode(valueText)),
    headers: new EventHeaders({ headers }),
    timestampMs: record?.timestampMs === undefined ? undefined : Number(record.timestampMs),
  };
}
