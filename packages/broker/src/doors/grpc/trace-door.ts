/** TraceService: wire messages to trace.ts and wait.ts, and what they answer. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { topicIdToBytes, type Logger } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import {
  EventTransaction,
  TraceResponseSchema,
  TraceState,
  WaitResponseSchema,
  type GroupTraceSchema,
  type TraceRequest,
  type TraceResponse,
  type TraceService as TraceServiceSchema,
} from '@naru/protocol/proto';
import type { TransactionOutcome } from '../../core/partition/transaction-index.ts';
import { isRefusal } from '../../runtime/commands.ts';
import type { GroupTrace, TraceState as TraceStateName } from '../../service/group-trace.ts';
import type { LedgerStep } from '../../service/ledger-reader.ts';
import { cloudEventOf, type EventQuery, type TraceReport, type TraceService } from '../../service/trace.ts';
import type { WaitService } from '../../service/wait.ts';
import { wireInteger } from './positions.ts';
import { logged, toConnectError, toErrorMessage } from './wire-errors.ts';

const FROM_TEXT = new TextDecoder();
/** Of a key as text. */
const MAX_KEY_TEXT = 1_024;

const STATES: Readonly<Record<TraceStateName, TraceState>> = {
  waiting: TraceState.WAITING,
  delivered: TraceState.DELIVERED,
  processed: TraceState.PROCESSED,
  failed: TraceState.FAILED,
  'dead-lettered': TraceState.DEAD_LETTERED,
  parked: TraceState.PARKED,
  skipped: TraceState.SKIPPED,
};

const OUTCOMES: Readonly<Record<TransactionOutcome, EventTransaction>> = {
  open: EventTransaction.OPEN,
  committed: EventTransaction.COMMITTED,
  aborted: EventTransaction.ABORTED,
};

export interface TraceDoorOptions {
  readonly traces: TraceService;
  readonly waits: WaitService;
  readonly logger: Logger;
}

export function traceDoor({ traces, waits, logger }: TraceDoorOptions): ServiceImpl<typeof TraceServiceSchema> {
  const answer = async <T extends object>(work: () => Promise<T | Refusal>): Promise<T> => {
    try {
      const result = await work();
      if (isRefusal(result)) throw NaruError.from(result);
      return result;
    } catch (error) {
      throw logged(toConnectError(error), logger);
    }
  };
  return {
    trace: async (request) => toTraceResponse(await answer(async () => traces.trace(toQuery(request), request.groups))),
    wait: async ({ requestId, groups, maxWaitMs }, { signal }) => {
      const {
        processed,
        groups: found,
        refusal,
      } = await answer(() => waits.wait(requestId, groups, maxWaitMs, signal));
      const error = refusal === null ? {} : { error: toErrorMessage(refusal) };
      return create(WaitResponseSchema, { processed, groups: found.map(toWireGroup), ...error });
    },
  };
}

function toQuery({ event }: TraceRequest): EventQuery {
  switch (event.case) {
    case 'requestId':
      return { by: 'request-id', requestId: event.value };
    case 'place': {
      const { topic, partition, offset } = event.value;
      return { by: 'place', topic, partition, offset: wireInteger(offset, 'an offset') };
    }
    case 'cloudEvent': {
      const { id, topic, toleranceMs } = event.value;
      return { by: 'cloud-event', id, topic, toleranceMs: wireInteger(toleranceMs, 'a tolerance') };
    }
    case undefined:
      throw new NaruError('INVALID_REQUEST', 'name an event: by request id, by its place, or by its CloudEvents id');
  }
}

function toTraceResponse({ requestId, place, record, gone, transaction, groups, remark }: TraceReport): TraceResponse {
  const { topic, partition, offset } = place;
  const { type: eventType, id: eventId } = record === null ? { type: '', id: '' } : cloudEventOf(record);
  const response = create(TraceResponseSchema, {
    requestId,
    topic: topic.name,
    topicId: topicIdToBytes(topic.id),
    partition,
    offset: BigInt(offset),
    eventType,
    eventId,
    groups: groups.map(toWireGroup),
    gone,
    transaction: transaction === null ? EventTransaction.UNSPECIFIED : OUTCOMES[transaction],
    remark,
  });
  if (record === null) return response;
  const { timestampMs, key, value } = record;
  if (timestampMs >= 0) response.timestampMs = BigInt(timestampMs);
  response.sizeBytes = BigInt((key?.length ?? 0) + (value?.length ?? 0));
  response.keyText = key === null ? '' : FROM_TEXT.decode(key.subarray(0, MAX_KEY_TEXT));
  return response;
}

function toWireGroup(trace: GroupTrace): MessageInitShape<typeof GroupTraceSchema> {
  const { groupId, attempts, memberId, note, reason, error, waitingFor, deadLetterId, behind } = trace;
  return {
    groupId,
    state: STATES[trace.state],
    attempts,
    memberId,
    note,
    reason,
    error,
    waitingFor,
    deadLetterId,
    behind,
    history: trace.history.map(toWireStep),
    ...(trace.atMs === null ? {} : { atMs: BigInt(trace.atMs) }),
    ...(trace.durationMs === null ? {} : { durationMs: BigInt(trace.durationMs) }),
    ...(trace.nextAttemptMs === null ? {} : { nextAttemptMs: BigInt(trace.nextAttemptMs) }),
  };
}

function toWireStep({ atMs, what, memberId, entry }: LedgerStep) {
  const detail = entry === null ? '' : [entry.reason, entry.error, entry.note].filter((text) => text !== '').join(': ');
  return { atMs: BigInt(atMs), what, memberId, attempts: entry?.attempts ?? 0, detail };
}
