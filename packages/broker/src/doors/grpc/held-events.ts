/** Outcomes and held events of a subscription on the wire, as the service has them. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { NaruError } from '@naru/protocol';
import {
  OutcomeKind,
  type BlockedKeysSchema,
  type EventOutcome as WireOutcome,
  type HeldEventsSchema,
} from '@naru/protocol/proto';
import type { EventOutcome } from '../../core/group/index.ts';
import type { SessionEvent } from '../../service/session-events.ts';
import { toPartitionRef, wireInteger } from './positions.ts';

const KINDS: Readonly<Record<OutcomeKind, EventOutcome['kind'] | null>> = {
  [OutcomeKind.UNSPECIFIED]: null,
  [OutcomeKind.PROCESSED]: 'processed',
  [OutcomeKind.SKIPPED]: 'skipped',
  [OutcomeKind.DEAD_LETTERED]: 'dead-lettered',
  [OutcomeKind.HELD]: 'held',
  [OutcomeKind.FAILED]: 'failed',
};

/** @throws NaruError INVALID_REQUEST for numbers that cannot be, or a kind that this broker does not know */
export function toOutcome(outcome: WireOutcome): EventOutcome {
  const { attempts, note, reason, error, idempotencyId } = outcome;
  // Open enums: a newer client may send any number.
  const kind = (KINDS as Readonly<Record<number, EventOutcome['kind'] | null | undefined>>)[outcome.kind] ?? null;
  if (kind === null) {
    throw new NaruError('INVALID_REQUEST', `outcome ${outcome.kind} of an event is unknown to this broker`);
  }
  return {
    offset: wireInteger(outcome.offset, 'an offset'),
    kind,
    attempts: Math.max(0, attempts),
    durationMs: wireInteger(outcome.durationMs, 'a duration'),
    note,
    reason,
    error,
    firstFailureMs: wireInteger(outcome.firstFailureMs, 'a time'),
    lastFailureMs: wireInteger(outcome.lastFailureMs, 'a time'),
    nextAttemptMs: wireInteger(outcome.nextAttemptMs, 'a time'),
    idempotencyId,
  };
}

export function toWireHeld(event: Extract<SessionEvent, { type: 'held' }>): MessageInitShape<typeof HeldEventsSchema> {
  const events = event.events.map(({ batch, attempts, firstFailureMs, redriven }) => {
    return { batch, attempts, firstFailureMs: BigInt(firstFailureMs), redriven };
  });
  return { partition: toPartitionRef(event.partition), events };
}

export function toWireBlockedKeys(
  event: Extract<SessionEvent, { type: 'blocked-keys' }>,
): MessageInitShape<typeof BlockedKeysSchema> {
  const { partition, blocked, unblocked } = event;
  return { partition: toPartitionRef(partition), blocked: [...blocked], unblocked: [...unblocked] };
}
