import { create } from '@bufbuild/protobuf';
import { EventTransaction, GroupTraceSchema, TraceResponseSchema, TraceState } from '@naru/protocol/proto';
import { describe, expect, it } from 'vitest';
import { readEventArgument } from './event-argument.ts';
import { groupText, traceJson, traceText } from './trace-text.ts';

const atMs = BigInt(Date.UTC(2026, 0, 31, 8));
const at = '2026-01-31T08:00:00.000Z';

describe('a group’s part of a trace', () => {
  it.each([
    [{ state: TraceState.WAITING, waitingFor: 'group payment' }, 'g: waiting for group payment'],
    [{ state: TraceState.DELIVERED, attempts: 2, memberId: 'm-1' }, 'g: delivered (2) to m-1'],
    [
      { state: TraceState.PROCESSED, atMs, memberId: 'm-1', attempts: 3, durationMs: 12n, note: 'charged' },
      `g: processed at ${at} by m-1, attempt 3, in 12 ms\n  note: charged`,
    ],
    [
      { state: TraceState.FAILED, atMs, attempts: 2, error: 'Error: no\nstack', nextAttemptMs: atMs + 1_000n },
      `g: failed at ${at}, attempt 2, retrying at 2026-01-31T08:00:01.000Z\n  error: Error: no`,
    ],
    [
      { state: TraceState.DEAD_LETTERED, atMs, attempts: 5, deadLetterId: 'd1', reason: 'attempts-exhausted' },
      `g: dead-lettered at ${at} as d1, after 5 attempts (attempts-exhausted)`,
    ],
    [{ state: TraceState.PARKED, behind: 'd1' }, 'g: parked behind d1'],
    [{ state: TraceState.SKIPPED, reason: 'unhandled' }, 'g: skipped (unhandled)'],
  ])('%o', (fields, text) => {
    expect(groupText(create(GroupTraceSchema, { groupId: 'g', ...fields }))).toBe(`${text}\n`);
  });

  it('tells what happened before, and lets no text drive the terminal', () => {
    const history = [{ atMs, what: 'failed', memberId: 'm', attempts: 1, detail: '\x1b[2Jgone\nmore' }];
    const group = create(GroupTraceSchema, { groupId: 'g', state: TraceState.PROCESSED, history });
    expect(groupText(group)).toBe(`g: processed\n  ${at}  failed  attempt 1  m  \\x1b[2Jgone\n`);
  });
});

it('an event that is not stored any more says so', () => {
  const trace = create(TraceResponseSchema, { requestId: 'r', topic: 't', partition: 1, offset: 7n, gone: true });
  expect(traceText(trace)).toBe('request id  r\nstored      t/1/7, and deleted since\n');
  expect(traceJson(trace)).toMatchObject({ gone: true, timestamp: null, sizeBytes: null, key: null, groups: [] });
});

it.each([
  [EventTransaction.OPEN, 'open', 'open: groups wait for its end'],
  [EventTransaction.COMMITTED, 'committed', 'committed'],
  [EventTransaction.ABORTED, 'aborted', 'aborted: no group gets it'],
])('an event of a transaction says what became of that (%i)', (transaction, name, text) => {
  const trace = create(TraceResponseSchema, { requestId: 'r', topic: 't', partition: 1, offset: 7n, transaction });
  expect(traceText(trace)).toBe(`request id  r\nstored      t/1/7\ntransaction ${text}\n`);
  expect(traceJson(trace)).toMatchObject({ transaction: name });
});

describe('the event of a command line', () => {
  it('is a place or a request id', () => {
    expect(readEventArgument('orders/3/17')).toEqual({ by: 'place', topic: 'orders', partition: 3, offset: 17n });
  });

  it.each(['orders', 'orders/1', 'orders/x/1', 'orders/9999999999/1', '0123456789abcdefghjkmnpqrstvwxyz'])(
    'is not %s',
    (text) => {
      expect(() => readEventArgument(text)).toThrow(/Expected TOPIC\/PARTITION\/OFFSET or a request id/);
    },
  );
});
