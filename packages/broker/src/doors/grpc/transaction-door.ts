/** TransactionService: wire messages to service/transactions.ts, and back. */
import { create, toBinary, type MessageInitShape } from '@bufbuild/protobuf';
import type { ServiceImpl } from '@connectrpc/connect';
import type { Logger } from '@naru/base';
import { NaruError, type Refusal } from '@naru/protocol';
import {
  AbortTransactionResponseSchema,
  DescribeTransactionResponseSchema,
  EndTransactionRequestSchema,
  EndTransactionResponseSchema,
  InitTransactionsResponseSchema,
  ListTransactionsResponseSchema,
  TransactionState,
  type EndTransactionRequest,
  type EndTransactionResponse,
  type TransactionService as WireService,
  type TransactionSummarySchema,
} from '@naru/protocol/proto';
import type { TransactionListing } from '../../core/transaction/commands.ts';
import type { ProducerIdentity, TransactionStatus } from '../../core/transaction/transaction-state.ts';
import { isRefusal } from '../../runtime/commands.ts';
import type { TransactionService } from '../../service/transactions.ts';
import { decoded, type StreamMethod } from './grpc-stream.ts';
import { wireInteger } from './positions.ts';
import { toTransactionRef } from './transaction-refs.ts';
import { logged, toConnectError } from './wire-errors.ts';

export interface TransactionDoorOptions {
  readonly transactions: TransactionService;
  readonly logger: Logger;
}

const STATES: Readonly<Record<TransactionStatus, TransactionState>> = {
  empty: TransactionState.EMPTY,
  ongoing: TransactionState.ONGOING,
  committed: TransactionState.COMMITTED,
  aborted: TransactionState.ABORTED,
};

export function transactionDoor({ transactions, logger }: TransactionDoorOptions): ServiceImpl<typeof WireService> {
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
    initTransactions: async ({ transactionalId, timeoutMs }) => {
      const identity = await answer(() => transactions.init(transactionalId, timeoutMs));
      return create(InitTransactionsResponseSchema, toWireIdentity(identity));
    },
    endTransaction: (request) => answer(() => endTransaction(transactions, request)),
    listTransactions: async ({ states, minOpenMs, pageToken, pageSize }) => {
      const page = await answer(async () =>
        transactions.list({
          states: states.map(toStatus),
          minOpenMs: wireInteger(minOpenMs, 'a time'),
          pageToken,
          pageSize,
        }),
      );
      const { nextPageToken } = page;
      return create(ListTransactionsResponseSchema, { transactions: page.transactions.map(toSummary), nextPageToken });
    },
    describeTransaction: async ({ transactionalId }) => {
      const report = await answer(() => transactions.describe(transactionalId));
      return create(DescribeTransactionResponseSchema, {
        summary: toSummary(report),
        partitions: report.places.map(({ topic, partition, firstOffset, highWatermark, lastStableOffset }) => ({
          topic,
          partition,
          ...(firstOffset === null ? {} : { firstOffset: BigInt(firstOffset) }),
          highWatermark: BigInt(highWatermark),
          lastStableOffset: BigInt(lastStableOffset),
        })),
        groups: [...report.groups],
      });
    },
    abortTransaction: async ({ transactionalId }) => {
      const { aborted } = await answer(() => transactions.abort(transactionalId));
      return create(AbortTransactionResponseSchema, { aborted });
    },
  };
}

/** EndTransaction without the library, since it stands at the end of every transaction: see grpc-stream.ts. */
export function endTransactionMethod({ transactions }: Pick<TransactionDoorOptions, 'transactions'>): StreamMethod {
  return {
    path: '/naru.v1.TransactionService/EndTransaction',
    async *serve(requests) {
      for await (const request of decoded(EndTransactionRequestSchema, requests)) {
        yield [toBinary(EndTransactionResponseSchema, await endTransaction(transactions, request))];
        return;
      }
      throw new NaruError('INVALID_REQUEST', 'EndTransaction was called without a request');
    },
  };
}

/** @throws NaruError of a refusal */
async function endTransaction(
  transactions: TransactionService,
  { transaction, commit }: EndTransactionRequest,
): Promise<EndTransactionResponse> {
  const ref = toTransactionRef(transaction);
  if (ref === null) throw new NaruError('INVALID_REQUEST', 'say which transaction to end');
  const next = await transactions.end(ref, commit);
  if (isRefusal(next)) throw NaruError.from(next);
  return create(EndTransactionResponseSchema, toWireIdentity(next));
}

/** @throws NaruError INVALID_REQUEST */
function toStatus(wire: TransactionState): TransactionStatus {
  for (const [status, state] of Object.entries(STATES)) if (state === wire) return status as TransactionStatus;
  throw new NaruError('INVALID_REQUEST', `there is no state ${wire} of transactions`);
}

function toWireIdentity({ producerId, producerEpoch }: ProducerIdentity) {
  return { producerId: BigInt(producerId), producerEpoch };
}

function toSummary(listing: TransactionListing): MessageInitShape<typeof TransactionSummarySchema> {
  const { transactionalId, status, timeoutMs, startedAtMs, updatedAtMs, partitionCount } = listing;
  return {
    transactionalId,
    ...toWireIdentity(listing),
    state: STATES[status],
    timeoutMs,
    ...(startedAtMs === null ? {} : { startedMs: BigInt(Math.trunc(startedAtMs)) }),
    updatedMs: BigInt(Math.trunc(updatedAtMs)),
    partitionCount,
  };
}
