/** What became of an event, as a person reads it and as JSON has it. */
import {
  EventTransaction,
  TraceState,
  type GroupTrace,
  type TraceResponse,
  type TraceStep,
} from '@naru/protocol/proto';
import { isoTime } from '../output/event-line.ts';
import { printable } from '../output/printable.ts';

const STATE_NAMES: Readonly<Record<TraceState, string>> = {
  [TraceState.UNSPECIFIED]: 'unknown',
  [TraceState.WAITING]: 'waiting',
  [TraceState.DELIVERED]: 'delivered',
  [TraceState.PROCESSED]: 'processed',
  [TraceState.FAILED]: 'failed',
  [TraceState.DEAD_LETTERED]: 'dead-lettered',
  [TraceState.PARKED]: 'parked',
  [TraceState.SKIPPED]: 'skipped',
};

const TRANSACTIONS: Readonly<Record<EventTransaction, 'open' | 'committed' | 'aborted' | null>> = {
  [EventTransaction.UNSPECIFIED]: null,
  [EventTransaction.OPEN]: 'open',
  [EventTransaction.COMMITTED]: 'committed',
  [EventTransaction.ABORTED]: 'aborted',
};

/** Times are ISO 8601; what is not known is null. */
export function traceJson(trace: TraceResponse) {
  return {
    requestId: trace.requestId,
    topic: trace.topic,
    partition: trace.partition,
    offset: trace.offset,
    gone: trace.gone,
    timestamp: timeOf(trace.timestampMs),
    sizeBytes: trace.sizeBytes ?? null,
    key: trace.keyText === '' ? null : trace.keyText,
    eventType: trace.eventType === '' ? null : trace.eventType,
    eventId: trace.eventId === '' ? null : trace.eventId,
    transaction: TRANSACTIONS[trace.transaction],
    groups: trace.groups.map(groupJson),
    remark: trace.remark === '' ? null : trace.remark,
  };
}

function groupJson(group: GroupTrace) {
  const text = (value: string): string | null => (value === '' ? null : value);
  return {
    group: group.groupId,
    state: STATE_NAMES[group.state],
    attempts: group.attempts,
    at: timeOf(group.atMs),
    member: text(group.memberId),
    durationMs: group.durationMs ?? null,
    note: text(group.note),
    reason: text(group.reason),
    error: text(group.error),
    nextAttempt: timeOf(group.nextAttemptMs),
    waitingFor: text(group.waitingFor),
    deadLetterId: text(group.deadLetterId),
    behind: text(group.behind),
    history: group.history.map(({ atMs, what, memberId, attempts, detail }) => ({
      at: timeOf(atMs),
      what,
      member: text(memberId),
      attempts,
      detail: text(detail),
    })),
  };
}

/** Facts about the event, then each group's story. */
export function traceText(trace: TraceResponse): string {
  const { topic, partition, offset, sizeBytes, keyText, eventType, eventId } = trace;
  const at = timeOf(trace.timestampMs);
  const stored = trace.gone
    ? `${topic}/${partition}/${offset}, and deleted since`
    : `${topic}/${partition}/${offset}${at === null ? '' : ` at ${at}`}${sizeBytes === undefined ? '' : `, ${sizeBytes} bytes`}`;
  const facts = [
    ['request id', trace.requestId],
    ['stored', stored],
    ['key', keyText],
    ['type', eventType],
    ['event id', eventId],
    ['transaction', transactionText(trace.transaction)],
  ] as const;
  const head = facts.filter(([, text]) => text !== '').map(([name, text]) => `${name.padEnd(11)} ${printable(text)}\n`);
  const stories = trace.groups.map((group) => `\n${groupText(group)}`);
  return [...head, ...stories].join('');
}

function transactionText(transaction: EventTransaction): string {
  const state = TRANSACTIONS[transaction];
  if (state === 'open') return 'open: groups wait for its end';
  return state === 'aborted' ? 'aborted: no group gets it' : (state ?? '');
}

/** One group's part: a line that says where it stands, then what happened, a line each. */
export function groupText(group: GroupTrace): string {
  const lines = [`${printable(group.groupId)}: ${printable(standing(group))}`];
  if (group.error !== '' && group.state !== TraceState.PROCESSED) lines.push(`  error: ${firstLine(group.error)}`);
  if (group.note !== '') lines.push(`  note: ${printable(group.note)}`);
  for (const step of group.history) lines.push(`  ${stepText(step)}`);
  return `${lines.join('\n')}\n`;
}

function standing(group: GroupTrace): string {
  const { state, attempts, memberId, durationMs, reason, waitingFor, deadLetterId, behind } = group;
  const at = timeOf(group.atMs);
  const when = at === null ? '' : ` at ${at}`;
  const who = memberId === '' ? '' : ` by ${memberId}`;
  const why = reason === '' ? '' : ` (${reason})`;
  const tries = attempts > 1 ? `, attempt ${attempts}` : '';
  switch (state) {
    case TraceState.WAITING:
      return `waiting${waitingFor === '' ? '' : ` for ${waitingFor}`}`;
    case TraceState.DELIVERED:
      return `delivered${attempts > 0 ? ` (${attempts})` : ''}${memberId === '' ? '' : ` to ${memberId}`}${when}`;
    case TraceState.PROCESSED:
      return `processed${when}${who}${tries}${durationMs === undefined ? '' : `, in ${durationMs} ms`}`;
    case TraceState.FAILED: {
      const next = timeOf(group.nextAttemptMs);
      return `failed${when}${tries}${who}${why}, retrying ${next === null ? 'soon' : `at ${next}`}`;
    }
    case TraceState.DEAD_LETTERED:
      return `dead-lettered${when} as ${deadLetterId}${attempts > 0 ? `, after ${attempts} ${attempts === 1 ? 'attempt' : 'attempts'}` : ''}${why}`;
    case TraceState.PARKED:
      return `parked${when}${behind === '' ? '' : ` behind ${behind}`}`;
    case TraceState.SKIPPED:
      return `skipped${when}${why}`;
    case TraceState.UNSPECIFIED:
      return 'unknown';
  }
}

function stepText({ atMs, what, memberId, attempts, detail }: TraceStep): string {
  const parts = [timeOf(atMs) ?? 'some time', what];
  if (attempts > 0) parts.push(`attempt ${attempts}`);
  if (memberId !== '') parts.push(memberId);
  if (detail !== '') parts.push(firstLine(detail));
  return parts.map(printable).join('  ');
}

function firstLine(text: string): string {
  return printable(text.split('\n', 1)[0] ?? '');
}

function timeOf(ms: bigint | undefined): string | null {
  return ms === undefined || ms <= 0n ? null : isoTime(Number(ms));
}
