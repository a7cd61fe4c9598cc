/** Settlements and what was acquired, between the wire and the service: parallel topics. */
import { partitionKey, type PartitionKey } from '@naru/base';
import { decodeRequestId, NaruError } from '@naru/protocol';
import { SettlementKind as WireKind, type AckSettlement, type Settle } from '@naru/protocol/proto';
import {
  MAX_SETTLED_RANGES,
  type PartitionSettlement,
  type RecordSettlement,
  type SettlementKind,
  type SettlementRefusal,
} from '../../core/queue/queue-commands.ts';
import type { AcquiredPartition } from '../../runtime/queue-commands.ts';
import { hashedId } from '../../service/claims.ts';
import { settlement } from '../../service/queue-settlements.ts';
import { toPartitionKey, toPartitionRef, wireInteger } from './positions.ts';
import { toErrorMessage } from './wire-errors.ts';

/** Bytes of UTF-8 that are kept of a settlement's texts. */
const MAX_REASON_BYTES = 200;
const MAX_ERROR_BYTES = 2_000;
const MAX_NOTE_BYTES = 1_000;
const MAX_ID_BYTES = 256;

const KINDS: Readonly<Partial<Record<WireKind, SettlementKind>>> = {
  [WireKind.ACCEPT]: 'accept',
  [WireKind.RETURN]: 'return',
  [WireKind.FAIL]: 'fail',
  [WireKind.REJECT]: 'reject',
  [WireKind.RENEW]: 'renew',
};

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();

interface WireSettlement {
  readonly kind: WireKind;
  readonly delayMs: bigint;
  readonly reason: string;
  readonly error?: string | undefined;
  readonly note: string;
  readonly durationMs?: bigint | undefined;
  readonly idempotencyId?: string | undefined;
}

/** @throws NaruError INVALID_REQUEST */
export function toRecordSettlement(from: number, to: number, wire: WireSettlement): RecordSettlement {
  const kind = KINDS[wire.kind];
  if (kind === undefined)
    throw new NaruError('INVALID_REQUEST', 'a settlement has a kind: accept, return, fail, reject or renew');
  if (from >= to) throw new NaruError('INVALID_REQUEST', `a settlement of offsets ${from} to ${to} settles nothing`);
  const idempotencyId = wire.idempotencyId ?? '';
  if (TEXT.encode(idempotencyId).length > MAX_ID_BYTES) {
    throw new NaruError('INVALID_REQUEST', `an idempotency id has at most ${MAX_ID_BYTES} bytes`);
  }
  return {
    from,
    to,
    kind,
    delayMs: wireInteger(wire.delayMs, 'a delay'),
    reason: shortened(wire.reason, MAX_REASON_BYTES),
    error: shortened(wire.error ?? '', MAX_ERROR_BYTES),
    note: shortened(wire.note, MAX_NOTE_BYTES),
    durationMs: wireInteger(wire.durationMs ?? 0n, 'a duration'),
    idempotencyId: hashedId(idempotencyId),
  };
}

/** @throws NaruError INVALID_REQUEST */
export function toSettlements({ partitions }: Settle): PartitionSettlement[] {
  let count = 0;
  for (const { records } of partitions) count += records.length;
  if (count > MAX_SETTLED_RANGES) {
    throw new NaruError(
      'INVALID_REQUEST',
      `${count} settlements in one message: at most ${MAX_SETTLED_RANGES} are allowed`,
    );
  }
  return partitions.map(({ partition, records }) => ({
    partition: toPartitionKey(partition),
    records: records.map((record) => {
      const from = wireInteger(record.offsets?.from ?? 0n, 'an offset');
      return toRecordSettlement(from, wireInteger(record.offsets?.to ?? 0n, 'an offset'), record);
    }),
  }));
}

export interface AckSettlements {
  readonly partitions: readonly PartitionSettlement[];
  /** As the client wrote it. */
  readonly requestIdOf: (partition: PartitionKey, offset: number) => string;
}

/** @throws NaruError INVALID_REQUEST for an id that is none, or that is there twice */
export function toAckSettlements(requestIds: readonly string[], settlements: readonly AckSettlement[]): AckSettlements {
  if (requestIds.length + settlements.length > MAX_SETTLED_RANGES) {
    throw new NaruError('INVALID_REQUEST', `at most ${MAX_SETTLED_RANGES} records are settled with one call`);
  }
  const ids = new Map<string, string>();
  const records = new Map<PartitionKey, RecordSettlement[]>();
  const add = (requestId: string, settle: (offset: number) => RecordSettlement): void => {
    const place = decodeRequestId(requestId);
    if ('code' in place) throw NaruError.from(place);
    const partition = partitionKey(place.topicId, place.partition);
    const name = `${partition} ${place.offset}`;
    if (ids.has(name)) throw new NaruError('INVALID_REQUEST', `${requestId} is settled twice`);
    ids.set(name, requestId);
    const ofPartition = records.get(partition);
    if (ofPartition === undefined) records.set(partition, [settle(place.offset)]);
    else ofPartition.push(settle(place.offset));
  };
  for (const requestId of requestIds) add(requestId, (offset) => settlement(offset, offset + 1, 'accept'));
  for (const one of settlements) add(one.requestId, (offset) => toRecordSettlement(offset, offset + 1, one));
  return {
    partitions: [...records].map(([partition, settled]) => ({ partition, records: settled })),
    requestIdOf: (partition, offset) => ids.get(`${partition} ${offset}`) ?? '',
  };
}

export function toWireRefusals(refused: readonly SettlementRefusal[]) {
  return refused.map(({ partition, from, to, refusal }) => ({
    partition: toPartitionRef(partition),
    offsets: { from: BigInt(from), to: BigInt(to) },
    error: toErrorMessage(refusal),
  }));
}

export function toWireAcquired({ partition, batches, ranges, lockMs }: AcquiredPartition) {
  return {
    partition: toPartitionRef(partition),
    batches: batches.length === 1 ? (batches[0] as Uint8Array) : Buffer.concat(batches),
    ranges: ranges.map(({ from, to, deliveryCount }) => ({
      offsets: { from: BigInt(from), to: BigInt(to) },
      deliveryCount,
    })),
    lockMs: BigInt(lockMs),
  };
}

/** At most so many bytes, whole characters. */
function shortened(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text;
  const bytes = TEXT.encode(text);
  return bytes.length <= maxBytes ? text : FROM_TEXT.decode(bytes.subarray(0, maxBytes)).replace(/\uFFFD+$/, '');
}
