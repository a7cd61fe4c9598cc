/** How a transaction ends: by its producer, by its time, by an operator. */
import { refuse, type Refusal } from '@naru/protocol';
import type {
  AbortTransactionCommand,
  EndTransactionCommand,
  TransactionDecision,
  TransactionReplies,
} from './commands.ts';
import { bumped, checkProducer, ended, endOf, fenced, refused, showId, wrongProducer } from './decisions.ts';
import { MAX_PRODUCER_EPOCH, sameIdentity, type ProducerIdentity, type TransactionState } from './transaction-state.ts';

export function decideEnd(
  state: TransactionState | undefined,
  command: EndTransactionCommand,
  nowMs: number,
): TransactionDecision<ProducerIdentity> {
  if (state === undefined) return refused(wrongProducer(command));
  if (command.flow === 1) return decideFirstFlow(state, command, nowMs);
  if (sameIdentity(state.previous, command)) return decideRepeated(state, command);
  const refusal = checkProducer(state, command);
  if (refusal !== null) return refused(refusal);
  const { transactionalId, commit, freshProducerId } = command;
  const next = bumped(state, freshProducerId);
  const { producerId, producerEpoch } = state;
  const value = ended(
    state,
    {
      ...next,
      previous: { producerId, producerEpoch },
      status: commit ? 'committed' : 'aborted',
      epochPerTransaction: true,
    },
    nowMs,
  );
  const records = [{ transactionalId, value }];
  // With nothing begun there is no marker, but the epoch is over all the same: a batch on its way must not begin anything.
  if (state.status !== 'ongoing') return { records, reply: next };
  return { records, end: endOf(state, commit, producerEpoch + 1), reply: next, timeoutMs: null };
}

/** The epoch stays, so that only the kind of the last end tells a repeated one from one without a beginning. */
function decideFirstFlow(
  state: TransactionState,
  command: EndTransactionCommand,
  nowMs: number,
): TransactionDecision<ProducerIdentity> {
  const refusal = checkProducer(state, command);
  if (refusal !== null) return refused(refusal);
  const { transactionalId, commit } = command;
  const { producerId, producerEpoch, status } = state;
  const reply: ProducerIdentity = { producerId, producerEpoch };
  if (status === 'ongoing') {
    const value = ended(state, { status: commit ? 'committed' : 'aborted', epochPerTransaction: false }, nowMs);
    return { records: [{ transactionalId, value }], end: endOf(state, commit, producerEpoch), reply, timeoutMs: null };
  }
  if (status === 'empty') {
    return refused(refuse('INVALID_TXN_STATE', `${showId(transactionalId)} has no transaction that could end`));
  }
  return (status === 'committed') === commit ? { records: [], reply } : refused(endedOtherwise(state));
}

/** With the epoch of the last end, or of what an init aborted. */
function decideRepeated(
  state: TransactionState,
  command: EndTransactionCommand,
): TransactionDecision<ProducerIdentity> {
  const { status, producerId, producerEpoch } = state;
  // Somebody initialised the id since, or the next transaction is open: whoever asks is not waiting for this answer any more.
  if (status === 'empty' || status === 'ongoing') return refused(fenced(state, command));
  if ((status === 'committed') !== command.commit) return refused(endedOtherwise(state));
  return { records: [], reply: { producerId, producerEpoch } };
}

function endedOtherwise({ transactionalId, status }: TransactionState): Refusal {
  return refuse('INVALID_TXN_STATE', `the transaction of ${showId(transactionalId)} was ${status} already`);
}

export function decideAbort(
  state: TransactionState | undefined,
  { transactionalId, reason }: AbortTransactionCommand,
  nowMs: number,
): TransactionDecision<TransactionReplies['abort']> {
  if (state === undefined) {
    return refused(refuse('TRANSACTIONAL_ID_NOT_FOUND', `there is no ${showId(transactionalId)}`));
  }
  const isOpen = state.status === 'ongoing';
  if (!isOpen && reason === 'timed-out') return { records: [], reply: { aborted: false } };
  // One that is used up is in force for nobody, and the next init sees that it needs another producer id.
  const producerEpoch = Math.min(state.producerEpoch, MAX_PRODUCER_EPOCH) + 1;
  // What it was before must not be taken for a repeated request: its producer is fenced.
  const status = isOpen ? 'aborted' : state.status;
  const value = ended(state, { producerEpoch, previous: null, status }, nowMs);
  const records = [{ transactionalId, value }];
  if (!isOpen) return { records, reply: { aborted: false } };
  return { records, end: endOf(state, false, producerEpoch), reply: { aborted: true }, timeoutMs: null };
}
