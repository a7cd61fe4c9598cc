/** An answer to a poll by a single call: what it may have, and how it fills. */
import type { PartitionKey } from '@naru/base';
import type { BatchRecord } from '@naru/protocol/batch';

export const DEFAULT_POLL_RECORDS = 500;
export const MAX_POLL_RECORDS = 10_000;
export const DEFAULT_ANSWER_BYTES = 1024 * 1024;
export const MAX_ANSWER_BYTES = 2 * 1024 * 1024;
/** What a record costs in an answer besides its own bytes. */
const RECORD_OVERHEAD_BYTES = 64;

export interface AnswerLimits {
  /** 0 for the default. */
  readonly maxRecords: number;
  /** 0 for the default. */
  readonly maxBytes: number;
}

export interface GivenRecord {
  readonly topic: string;
  readonly partition: PartitionKey;
  readonly record: BatchRecord;
  /** Of parallel topics, and of events that come again: how often it was given. Default: 0. */
  readonly deliveryCount?: number | undefined;
}

/** The records of an answer. The first one always fits. */
export class AnswerSpace {
  readonly records: GivenRecord[] = [];
  #bytes = 0;
  readonly #maxRecords: number;
  readonly #maxBytes: number;

  constructor(limits: AnswerLimits) {
    this.#maxRecords = answerRecords(limits);
    this.#maxBytes = answerBytes(limits);
  }

  hasRoomFor(record: BatchRecord): boolean {
    if (this.records.length === 0) return true;
    return this.records.length < this.#maxRecords && this.#bytes + sizeOf(record) <= this.#maxBytes;
  }

  add(given: GivenRecord): void {
    this.records.push(given);
    this.#bytes += sizeOf(given.record);
  }
}

export function answerRecords({ maxRecords }: AnswerLimits): number {
  return maxRecords <= 0 ? DEFAULT_POLL_RECORDS : Math.min(maxRecords, MAX_POLL_RECORDS);
}

export function answerBytes({ maxBytes }: AnswerLimits): number {
  return maxBytes <= 0 ? DEFAULT_ANSWER_BYTES : Math.min(maxBytes, MAX_ANSWER_BYTES);
}

function sizeOf({ key, value, headers }: BatchRecord): number {
  let bytes = RECORD_OVERHEAD_BYTES + (key?.length ?? 0) + (value?.length ?? 0);
  for (const header of headers) bytes += RECORD_OVERHEAD_BYTES + header.key.length + (header.value?.length ?? 0);
  return bytes;
}
