/**
 * The door into the transaction machine: one command, one decision.
 *
 * Pure: nothing here changes the state; the caller gives the records to evolveTransactions and to the journal, together with what
 * the decision's `end` says of partitions and groups, in one atomic append.
 *
 * What protects a transaction from what comes late: every init, time-out and abort gives the id a new epoch, every end of the second
 * flow too, and markers carry it to the partitions. The first flow keeps its epoch over transactions, so that a delayed end of one
 * can end a later one of the same epoch: that is Kafka's, and what KIP-890 is for.
 */
import { unreachable } from '@naru/base';
import type { TransactionCommand, TransactionContext, TransactionDecision, TransactionReplies } from './commands.ts';
import { decideAbort, decideEnd } from './decide-end.ts';
import { decideExpire, decideInit } from './decide-init.ts';
import { decideAddGroup, decideAddPartitions, decideAdmit, decideAdmitGroup } from './decide-writing.ts';
import type { TransactionState } from './transaction-state.ts';

/**
 * @param state of the command's id; undefined when there is no such id
 * @param nowMs wall clock, for the times in records
 */
export function decideTransaction<C extends TransactionCommand>(
  state: TransactionState | undefined,
  command: C,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<TransactionReplies[C['type']]> {
  // The switch relates each command type to its reply, which the compiler cannot see through a type parameter.
  return decideAny(state, command, context, nowMs) as TransactionDecision<TransactionReplies[C['type']]>;
}

function decideAny(
  state: TransactionState | undefined,
  command: TransactionCommand,
  context: TransactionContext,
  nowMs: number,
): TransactionDecision<TransactionReplies[TransactionCommand['type']]> {
  switch (command.type) {
    case 'init':
      return decideInit(state, command, context, nowMs);
    case 'add-partitions':
      return decideAddPartitions(state, command, context, nowMs);
    case 'add-group':
      return decideAddGroup(state, command, context, nowMs);
    case 'admit':
      return decideAdmit(state, command, context, nowMs);
    case 'admit-group':
      return decideAdmitGroup(state, command, context, nowMs);
    case 'end':
      return decideEnd(state, command, nowMs);
    case 'abort':
      return decideAbort(state, command, nowMs);
    case 'expire':
      return decideExpire(state, command, context, nowMs);
    default:
      return unreachable(command, 'transaction command');
  }
}
