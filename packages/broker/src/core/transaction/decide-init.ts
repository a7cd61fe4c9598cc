/** Ids begin and go: init gives a producer id and a new epoch, expiry forgets what nobody uses any more. */
import { refuse, type Refusal } from '@naru/protocol';
import type {
  ExpireTransactionCommand,
  InitTransactionsCommand,
  TransactionContext,
  TransactionDecision,
  TransactionLimits,
} from './commands.ts';
import { bumped, endOf, refused, showId } from './decisions.ts';
import { sameIdentity, type ProducerIdentity, type TransactionState } from './transaction-state.ts';

/** As Kafka limits the names of topics; here it keeps records small. */
const MAX_ID_BYTES = 249;

export function decideInit(
  state: TransactionState | undefined,
  command: InitTransactionsCommand,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<ProducerIdentity> {
  const { transactionalId, expected, freshProducerId } = command;
  const refusal = checkInit(command, context.limits) ?? checkExpected(state, command);
  if (refusal !== null) return refused(refusal);
  const timeoutMs = command.timeoutMs === 0 ? context.limits.defaultTimeoutMs : command.timeoutMs;
  if (state === undefined) {
    if (context.idCount >= context.limits.maxIds) {
      return refused(
        refuse('TOO_MANY_TRANSACTIONS', `there are ${context.limits.maxIds} transactional ids, which is the limit`),
      );
    }
    const identity: ProducerIdentity = { producerId: freshProducerId, producerEpoch: 0 };
    const value: TransactionState = {
      ...identity,
      transactionalId,
      previous: null,
      timeoutMs,
      status: 'empty',
      partitions: new Set(),
      groups: new Set(),
      startedAtMs: null,
      updatedAtMs: nowMs,
      epochPerTransaction: false,
    };
    return { records: [{ transactionalId, value }], reply: identity };
  }
  if (expected !== null && !sameIdentity(expected, state)) {
    // It has the answer of an earlier time still to come.
    return { records: [], reply: identityOf(state) };
  }
  const next = bumped(state, freshProducerId);
  const value: TransactionState = {
    ...state,
    ...next,
    // Not of a producer that came anew: whoever was before would be taken for it, asking again (KIP-360).
    previous: expected === null ? null : identityOf(state),
    timeoutMs,
    status: 'empty',
    partitions: new Set(),
    groups: new Set(),
    startedAtMs: null,
    updatedAtMs: nowMs,
    epochPerTransaction: false,
  };
  const records = [{ transactionalId, value }];
  if (state.status !== 'ongoing') return { records, reply: next };
  return { records, end: endOf(state, false, state.producerEpoch + 1), reply: next, timeoutMs: null };
}

export function decideExpire(
  state: TransactionState | undefined,
  { transactionalId }: ExpireTransactionCommand,
  { limits }: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  const isUsed = state === undefined || state.status === 'ongoing' || nowMs - state.updatedAtMs < limits.idExpiryMs;
  return { records: isUsed ? [] : [{ transactionalId, value: null }], reply: null };
}

function checkInit({ transactionalId, timeoutMs }: InitTransactionsCommand, limits: TransactionLimits): Refusal | null {
  const bytes = new TextEncoder().encode(transactionalId).length;
  if (bytes < 1 || bytes > MAX_ID_BYTES) {
    return refuse(
      'INVALID_TRANSACTIONAL_ID',
      `a transactional id has 1 to ${MAX_ID_BYTES} bytes, this one has ${bytes}`,
    );
  }
  if (Number.isSafeInteger(timeoutMs) && timeoutMs >= 0 && timeoutMs <= limits.maxTimeoutMs) return null;
  const message = `a transaction's time-out is 1 to ${limits.maxTimeoutMs} ms, or 0 for ${limits.defaultTimeoutMs}; not ${timeoutMs}`;
  return refuse('INVALID_TRANSACTION_TIMEOUT', message);
}

/** KIP-360: a producer goes on after an error, unless somebody else has the id by now. One whose id was forgotten begins anew. */
function checkExpected(
  state: TransactionState | undefined,
  { transactionalId, expected }: InitTransactionsCommand,
): Refusal | null {
  if (state === undefined || expected === null || sameIdentity(expected, state)) return null;
  // Whoever has a transaction open has had the answer.
  if (sameIdentity(state.previous, expected) && state.status !== 'ongoing') return null;
  return refuse(
    'PRODUCER_FENCED',
    `producer ${expected.producerId} with epoch ${expected.producerEpoch} does not have ${showId(transactionalId)} any more`,
  );
}

function identityOf({ producerId, producerEpoch }: ProducerIdentity): ProducerIdentity {
  return { producerId, producerEpoch };
}
