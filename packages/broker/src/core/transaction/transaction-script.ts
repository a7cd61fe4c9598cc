/**
 * Transactions as scripts, for tests: a line for each command, and what comes of it.
 *
 * ```
 * write o/0 as 7/0          a batch arrives (flow 2), of producer id 7 and epoch 0
 *   ok; ongoing 7/0, o/0    the answer; what the id is then, with what takes part
 * ```
 */
import { partitionKey, type PartitionKey, type TopicId } from '@naru/base';
import type { TransactionCommand, TransactionContext, TransactionFlow, TransactionLimits } from './commands.ts';
import { DEFAULT_TRANSACTION_LIMITS } from './commands.ts';
import { decideTransaction } from './decide.ts';
import { decodeTransactionRecord, encodeTransactionRecord } from './transaction-record-codec.ts';
import { evolveTransactions, type ProducerIdentity, type TransactionState } from './transaction-state.ts';

const TOPIC = '11111111-1111-4111-8111-111111111111' as TopicId;
const PARTITIONS = 4;
const ID = 'a';

export class TransactionScript {
  readonly states = new Map<string, TransactionState>();
  nowMs = 1_000;
  /** Given out by the next command that needs one. */
  freshProducerId = 7;
  readonly #flow: TransactionFlow;
  readonly #limits: TransactionLimits;

  constructor(flow: TransactionFlow, limits: Partial<TransactionLimits> = {}) {
    this.#flow = flow;
    this.#limits = { ...DEFAULT_TRANSACTION_LIMITS, ...limits };
  }

  /** The script with what really comes of each of its commands. */
  run(script: string): string {
    const told: string[] = [];
    for (const line of script.trim().split('\n')) {
      if (line.startsWith('  ')) continue;
      told.push(line);
      if (line !== '' && !line.startsWith('#')) told.push(`  ${this.decide(this.#parse(line))}`);
    }
    return told.join('\n');
  }

  decide(command: TransactionCommand): string {
    const partitions = Array.from({ length: PARTITIONS }, (_, index) => partitionKey(TOPIC, index));
    const context: TransactionContext = {
      partitionExists: (partition) => partitions.includes(partition),
      idCount: this.states.size,
      limits: this.#limits,
    };
    const before = this.states.get(command.transactionalId);
    const { records, end, reply, timeoutMs } = decideTransaction(before, command, context, this.nowMs);
    // As recovery finds them.
    for (const record of records) {
      const { key, value } = encodeTransactionRecord(record);
      evolveTransactions(this.states, decodeTransactionRecord(key, value));
    }
    const said = [replyText(reply)];
    if (end !== undefined) {
      const { commit, producerId, markerEpoch } = end;
      const places = [...end.partitions.map(nameOf), ...end.groups].join(' ');
      said.push(`${commit ? 'commits' : 'aborts'} ${places} with ${producerId}/${markerEpoch}`);
    }
    if (timeoutMs !== undefined) said.push(timeoutMs === null ? 'no timer' : `timer ${timeoutMs}`);
    if (records.length > 0) said.push(stateText(this.states.get(command.transactionalId)));
    return said.join('; ');
  }

  #parse(line: string): TransactionCommand {
    const [text, as] = line.split(' as ');
    const words = (text as string).split(' ');
    const [verb, ...rest] = words;
    const flow = this.#flow;
    const identity = as === undefined ? { producerId: -1, producerEpoch: -1 } : identityIn(as);
    const ref = { transactionalId: ID, ...identity };
    const { freshProducerId } = this;
    switch (verb) {
      case 'init':
        return {
          type: 'init',
          transactionalId: ID,
          timeoutMs: 0,
          expected: rest[0] === 'expecting' ? identityIn(rest[1] as string) : null,
          freshProducerId,
        };
      case 'add':
        return { ...ref, type: 'add-partitions', partitions: rest.map(partitionOf) };
      case 'add-group':
        return { ...ref, type: 'add-group', groupId: rest[0] as string };
      case 'write':
        return { ...ref, type: 'admit', partition: partitionOf(rest[0] as string), flow };
      case 'keep':
        return { ...ref, type: 'admit-group', groupId: rest[0] as string, flow };
      case 'commit':
      case 'abort':
        return { ...ref, type: 'end', commit: verb === 'commit', flow, freshProducerId };
      case 'time-out':
        return { type: 'abort', transactionalId: ID, reason: 'timed-out' };
      case 'operator-abort':
        return { type: 'abort', transactionalId: ID, reason: 'asked' };
      case 'expire':
        return { type: 'expire', transactionalId: ID };
      default:
        throw new Error(`no such command: ${line}`);
    }
  }
}

function replyText(reply: object | null): string {
  if (reply === null) return 'ok';
  if ('code' in reply) return String(reply.code);
  if ('aborted' in reply) return reply.aborted === true ? 'aborted' : 'nothing was open';
  const { producerId, producerEpoch } = reply as ProducerIdentity;
  return `${producerId}/${producerEpoch}`;
}

function stateText(state: TransactionState | undefined): string {
  if (state === undefined) return 'forgotten';
  const places = [...[...state.partitions].map(nameOf), ...state.groups].join(' ');
  return `${state.status} ${state.producerId}/${state.producerEpoch}${places === '' ? '' : `, ${places}`}`;
}

function identityIn(text: string): ProducerIdentity {
  const [producerId, producerEpoch] = text.split('/').map(Number);
  return { producerId: producerId as number, producerEpoch: producerEpoch as number };
}

function partitionOf(name: string): PartitionKey {
  return partitionKey(TOPIC, Number(name.slice(2)));
}

function nameOf(partition: PartitionKey): string {
  return `o/${partition.split(':')[1]}`;
}
