/**
 * The ledger as bytes: its marks (a value of the group log), and its own records. proto/naru/internal/v1/group.proto.
 *
 * The time of a record of the ledger is the record's timestamp. Outcomes that this version does not know are passed over.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { splitPartitionKey, toSafeInteger, topicIdToBytes, type PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import {
  LedgerKeySchema,
  LedgerMarksValueSchema,
  LedgerOutcome,
  LedgerValueSchema,
} from '@naru/protocol/group-records';
import type { LedgerMarks } from './ledger-marks.ts';
import type { OffsetRange } from './newly-finished.ts';

export type LedgerOutcomeName = 'processed' | 'skipped' | 'dead-lettered' | 'held' | 'failed' | 'redriven' | 'purged';

/** What became of one event, where it is more than that all went well. */
export interface LedgerEntry {
  readonly offset: number;
  readonly outcome: LedgerOutcomeName;
  readonly attempts: number;
  readonly durationMs: number;
  readonly note: string;
  readonly reason: string;
  readonly error: string;
  /** 0: at once, or never. */
  readonly nextAttemptMs: number;
}

/** What a group did in a partition with one commit or settlement. */
export interface LedgerRecord {
  /** Empty when it was nobody's. */
  readonly memberId: string;
  /** Newly finished, ascending. All went well, but where an entry says otherwise. */
  readonly finished: readonly OffsetRange[];
  readonly entries: readonly LedgerEntry[];
}

export interface LedgerChange extends LedgerRecord {
  readonly partition: PartitionKey;
}

const WIRE_OUTCOMES: Readonly<Record<LedgerOutcomeName, LedgerOutcome>> = {
  processed: LedgerOutcome.PROCESSED,
  skipped: LedgerOutcome.SKIPPED,
  'dead-lettered': LedgerOutcome.DEAD_LETTERED,
  held: LedgerOutcome.HELD,
  failed: LedgerOutcome.FAILED,
  redriven: LedgerOutcome.REDRIVEN,
  purged: LedgerOutcome.PURGED,
};
const OUTCOMES = new Map(
  Object.entries(WIRE_OUTCOMES).map(([name, outcome]) => [outcome, name as LedgerOutcomeName] as const),
);

export function encodeLedgerMarks({ marks }: LedgerMarks): Uint8Array {
  const wire = marks.map(({ ledgerOffset, low, high, atMs }) => ({
    ledgerOffset: BigInt(ledgerOffset),
    low: BigInt(low),
    high: BigInt(high),
    atMs: BigInt(Math.trunc(atMs)),
  }));
  return toBinary(LedgerMarksValueSchema, create(LedgerMarksValueSchema, { marks: wire }));
}

/** @throws NaruError DATA_CORRUPT */
export function decodeLedgerMarks(bytes: Uint8Array): LedgerMarks {
  const { marks } = fromBinary(LedgerMarksValueSchema, bytes);
  return {
    marks: marks.map(({ ledgerOffset, low, high, atMs }) => ({
      ledgerOffset: toSafeInteger(ledgerOffset, 'ledger offset'),
      low: toSafeInteger(low, 'offset'),
      high: toSafeInteger(high, 'offset'),
      atMs: toSafeInteger(atMs, 'time'),
    })),
  };
}

/** Keys that are at hand; each commit needs one. */
const MAX_KNOWN_KEYS = 4_096;
const knownKeys = new Map<string, Uint8Array>();

/** Equal for equal arguments, so that a reader may compare bytes. Shared: read, never write. */
export function encodeLedgerKey(groupId: string, key: PartitionKey): Uint8Array {
  // Group ids have no line breaks.
  const name = `${key}\n${groupId}`;
  let bytes = knownKeys.get(name);
  if (bytes === undefined) {
    if (knownKeys.size >= MAX_KNOWN_KEYS) knownKeys.clear();
    const { topicId, partition } = splitPartitionKey(key);
    const message = create(LedgerKeySchema, { groupId, topicId: topicIdToBytes(topicId), partition });
    knownKeys.set(name, (bytes = toBinary(LedgerKeySchema, message)));
  }
  return bytes;
}

