/**
 * Transaction markers: control batches of one record that end a transaction in a partition (KIP-98, "Control Messages").
 *
 * ```
 * key   = version int16 (0), type int16 (0 abort, 1 commit)
 * value = version int16 (0), coordinatorEpoch int32
 * ```
 */
import { NaruError } from '../errors.ts';
import { encodeBatch } from './batch-builder.ts';
import { readInt16, readInt32, writeInt16, writeInt32 } from './bytes.ts';
import { readBatchHeader } from './batch-header.ts';
import { decodeRecords } from './record-reader.ts';

export interface ControlMarker {
  readonly type: 'commit' | 'abort';
  readonly coordinatorEpoch: number;
  readonly producerId: number;
  readonly producerEpoch: number;
  /** Milliseconds since the Unix epoch. */
  readonly timestampMs: number;
}

const ABORT = 0;
const COMMIT = 1;
const KEY_BYTES = 4;
const VALUE_BYTES = 6;

/** A whole control batch with base offset 0 and leader epoch −1. */
export function encodeControlMarker(marker: ControlMarker): Uint8Array {
  const key = new Uint8Array(KEY_BYTES);
  writeInt16(key, 2, marker.type === 'commit' ? COMMIT : ABORT);
  const value = new Uint8Array(VALUE_BYTES);
  writeInt32(value, 2, marker.coordinatorEpoch);
  const { producerId, producerEpoch, timestampMs } = marker;
  const options = { producerId, producerEpoch, isTransactional: true, isControl: true };
  return encodeBatch([{ key, value, timestampMs }], options);
}

/**
 * The marker in a control batch, or null for a control record of a type that is not known (readers pass over those).
 *
 * @throws NaruError CORRUPT_MESSAGE when it is damaged, INVALID_RECORD when it is no control batch
 */
export function decodeControlMarker(batch: Uint8Array): ControlMarker | null {
  const [record] = decodeRecords(batch);
  const { isControl, producerId, producerEpoch } = readBatchHeader(batch);
  if (!isControl) throw new NaruError('INVALID_RECORD', 'the batch is not a control batch');
  if (record === undefined || record.key === null || record.key.length < KEY_BYTES) {
    throw new NaruError('CORRUPT_MESSAGE', 'the control batch has no record with a version and a type');
  }
  const type = readInt16(record.key, 2);
  if (type !== ABORT && type !== COMMIT) return null;
  if (record.value === null || record.value.length < VALUE_BYTES) {
    throw new NaruError('CORRUPT_MESSAGE', 'the transaction marker has no coordinator epoch');
  }
  const coordinatorEpoch = readInt32(record.value, 2);
  const { timestampMs } = record;
  return { type: type === COMMIT ? 'commit' : 'abort', coordinatorEpoch, producerId, producerEpoch, timestampMs };
}
