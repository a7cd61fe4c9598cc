/** One group's part of a trace: state, ledger and what is known of its members become one answer. Pure. */
import type { EventProgress } from '../core/group/event-progress.ts';
import type { TopicGroup } from '../core/registry/topic-groups.ts';
import type { LedgerStep } from './ledger-reader.ts';

export type TraceState = 'waiting' | 'delivered' | 'processed' | 'failed' | 'dead-lettered' | 'parked' | 'skipped';

export interface GroupTrace {
  readonly groupId: string;
  readonly state: TraceState;
  readonly attempts: number;
  /** When the state began; null when it is not known. */
  readonly atMs: number | null;
  /** Empty when it is not known. */
  readonly memberId: string;
  readonly durationMs: number | null;
  readonly note: string;
  readonly reason: string;
  readonly error: string;
  readonly nextAttemptMs: number | null;
  readonly waitingFor: string;
  readonly deadLetterId: string;
  /** The request id of the event that it waits behind; empty for none. */
  readonly behind: string;
  /** Oldest first. */
  readonly history: readonly LedgerStep[];
}

export interface GroupTraceInput {
  readonly progress: EventProgress;
  /** Of all groups that may gate this one. */
  readonly all: readonly EventProgress[];
  readonly declared: readonly TopicGroup[];
  readonly steps: readonly LedgerStep[];
  /** The offset that the partition's member reads next; null when nobody here knows. */
  readonly position: number | null;
  readonly offset: number;
  /** Of a parallel topic: nobody has the partition. */
  readonly isParallel: boolean;
  readonly requestIdOf: (offset: number) => string;
}

/** What says that the group is done with the event. */
const ENDS: readonly LedgerStep['what'][] = ['processed', 'skipped', 'purged'];

export function groupTrace(input: GroupTraceInput): GroupTrace {
  const { progress, steps, requestIdOf, offset } = input;
  const base: GroupTrace = {
    groupId: progress.groupId,
    state: 'waiting',
    attempts: progress.attempts,
    atMs: progress.atMs,
    memberId: '',
    durationMs: null,
    note: '',
    reason: progress.reason,
    error: progress.error,
    nextAttemptMs: progress.nextAttemptMs,
    waitingFor: '',
    deadLetterId: '',
    behind: '',
    history: steps,
  };
  switch (progress.state) {
    case 'processed':
      return processed(base, steps);
    case 'dead-lettered': {
      const known = withStep(
        base,
        steps.findLast(({ what }) => what === 'dead-lettered'),
      );
      return { ...known, state: 'dead-lettered', atMs: progress.atMs, deadLetterId: requestIdOf(offset) };
    }
    case 'parked':
      return { ...base, state: 'parked', behind: progress.behind === null ? '' : requestIdOf(progress.behind) };
    case 'failed': {
      const known = withStep(
        base,
        steps.findLast(({ what }) => what === 'held' || what === 'failed'),
      );
      return {
        ...known,
        state: 'failed',
        attempts: progress.attempts,
        atMs: progress.atMs,
        nextAttemptMs: progress.nextAttemptMs,
      };
    }
    case 'delivered':
      return { ...base, state: 'delivered', memberId: progress.memberId ?? '' };
    case 'waiting':
      return waiting(base, input);
  }
}

function processed(base: GroupTrace, steps: readonly LedgerStep[]): GroupTrace {
  const last = steps.findLast(({ what }) => ENDS.includes(what));
  const known = withStep(base, last);
  if (last?.what === 'purged') return { ...known, state: 'skipped', reason: 'its dead letter was purged' };
  return { ...known, state: last?.what === 'skipped' ? 'skipped' : 'processed' };
}

function waiting(base: GroupTrace, input: GroupTraceInput): GroupTrace {
  const { progress, steps, position, offset } = input;
  const gating = gatingGroups(input);
  if (gating.length > 0) {
    return { ...base, waitingFor: `${gating.length === 1 ? 'group' : 'groups'} ${gating.join(', ')}` };
  }
  if (input.isParallel) return { ...base, waitingFor: 'a member to take it' };
  if (progress.memberId === null) return { ...base, waitingFor: 'a member: nobody in the group has the partition' };
  const member = `member ${progress.memberId}`;
  if (position === null || position <= offset) {
    const from = position ?? progress.committedOffset;
    const before = from === null || from >= offset ? '' : `, which has ${offset - from} offsets before it`;
    return { ...base, waitingFor: `${member}${before}` };
  }
  const delivered: GroupTrace = { ...base, state: 'delivered', memberId: progress.memberId };
  const last = steps.at(-1);
  // The member itself tries again, which is all that the broker knows of it.
  return last?.what === 'failed' && last.entry !== null ? { ...withStep(delivered, last), state: 'failed' } : delivered;
}

/** Declared groups of a lower order that hold the event back. */
function gatingGroups({ progress, all, declared }: GroupTraceInput): string[] {
  const own = declared.find(({ name }) => name === progress.groupId);
  if (own === undefined) return [];
  const progressOf = new Map(all.map((one) => [one.groupId, one]));
  return declared.flatMap(({ name, order }) => {
    const upstream = progressOf.get(name);
    if (order >= own.order || upstream === undefined || upstream.state === 'processed') return [];
    if (upstream.state === 'dead-lettered' && own.onDeadLetter === 'release') return [];
    return upstream.state === 'dead-lettered' ? [`${name} (a dead letter there)`] : [name];
  });
}

function withStep(base: GroupTrace, step: LedgerStep | undefined): GroupTrace {
  if (step === undefined) return base;
  const { atMs, memberId, entry } = step;
  if (entry === null) return { ...base, atMs, memberId };
  const { attempts, durationMs, note, reason, error, nextAttemptMs } = entry;
  return {
    ...base,
    atMs,
    memberId,
    attempts: attempts || base.attempts,
    durationMs: durationMs > 0 ? durationMs : null,
    note,
    reason: reason || base.reason,
    error: error || base.error,
    nextAttemptMs: nextAttemptMs > 0 ? nextAttemptMs : null,
  };
}
