/** What takes part in a transaction: partitions that are written to, groups whose offsets wait for its end. */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type {
  AddGroupCommand,
  AddPartitionsCommand,
  AdmitCommand,
  AdmitGroupCommand,
  TransactionContext,
  TransactionDecision,
} from './commands.ts';
import { checkProducer, refused, showId, wrongProducer } from './decisions.ts';
import { MAX_PRODUCER_EPOCH, type TransactionState } from './transaction-state.ts';

export function decideAddPartitions(
  state: TransactionState | undefined,
  command: AddPartitionsCommand,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  const refusal = checkProducer(state, command);
  if (refusal !== null) return refused(refusal);
  for (const partition of command.partitions) {
    if (context.partitionExists(partition)) continue;
    const message = `there is no partition ${partition} to write to: nothing was added to the transaction`;
    return refused(refuse('UNKNOWN_TOPIC_OR_PARTITION', message));
  }
  return withPartitions(state as TransactionState, command.partitions, false, context, nowMs);
}

export function decideAddGroup(
  state: TransactionState | undefined,
  command: AddGroupCommand,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  const refusal = checkProducer(state, command);
  if (refusal !== null) return refused(refusal);
  return withGroup(state as TransactionState, command.groupId, false, context, nowMs);
}

/** Refuses as partitions do, not as the coordinator: whoever wrote late is told INVALID_PRODUCER_EPOCH. */
export function decideAdmit(
  state: TransactionState | undefined,
  command: AdmitCommand,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  const { transactionalId, producerId, producerEpoch, partition, flow } = command;
  if (state === undefined || state.producerId !== producerId) return refused(wrongProducer(command));
  if (state.producerEpoch !== producerEpoch || producerEpoch > MAX_PRODUCER_EPOCH) {
    const message = `producer ${producerId} has epoch ${producerEpoch}, but ${showId(transactionalId)} is at ${state.producerEpoch}`;
    return refused(refuse('INVALID_PRODUCER_EPOCH', message));
  }
  if (state.status === 'ongoing' && state.partitions.has(partition)) return { records: [], reply: null };
  if (flow === 2) {
    const decision = withPartitions(state, [partition], true, context, nowMs);
    return state.status === 'ongoing' ? { ...decision, isImplied: true } : decision;
  }
  return refused(refuse('INVALID_TXN_STATE', `${partition} is not part of an open transaction: add it before writing`));
}

export function decideAdmitGroup(
  state: TransactionState | undefined,
  command: AdmitGroupCommand,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  const refusal = checkProducer(state, command);
  if (refusal !== null) return refused(refusal);
  const known = state as TransactionState;
  if (known.status === 'ongoing' && known.groups.has(command.groupId)) return { records: [], reply: null };
  if (command.flow === 2) return withGroup(known, command.groupId, true, context, nowMs);
  const message = `group ${JSON.stringify(command.groupId)} is not part of an open transaction: add it before its offsets`;
  return refused(refuse('INVALID_TXN_STATE', message));
}

function withPartitions(
  state: TransactionState,
  added: readonly PartitionKey[],
  epochPerTransaction: boolean,
  { limits }: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  const partitions = new Set(state.partitions);
  for (const partition of added) partitions.add(partition);
  if (partitions.size > limits.maxPartitions) return refused(tooLarge(state, `${limits.maxPartitions} partitions`));
  if (partitions.size === state.partitions.size) return { records: [], reply: null };
  return begun(state, { partitions, epochPerTransaction }, nowMs);
}

function withGroup(
  state: TransactionState,
  groupId: string,
  epochPerTransaction: boolean,
  { limits }: TransactionContext,
  nowMs: number,
): TransactionDecision<null> {
  if (state.groups.has(groupId)) return { records: [], reply: null };
  if (state.groups.size >= limits.maxGroups) return refused(tooLarge(state, `${limits.maxGroups} groups`));
  return begun(state, { groups: new Set([...state.groups, groupId]), epochPerTransaction }, nowMs);
}

/** The first thing that takes part begins the transaction, and its time. */
function begun(
  state: TransactionState,
  changes: Pick<TransactionState, 'epochPerTransaction'> & Partial<TransactionState>,
  nowMs: number,
): TransactionDecision<null> {
  const { transactionalId, timeoutMs } = state;
  const isOpen = state.status === 'ongoing';
  const startedAtMs = isOpen ? state.startedAtMs : nowMs;
  const value: TransactionState = { ...state, ...changes, status: 'ongoing', startedAtMs, updatedAtMs: nowMs };
  const records = [{ transactionalId, value }];
  return isOpen ? { records, reply: null } : { records, reply: null, timeoutMs };
}

function tooLarge({ transactionalId }: TransactionState, limit: string): Refusal {
  const message = `the transaction of ${showId(transactionalId)} has ${limit}, which is the limit: abort it, and do less at a time`;
  return refuse('TRANSACTION_TOO_LARGE', message);
}