export function encodeLedgerRecord(record: LedgerRecord): Uint8Array {
  const { memberId, finished, entries } = record;
  // What all commits of a healthy group are, and so not worth the library's way, which takes several times as long.
  if (entries.length === 0) return encodeRanges(memberId, finished);
  const wire = entries.map(({ offset, outcome, durationMs, nextAttemptMs, attempts, note, reason, error }) => ({
    offset: BigInt(offset),
    outcome: WIRE_OUTCOMES[outcome],
    attempts,
    durationMs: BigInt(Math.trunc(durationMs)),
    note,
    reason,
    error,
    nextAttemptMs: BigInt(Math.trunc(nextAttemptMs)),
  }));
  const message = create(LedgerValueSchema, {
    memberId,
    finishedDeltas: deltasOf(finished).map(BigInt),
    entries: wire,
  });
  return toBinary(LedgerValueSchema, message);
}

function deltasOf(ranges: readonly OffsetRange[]): number[] {
  const deltas: number[] = [];
  let previous = 0;
  for (const [from, to] of ranges) {
    deltas.push(from - previous, to - from);
    previous = to;
  }
  return deltas;
}

const TEXT = new TextEncoder();
const MAX_VARINT_BYTES = 8;
/** Field numbers of LedgerValue with the wire type of what has a length. */
const MEMBER_ID_TAG = (1 << 3) | 2;
const FINISHED_DELTAS_TAG = (2 << 3) | 2;

/** LedgerValue without entries, byte for byte as the library encodes it. */
function encodeRanges(memberId: string, finished: readonly OffsetRange[]): Uint8Array {
  const deltas = deltasOf(finished);
  const bytes = new Uint8Array(3 * memberId.length + (deltas.length + 2) * MAX_VARINT_BYTES + 2);
  let at = 0;
  if (memberId !== '') {
    const member = TEXT.encode(memberId);
    bytes[at] = MEMBER_ID_TAG;
    at = writeVarint(bytes, at + 1, member.length);
    bytes.set(member, at);
    at += member.length;
  }
  if (deltas.length > 0) {
    bytes[at] = FINISHED_DELTAS_TAG;
    at = writeVarint(
      bytes,
      at + 1,
      deltas.reduce((sum, delta) => sum + varintBytes(delta), 0),
    );
    for (const delta of deltas) at = writeVarint(bytes, at, delta);
  }
  return bytes.subarray(0, at);
}

/** Of a safe integer, whose upper bits a shift would lose. */
function writeVarint(bytes: Uint8Array, from: number, value: number): number {
  let at = from;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[at++] = (rest % 0x80) | 0x80;
  bytes[at++] = rest;
  return at;
}

function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) count += 1;
  return count;
}

/** @throws NaruError DATA_CORRUPT */
export function decodeLedgerRecord(bytes: Uint8Array): LedgerRecord {
  try {
    const { memberId, finishedDeltas, entries } = fromBinary(LedgerValueSchema, bytes);
    const finished: OffsetRange[] = [];
    let end = 0;
    for (let i = 0; i + 1 < finishedDeltas.length; i += 2) {
      const from = end + toSafeInteger(finishedDeltas[i] as bigint, 'finished range');
      end = from + toSafeInteger(finishedDeltas[i + 1] as bigint, 'finished range');
      finished.push([from, end]);
    }
    return { memberId, finished, entries: entries.flatMap(decodeEntry) };
  } catch (error) {
    if (error instanceof NaruError) throw error;
    throw new NaruError('DATA_CORRUPT', 'a record of the ledger cannot be read', { cause: error });
  }
}

type WireEntry = ReturnType<typeof fromBinary<typeof LedgerValueSchema>>['entries'][number];

function decodeEntry({ outcome: wire, offset, durationMs, nextAttemptMs, ...rest }: WireEntry): LedgerEntry[] {
  const outcome = OUTCOMES.get(wire);
  if (outcome === undefined) return [];
  const { attempts, note, reason, error } = rest;
  return [
    {
      offset: toSafeInteger(offset, 'offset'),
      outcome,
      attempts,
      durationMs: toSafeInteger(durationMs, 'duration'),
      note,
      reason,
      error,
      nextAttemptMs: toSafeInteger(nextAttemptMs, 'time of the next attempt'),
    },
  ];
}
