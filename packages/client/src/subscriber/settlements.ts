/**
 * What is said about records of parallel topics: gathers settlements for a moment and sends them together, renews the locks of
 * records that are being handled and returns those that wait for too long.
 *
 * Limits: one message at a time has at most {@link MAX_SETTLED} records. What is not sent is bounded by what is in hand.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { PartitionKey, TimerHandle } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import { SettlementKind } from '@naru/protocol/proto';
import type { PartitionSettlementSchema, RecordSettlementSchema, SettlementRefusal } from '@naru/protocol/proto';
import type { Runtime } from '../runtime.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { MemberSession } from './member-session.ts';
import { refKey } from './partition-commits.ts';
import type { AcquiredRecord, QueuePartition } from './queue-partition.ts';

/** How long a settlement waits for others, milliseconds. */
const LINGER_MS = 2;
/** Records settled by one message. */
const MAX_SETTLED = 2_000;
/** How often locks are looked at, at most; milliseconds. */
const MIN_LOOK_MS = 10;

export type SettlementFields = Omit<MessageInitShape<typeof RecordSettlementSchema>, '$typeName' | 'offsets' | 'kind'>;

interface Settlement {
  readonly partition: QueuePartition;
  readonly offset: number;
  readonly kind: SettlementKind;
  readonly fields: SettlementFields | undefined;
  /** Told once: null when it is durable, else why it does not count. */
  readonly answered?: ((error: Error | null) => void) | undefined;
}

export interface SettlementsOptions {
  readonly session: MemberSession;
  readonly runtime: Runtime;
  partitions(): Iterable<QueuePartition>;
  /** Something was settled: there is room. */
  settled(): void;
  /** What became of a claimed event is durable, or lost. */
  idSettled(id: string): void;
}

export class Settlements {
  readonly #options: SettlementsOptions;
  #pending: Settlement[] = [];
  /** Apart, since the last word on a record takes the place of its renewal: of two in one message the broker takes the first. */
  readonly #renewals = new Map<AcquiredRecord, Settlement>();
  #unanswered = 0;
  #linger: TimerHandle | null = null;
  #look: TimerHandle | null = null;
  #idle: (() => void)[] = [];
  #isClosed = false;

  constructor(options: SettlementsOptions) {
    this.#options = options;
  }

  /** Records that the broker has not heard of, or not answered about. */
  get backlog(): number {
    return this.#pending.length + this.#renewals.size + this.#unanswered;
  }

  /** The last word on a record in hand. */
  settle(
    acquired: AcquiredRecord,
    kind: SettlementKind,
    fields?: SettlementFields,
    answered?: (error: Error | null) => void,
  ): void {
    const { partition, record } = acquired;
    if (!partition.isInHand(acquired)) {
      answered?.(new NaruError('RECORD_LOCK_LOST', 'the record is not this member’s any more'));
      return;
    }
    partition.letGo(acquired);
    this.#renewals.delete(acquired);
    this.#add({ partition, offset: record.offset, kind, fields, answered });
  }

  /** As {@link settle}. Resolves to null when it is durable, else to why it does not count; of a record settled so before, as then. */
  settled(acquired: AcquiredRecord, kind: SettlementKind, fields?: SettlementFields): Promise<Error | null> {
    acquired.settled ??= new Promise((resolve) => this.settle(acquired, kind, fields, resolve));
    return acquired.settled;
  }

  /** The lock's time begins anew. */
  renew(acquired: AcquiredRecord): void {
    const { partition, record } = acquired;
    if (partition.isInHand(acquired)) {
      const renewal = { partition, offset: record.offset, kind: SettlementKind.RENEW, fields: undefined };
      this.#renewals.set(acquired, renewal);
      this.#sendSoon();
    }
  }

