/** Events of an ordered topic that are handled together. */
import type { StreamedRecord } from '@naru/protocol/batch';
import { json } from '../serde/serde.ts';
import type { AssignedPartition, TakenRecord } from './assigned-partition.ts';
import { NaruEvent } from './event.ts';
import type { OutcomeFields } from './outcome-book.ts';
import type { Registrations } from './registrations.ts';
import type { Task, TaskSource } from './task.ts';

export interface OrderedTask extends Task {
  readonly source: TaskSource;
  readonly partition: AssignedPartition;
  readonly lane: string | null;
  /** As many as events; null for an event that the broker kept. */
  readonly taken: readonly (TakenRecord | null)[];
  readonly isBatch: boolean;
  /** What its last failure was, with the time of its next attempt. */
  lastFailure: OutcomeFields | null;
  /** It was committed before handling: it is over, whatever comes of it. */
  isCommitted: boolean;
}

interface TakenEvents {
  readonly partition: AssignedPartition;
  readonly taken: readonly (TakenRecord | null)[];
  readonly records: readonly StreamedRecord[];
  readonly isBatch: boolean;
}

export function makeOrderedTask(
  source: TaskSource,
  registrations: Registrations,
  { partition, taken, records, isBatch }: TakenEvents,
): OrderedTask {
  const first = records[0] as StreamedRecord;
  const { topic, topicId, partition: number } = partition;
  const registration = registrations.find(topic, first);
  const serde = registration?.serde ?? json;
  return {
    source,
    registration,
    events: records.map((record) => new NaruEvent(topic, topicId, number, record, serde)),
    attempt: 0,
    firstFailureMs: 0,
    claimed: [],
    claimedUntilMs: 0,
    idempotencyIds: [],
    partition,
    lane: isBatch ? partition.key : laneOf(partition, first.key),
    taken,
    isBatch,
    lastFailure: null,
    isCommitted: false,
  };
}

/** Null for an event without a key. */
function laneOf(partition: AssignedPartition, key: Uint8Array | null): string | null {
  if (key === null) return null;
  // One character a byte: equal keys, equal text, whatever the bytes.
  return `${partition.key}/${Buffer.from(key.buffer, key.byteOffset, key.length).toString('latin1')}`;
}
