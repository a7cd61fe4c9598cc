/** Copies of held events in their own log: the value of a record is a batch with the one event, at its original offset. */
import { NaruError } from '@naru/protocol';
import type { BatchRecord } from '@naru/protocol/batch';

/** A whole event, to be kept. */
export interface EventCopy {
  /** As protocol's keyId; empty for an event without a key. */
  readonly keyId: string;
  /** Of the one record, at its original offset. */
  readonly batch: Uint8Array;
}

/** The batch with the event. @throws NaruError DATA_CORRUPT when the record is no copy */
export function readCopy(record: BatchRecord | undefined, copyOffset: number): Uint8Array {
  if (record?.value !== undefined && record.value !== null && record.offset === copyOffset) return record.value;
  throw new NaruError('DATA_CORRUPT', `the copy of a held event is not at offset ${copyOffset} of its log`);
}