  /** Records were acquired: their locks are looked after. */
  watch(): void {
    if (this.#look !== null || this.#isClosed) return;
    let shortestMs = Number.POSITIVE_INFINITY;
    for (const partition of this.#options.partitions()) {
      for (const { lockMs } of partition.inHand()) {
        shortestMs = Math.min(shortestMs, lockMs);
        break; // those of a partition have about the same
      }
    }
    if (shortestMs === Number.POSITIVE_INFINITY) return;
    this.#look = this.#options.runtime.timers.after(Math.max(MIN_LOOK_MS, shortestMs / 8), () => {
      this.#look = null;
      this.#lookAtLocks();
      this.watch();
    });
  }

  /** Sends what waits; resolves when everything is answered. */
  async flush(): Promise<void> {
    this.#send();
    if (this.backlog === 0) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  close(): void {
    this.#isClosed = true;
    this.#linger?.cancel();
    this.#look?.cancel();
    const closed = new NaruError('CLOSED', 'the subscriber is closed');
    for (const { answered } of this.#pending) answered?.(closed);
    this.#pending = [];
    this.#renewals.clear();
    this.#settledAll();
  }

  #add(settlement: Settlement): void {
    if (this.#isClosed) {
      settlement.answered?.(new NaruError('CLOSED', 'the subscriber is closed'));
      return;
    }
    this.#pending.push(settlement);
    if (this.#pending.length >= MAX_SETTLED) this.#send();
    else this.#sendSoon();
  }

  #sendSoon(): void {
    if (!this.#isClosed) this.#linger ??= this.#options.runtime.timers.after(LINGER_MS, () => this.#send());
  }

  #send(): void {
    this.#linger?.cancel();
    this.#linger = null;
    for (const renewal of this.#renewals.values()) this.#pending.push(renewal);
    this.#renewals.clear();
    while (this.#pending.length > 0) void this.#sendSome(this.#pending.splice(0, MAX_SETTLED));
  }

  async #sendSome(settlements: readonly Settlement[]): Promise<void> {
    const sentMs = this.#options.runtime.clock.monotonicMs();
    this.#unanswered += settlements.length;
    let refused: readonly SettlementRefusal[] = [];
    let failure: Error | null = null;
    try {
      refused = await this.#options.session.settle(toWire(settlements));
      this.#refused(refused);
      this.#renewed(settlements, sentMs);
    } catch (error) {
      failure = error as Error;
      // The member is another one by now, or the subscriber is closed: the records are given again.
      this.#options.runtime.logger.warn({ error: String(error) }, 'records were not settled');
    } finally {
      this.#unanswered -= settlements.length;
      for (const { fields } of settlements) if (fields?.idempotencyId) this.#options.idSettled(fields.idempotencyId);
      for (const one of settlements) one.answered?.(failure ?? refusalOf(one, refused));
      if (this.backlog === 0) this.#settledAll();
      this.#options.settled();
    }
  }

  #settledAll(): void {
    for (const resolve of this.#idle.splice(0)) resolve();
  }

  #refused(refusals: readonly SettlementRefusal[]): void {
    const byKey = new Map<PartitionKey, QueuePartition>();
    for (const partition of this.#options.partitions()) byKey.set(partition.key, partition);
    for (const { partition: ref, offsets, error } of refusals) {
      const partition = ref && byKey.get(refKey(ref));
      const reason = error === undefined ? 'refused' : fromWireError(error);
      const message = typeof reason === 'string' ? reason : reason.message;
      this.#options.runtime.logger.warn(
        {
          topic: partition?.topic,
          partition: partition?.partition,
          from: offsets?.from,
          to: offsets?.to,
          error: message,
        },
        'a settlement was refused; the records are given again',
      );
      if (partition === undefined || offsets === undefined || !isNaruError(reason, 'RECORD_LOCK_LOST')) continue;
      for (const acquired of partition.inHand()) {
        const { offset } = acquired.record;
        if (offset >= Number(offsets.from) && offset < Number(offsets.to)) partition.lose(acquired, message);
      }
    }
  }

  #renewed(settlements: readonly Settlement[], sentMs: number): void {
    const renewed = settlements.filter(({ kind }) => kind === SettlementKind.RENEW);
    if (renewed.length === 0) return;
    const offsets = new Set(renewed.map(({ partition, offset }) => `${partition.key}/${offset}`));
    for (const { partition } of renewed) {
      for (const acquired of partition.inHand()) {
        if (offsets.has(`${partition.key}/${acquired.record.offset}`))
          acquired.lockedUntilMs = sentMs + acquired.lockMs;
      }
    }
  }

  /** At half of the lock: renewed for what is handled, returned for what still waits. Past it: lost. */
  #lookAtLocks(): void {
    const nowMs = this.#options.runtime.clock.monotonicMs();
    for (const partition of this.#options.partitions()) {
      for (const acquired of partition.inHand()) {
        const leftMs = acquired.lockedUntilMs - nowMs;
        if (leftMs <= 0) partition.lose(acquired, 'the lock was not renewed in time');
        else if (leftMs > acquired.lockMs / 2) continue;
        else if (acquired.handledUntilMs === 0) this.settle(acquired, SettlementKind.RETURN);
        else if (nowMs < acquired.handledUntilMs) this.renew(acquired);
      }
    }
  }
}

function refusalOf({ partition, offset }: Settlement, refused: readonly SettlementRefusal[]): Error | null {
  for (const { partition: ref, offsets, error } of refused) {
    if (ref === undefined || offsets === undefined || refKey(ref) !== partition.key) continue;
    if (offset < Number(offsets.from) || offset >= Number(offsets.to)) continue;
    return error === undefined ? new NaruError('RECORD_LOCK_LOST', 'refused') : fromWireError(error);
  }
  return null;
}

/** By partition, with neighbouring offsets of the same fate together. */
function toWire(settlements: readonly Settlement[]): MessageInitShape<typeof PartitionSettlementSchema>[] {
  const byPartition = new Map<QueuePartition, Settlement[]>();
  for (const settlement of settlements) {
    const list = byPartition.get(settlement.partition);
    if (list === undefined) byPartition.set(settlement.partition, [settlement]);
    else list.push(settlement);
  }
  return [...byPartition].map(([partition, list]) => ({ partition: partition.ref, records: toRanges(list) }));
}

function toRanges(settlements: Settlement[]): MessageInitShape<typeof RecordSettlementSchema>[] {
  const records: MessageInitShape<typeof RecordSettlementSchema>[] = [];
  settlements.sort((a, b) => a.offset - b.offset);
  for (let i = 0; i < settlements.length;) {
    const { offset, kind, fields } = settlements[i] as Settlement;
    let end = i + 1;
    if (fields === undefined) {
      while (settlements[end]?.kind === kind && settlements[end]?.fields === undefined && isNext(settlements, end))
        end += 1;
    }
    const to = (settlements[end - 1] as Settlement).offset + 1;
    records.push({ ...fields, kind, offsets: { from: BigInt(offset), to: BigInt(to) } });
    i = end;
  }
  return records;
}

function isNext(settlements: readonly Settlement[], index: number): boolean {
  return settlements[index]?.offset === (settlements[index - 1]?.offset ?? 0) + 1;
}
