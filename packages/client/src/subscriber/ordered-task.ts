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

const NONE: readonly string[] = Object.freeze([]);

/** @param returned the one event, where the broker kept it and it is not among `taken` */
export function makeOrderedTask(
  source: TaskSource,
  registrations: Registrations,
  partition: AssignedPartition,
  taken: readonly (TakenRecord | null)[],
  isBatch: boolean,
  returned: StreamedRecord | null = null,
): OrderedTask {
  const first = returned ?? (taken[0] as TakenRecord).record;
  const { topic, topicId, partition: number } = partition;
  const registration = registrations.find(topic, first);
  const serde = registration?.serde ?? json;
  const events = [new NaruEvent(topic, topicId, number, first, serde)];
  for (let i = 1; i < taken.length; i++) {
    events.push(new NaruEvent(topic, topicId, number, (taken[i] as TakenRecord).record, serde));
  }
  return {
    source,
    registration,
    events,
    attempt: 0,
    firstFailureMs: 0,
    claimed: NONE,
    claimedUntilMs: 0,
    idempotencyIds: NONE,
    partition,
    lane: isBatch ? partition.key : laneOf(partition, first.key),
    taken,
    isBatch,
    lastFailure: null,
    isCommitted: false,
  };
}

/** Null for an event without a key. */
function laneOf({ laneSpace }: AssignedPartition, key: Uint8Array | null): string | null {
  if (key === null) return null;
  // One character a byte: equal keys, equal text, whatever the bytes.
  const bytes = key instanceof Buffer ? key : Buffer.from(key.buffer, key.byteOffset, key.length);
  return `${laneSpace}/${bytes.toString('latin1')}`;
}
