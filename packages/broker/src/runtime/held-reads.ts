/** Answers what a shard is asked about held events: keys, waits, dead letters. */
import type { Clock, PartitionKey, Timers } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import {
  listDeadLetters,
  type GroupContext,
  type GroupRecord,
  type GroupState,
  type OwnLog,
} from '../core/group/index.ts';
import type { HeldShardCommand, HeldShardReplies } from './held-commands.ts';
import { HeldWatches } from './held-watches.ts';

export interface HeldReadsOptions {
  readonly groups: {
    state(groupId: string): GroupState | undefined;
    cycleOf(groupId: string): number;
    ownLog(log: OwnLog, groupId: string): PartitionKey;
  };
  readonly topicConfig: NonNullable<GroupContext['topicConfig']>;
  readonly clock: Clock;
  readonly timers: Timers;
}

/** @param cycle after which what is told is durable */
type Reply = (reply: HeldShardReplies[HeldShardCommand['type']] | Refusal, cycle: number) => void;

export class HeldReads {
  readonly #options: HeldReadsOptions;
  readonly #watches: HeldWatches;

  constructor(options: HeldReadsOptions) {
    this.#options = options;
    this.#watches = new HeldWatches(options);
  }

  execute(command: HeldShardCommand, reply: Reply): void {
    const { groups } = this.#options;
    switch (command.type) {
      case 'watch-held':
        return this.#watches.watch(command, reply);
      case 'cancel-held-watch':
        this.#watches.cancel(command.watchId);
        return reply(null, 0);
      case 'blocked-keys': {
        const { groupId, partitions } = command;
        return reply(this.#watches.blockedKeys(groupId, partitions), groups.cycleOf(groupId));
      }
      case 'list-dead-letters': {
        const { groupId } = command;
        return reply(listDeadLetters(groups.state(groupId), command), groups.cycleOf(groupId));
      }
      case 'own-log':
        return reply(groups.ownLog(command.log, command.groupId), 0);
    }
  }

  /** A group has changed, perhaps not durably yet. */
  changed(groupId: string, records: readonly GroupRecord[]): void {
    if (records.some(({ kind }) => kind === 'held')) this.#watches.changed(groupId);
  }

  topicsChanged(): void {
    this.#watches.lookAll();
  }

  stop(): void {
    this.#watches.stop();
  }
}
