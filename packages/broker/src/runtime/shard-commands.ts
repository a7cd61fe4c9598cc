/**
 * The table of commands: which part of a shard executes what, and after which cycle its answer goes.
 *
 * Owns no state. A command is executed synchronously up to its answer, unless it has to wait for the log store or for time.
 */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { LogStore } from '../log/log-store.ts';
import type {
  Command,
  DeleteRecordsCommand,
  DeleteRecordsReply,
  DescribeGroupCommand,
  GroupCommandEnvelope,
  GroupOffsetsCommand,
  TopicsCommand,
} from './commands.ts';
import type { ShardParts } from './shard-parts.ts';
import { exhaustedRefusal, storageRefusal } from './storage-refusals.ts';

export class ShardCommands {
  readonly #parts: ShardParts;
  readonly #store: LogStore;
  readonly #applyTopics: (command: TopicsCommand) => Promise<void>;

  constructor(parts: ShardParts, store: LogStore, applyTopics: (command: TopicsCommand) => Promise<void>) {
    this.#parts = parts;
    this.#store = store;
    this.#applyTopics = applyTopics;
  }

  execute(command: Command, resolve: (reply: unknown) => void, reject: (error: unknown) => void): void {
    const { commits, partitions, groups, gates, events, held, queues, schemas, transactions } = this.#parts;
    const afterCycle = (value: unknown, cycle: number): void => {
      commits.after(cycle, (error) => (error === null ? resolve(value) : reject(error)));
    };
    switch (command.type) {
      case 'append': {
        const refusal = this.#appendRefusal(command.partition);
        return refusal === null ? partitions.append(command, afterCycle) : resolve(refusal);
      }
      case 'fetch':
        return partitions.fetch(command, resolve, reject);
      case 'cancel-fetch':
        partitions.cancelFetch(command.fetchId);
        return resolve(null);
      case 'find-offset':
        partitions.findOffset(command).then(resolve, reject);
        return undefined;
      case 'epoch-end':
        return resolve(partitions.epochEnd(command));
      case 'describe-partitions':
        return resolve(partitions.describe(command.partitions));
      case 'delete-records':
        this.#deleteRecords(command).then(resolve, reject);
        return undefined;
      case 'topics':
        this.#applyTopics(command).then(() => resolve(null), reject);
        return undefined;
      case 'group':
        return commits.failure === null ? this.#ofMachine(command, afterCycle) : reject(commits.failure);
      case 'transaction':
      case 'commit-in-transaction':
      case 'end-transaction':
      case 'list-transactions':
      case 'describe-transaction':
      case 'describe-producers':
        return commits.failure === null ? transactions.execute(command, afterCycle) : reject(commits.failure);
      case 'watch-member':
        return groups.watch(command, resolve);
      case 'cancel-watch':
        groups.cancelWatch(command.watchId);
        return resolve(null);
      case 'watch-gate':
      case 'cancel-gate-watch':
      case 'describe-gates':
        return gates.execute(command, afterCycle);
      case 'trace-event':
      case 'wait-event':
      case 'cancel-event-wait':
        return events.execute(command, afterCycle);
      case 'watch-held':
      case 'cancel-held-watch':
      case 'blocked-keys':
      case 'list-dead-letters':
      case 'own-log':
        return held.execute(command, afterCycle);
      case 'open-queues':
      case 'acquire-records':
      case 'cancel-acquire':
      case 'settle-records':
        return queues.execute(command, resolve, reject);
      case 'schemas':
        return schemas.execute(command, afterCycle);
      case 'group-offsets':
      case 'describe-group':
        return afterCycle(this.#ofGroup(command), groups.cycleOf(command.groupId));
      case 'list-groups':
        return afterCycle(groups.list(), commits.newest);
    }
  }

  #ofMachine({ command }: GroupCommandEnvelope, reply: (value: unknown, cycle: number) => void): void {
    const refusal = exhaustedRefusal(command, this.#store.capacity());
    if (refusal !== null) return reply(refusal, 0);
    this.#parts.groups.execute(command, reply);
  }

  #deleteRecords(command: DeleteRecordsCommand): Promise<DeleteRecordsReply | Refusal> {
    const { commits, topics, partitions } = this.#parts;
    const refusal = commits.failure?.toRefusal() ?? topics.ownedRefusal(command.partition);
    return refusal === null ? partitions.deleteRecords(command) : Promise.resolve(refusal);
  }

  #ofGroup(command: GroupOffsetsCommand | DescribeGroupCommand): unknown {
    const { groups } = this.#parts;
    if (command.type === 'describe-group') return groups.describe(command.groupId);
    return groups.offsets(command.groupId, command.partitions);
  }

  #appendRefusal(partition: PartitionKey): Refusal | null {
    const { commits, topics } = this.#parts;
    const failed = storageRefusal(commits.failure, this.#store.capacity());
    return failed ?? topics.ownedRefusal(partition);
  }
}
