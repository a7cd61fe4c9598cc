/** DeadLetterService: wire messages to service/dead-letters.ts, and back. */
import { create, type MessageInitShape } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import { splitPartitionKey, type Logger } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import {
  DeadLetterState,
  GetDeadLetterResponseSchema,
  ListDeadLettersResponseSchema,
  PurgeDeadLettersResponseSchema,
  RedriveDeadLettersResponseSchema,
  type DeadLetterFilter,
  type DeadLetterSchema,
  type DeadLetterService as WireService,
} from '@naru/protocol/proto';
import { isRefusal } from '../../runtime/commands.ts';
import type { DeadLetterQuestion, DeadLetterReport, DeadLetterService } from '../../service/dead-letters.ts';
import { RecordFormatter } from './plain-records.ts';
import { wireInteger } from './positions.ts';
import { logged, toConnectError, toErrorMessage } from './wire-errors.ts';

export interface DeadLetterDoorOptions {
  readonly deadLetters: DeadLetterService;
  readonly logger: Logger;
}

export function deadLetterDoor({ deadLetters, logger }: DeadLetterDoorOptions): ServiceImpl<typeof WireService> {
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
    listDeadLetters: async ({ filter, limit, cursor }) => {
      const list = await answer(async () => deadLetters.list(toQuestion(filter, limit, cursor)));
      return create(ListDeadLettersResponseSchema, {
        deadLetters: list.letters.map(toWire),
        nextCursor: list.nextCursor,
        total: BigInt(list.total),
      });
    },
    getDeadLetter: async ({ groupId, id, format }) => {
      const { letter, record } = await answer(() => deadLetters.get(groupId, id));
      const formatted = new RecordFormatter(format).format(record);
      return create(GetDeadLetterResponseSchema, { deadLetter: toWire(letter), record: formatted });
    },
    redriveDeadLetters: async ({ filter, limit, cursor, untilMs, dryRun }) => {
      const done = await answer(async () =>
        deadLetters.carryOut({
          ...toQuestion(filter, limit, cursor),
          kind: 'redrive',
          untilMs: wireInteger(untilMs, 'a time'),
          dryRun,
        }),
      );
      return create(RedriveDeadLettersResponseSchema, {
        redriven: done.letters.map(toWire),
        nextCursor: done.nextCursor,
        untilMs: BigInt(done.untilMs),
        refused: done.refused.map(({ id, refusal }) => ({ id, error: toErrorMessage(refusal) })),
      });
    },
    purgeDeadLetters: async ({ filter, limit, cursor, untilMs, dryRun }) => {
      const done = await answer(async () =>
        deadLetters.carryOut({
          ...toQuestion(filter, limit, cursor),
          kind: 'purge',
          untilMs: wireInteger(untilMs, 'a time'),
          dryRun,
        }),
      );
      return create(PurgeDeadLettersResponseSchema, {
        purged: done.letters.map(toWire),
        nextCursor: done.nextCursor,
        untilMs: BigInt(done.untilMs),
      });
    },
  };
}

/** @throws NaruError INVALID_REQUEST */
function toQuestion(filter: DeadLetterFilter | undefined, limit: number, cursor: string): DeadLetterQuestion {
  if (filter === undefined) throw new NaruError('INVALID_REQUEST', 'the filter is missing: it names the group');
  const { groupId, ids, topic, keyText, reason, sinceMs, beforeMs } = filter;
  return {
    groupId,
    ids,
    topic,
    keyText: keyText ?? null,
    reason,
    sinceMs: wireInteger(sinceMs, 'a time'),
    beforeMs: wireInteger(beforeMs, 'a time'),
    limit,
    cursor,
  };
}

function toWire(letter: DeadLetterReport): MessageInitShape<typeof DeadLetterSchema> {
  const { id, groupId, topic, place, event, keyText, parkedBehind } = letter;
  return {
    id,
    groupId,
    state: event.state === 'dead' ? DeadLetterState.DEAD : DeadLetterState.REDRIVEN,
    topic,
    partition: splitPartitionKey(place.partition).partition,
    offset: BigInt(place.offset),
    reason: event.reason,
    error: event.error,
    attempts: event.attempts,
    firstFailureMs: BigInt(event.firstFailureMs),
    lastFailureMs: BigInt(event.lastFailureMs),
    deadLetteredMs: BigInt(Math.trunc(event.atMs)),
    parkedBehind,
    redrives: event.redrives,
    keyText: keyText ?? '',
  };
}
