/**
 * What outcomes of a commit do to held events of its partition.
 *
 * An outcome is of an event that is held and waits, or of one that was just read. The same commit may come twice, when its
 * answer was lost: what is held or dead already is not held a second time. Whoever sends it again does so before anything that
 * it has to say of the event since.
 */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { EventOutcome } from './commands.ts';
import type { CommittedOffset, OffsetRange } from './group-state.ts';
import type { HeldChange } from './held-changes.ts';
import type { HeldEvent } from '../held/held-event.ts';
import type { HeldPartition } from '../held/held-partition.ts';

export interface OutcomesOf {
  readonly partition: PartitionKey;
  /** For messages. */
  readonly label: string;
  readonly outcomes: readonly EventOutcome[];
  readonly held: HeldPartition | undefined;
  /** What will be committed with it. */
  readonly after: Pick<CommittedOffset, 'offset' | 'finished'>;
  readonly hasKafkaMembers: boolean;
  readonly parks: boolean;
  readonly nowMs: number;
}

export interface OutcomeChanges {
  readonly changes: readonly HeldChange[];
  /** Keys that are blocked by it. */
  readonly blocked: readonly string[];
}

/** All of a partition's, or why not. */
export function outcomeChanges(of: OutcomesOf): OutcomeChanges | Refusal {
  const changes: HeldChange[] = [];
  const blocked = new Set<string>();
  const seen = new Set<number>();
  for (const outcome of of.outcomes) {
    const { offset } = outcome;
    if (!Number.isSafeInteger(offset) || offset < 0 || seen.has(offset)) {
      return refuse('INVALID_REQUEST', `outcomes of ${of.label}: offset ${offset} is no offset, or there twice`);
    }
    seen.add(offset);
    const change = changeBy(outcome, of);
    if (change !== null && 'code' in change) return change;
    if (change !== null) changes.push(change);
    const event = change === null ? of.held?.get(offset) : change.event;
    if (!event || event.keyId === '') continue;
    if (event.state === 'waiting' || of.parks) blocked.add(event.keyId);
  }
  return { changes, blocked: [...blocked] };
}

/** Null when nothing changes. */
function changeBy(outcome: EventOutcome, of: OutcomesOf): HeldChange | Refusal | null {
  const { offset, kind } = outcome;
  const before = of.held?.get(offset);
  if (kind === 'failed') return null;
  if (kind === 'processed' || kind === 'skipped') {
    return before?.state === 'waiting' ? { offset, event: null } : null;
  }
  if (kind === 'held' && of.hasKafkaMembers) {
    const message = `the group has Kafka members, which cannot be given held events: ${of.label}`;
    return refuse('INCONSISTENT_GROUP_PROTOCOL', message);
  }
  if (before === undefined) return newlyHeld(outcome, of);
  // Redriven meanwhile or not: what is dead is not the reader's any more.
  if (before.state === 'dead') return null;
  // Read again by somebody who did not know that it is kept already.
  if (kind === 'held' && outcome.attempts === 0) return null;
  return { offset, event: told(before, outcome, of.nowMs) };
}

function newlyHeld(outcome: EventOutcome, of: OutcomesOf): HeldChange | Refusal | null {
  const { offset, kind, copy } = outcome;
  if (!isFinished(of.after, offset)) {
    const message = `the commit of ${of.label} does not finish offset ${offset}, which it says is ${kind}`;
    return refuse('INVALID_REQUEST', message);
  }
  if (copy === undefined) return copyMissing(offset, of.label);
  if (copy === null) return null;
  const event: HeldEvent = {
    state: 'waiting',
    keyId: copy.keyId,
    copyOffset: 0,
    attempts: 0,
    notBeforeMs: 0,
    reason: '',
    error: '',
    firstFailureMs: 0,
    lastFailureMs: 0,
    atMs: of.nowMs,
    redrives: 0,
    sizeBytes: 0,
  };
  return { offset, event: told(event, outcome, of.nowMs), copy };
}

function told(event: HeldEvent, outcome: EventOutcome, nowMs: number): HeldEvent {
  const { kind, attempts, reason, error, lastFailureMs, nextAttemptMs } = outcome;
  const firstFailureMs = event.firstFailureMs === 0 ? outcome.firstFailureMs : event.firstFailureMs;
  const failed = { ...event, attempts, reason, error, firstFailureMs, lastFailureMs, atMs: nowMs };
  if (kind === 'held') return { ...failed, state: 'waiting', notBeforeMs: nextAttemptMs };
  return { ...failed, state: 'dead', notBeforeMs: 0 };
}

/** A bug of whoever makes the copies: commits that come through the door have them. */
function copyMissing(offset: number, label: string): Refusal {
  return refuse('INVALID_REQUEST', `offset ${offset} of ${label} is not held, and came without its event`);
}

/** Waiting events that are not finished any more: they will be read again. */
export function unfinishedWaiting(
  held: HeldPartition | undefined,
  after: Pick<CommittedOffset, 'offset' | 'finished'> | null,
): HeldChange[] {
  const changes: HeldChange[] = [];
  for (const [offset, { state }] of held ?? []) {
    if (state === 'waiting' && (after === null || !isFinished(after, offset))) changes.push({ offset, event: null });
  }
  return changes;
}

/** Whether everything that was finished still is. */
export function coversFinished(
  after: Pick<CommittedOffset, 'offset' | 'finished'>,
  before: Pick<CommittedOffset, 'offset' | 'finished'>,
): boolean {
  if (after.offset < before.offset) return false;
  return before.finished.every(([from, to]) => {
    if (to <= after.offset) return true;
    const range = rangeAt(after.finished, Math.max(from, after.offset));
    return range !== undefined && range[1] >= to;
  });
}

export function isFinished({ offset, finished }: Pick<CommittedOffset, 'offset' | 'finished'>, at: number): boolean {
  return at < offset || rangeAt(finished, at) !== undefined;
}

function rangeAt(ranges: readonly OffsetRange[], at: number): OffsetRange | undefined {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((ranges[middle] as OffsetRange)[1] <= at) low = middle + 1;
    else high = middle;
  }
  const range = ranges[low];
  return range !== undefined && range[0] <= at ? range : undefined;
}
