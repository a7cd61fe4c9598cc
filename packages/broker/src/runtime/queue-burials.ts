/**
 * Makes dead letters of records whose lock ended once too often: reads the whole event and brings it to the group machine.
 *
 * Owns no state: what is dying says so itself (core/queue) and stays so through a restart. A few events at a time for each
 * partition; what cannot be done now, because the group's held events are at their limit or the log cannot be read, is
 * tried again.
 */
import type { Logger, PartitionKey, TimerHandle, Timers } from '@naru/base';
import { isNaruError, type Refusal } from '@naru/protocol';
import { dyingOffsets } from '../core/group/decide-settle.ts';
import type { QueueBuryReply } from '../core/queue/queue-commands.ts';
import type { GroupCoordinator } from './group-coordinator.ts';
import { isRefusal } from './commands.ts';
import type { QueueRecords } from './queue-records.ts';

const RECORDS_AT_A_TIME = 64;
const BYTES_AT_A_TIME = 2 * 1024 * 1024;
const RETRY_MS = 5_000;

export interface QueueBurialsOptions {
  readonly groups: GroupCoordinator;
  readonly records: QueueRecords;
  readonly timers: Timers;
  readonly logger: Logger;
  /** Sends what was decided to the store. */
  readonly flush: () => void;
  readonly onBug: (error: unknown) => void;
}

export class QueueBurials {
  readonly #options: QueueBurialsOptions;
  readonly #running = new Set<string>();
  readonly #retries = new Map<string, TimerHandle>();
  #stopped = false;

  constructor(options: QueueBurialsOptions) {
    this.#options = options;
  }

  /** Something of this partition may be dying. */
  look(groupId: string, partition: PartitionKey): void {
    const name = `${groupId}\n${partition}`;
    if (this.#stopped || this.#running.has(name) || this.#retries.has(name)) return;
    if (this.#dying(groupId, partition).length === 0) return;
    this.#running.add(name);
    this.#bury(groupId, partition)
      .catch((error: unknown) => {
        if (!isNaruError(error)) {
          this.#options.onBug(error);
          return;
        }
        this.#options.logger.warn(
          { error, groupId, partition },
          'events could not be made dead letters; it is tried again',
        );
        this.#retryLater(name, groupId, partition);
      })
      .finally(() => this.#running.delete(name));
  }

  stop(): void {
    this.#stopped = true;
    for (const timer of this.#retries.values()) timer.cancel();
    this.#retries.clear();
  }

  #dying(groupId: string, partition: PartitionKey): number[] {
    const queue = this.#options.groups.state(groupId)?.queues.get(partition);
    return queue === undefined ? [] : dyingOffsets(queue, RECORDS_AT_A_TIME);
  }

  async #bury(groupId: string, partition: PartitionKey): Promise<void> {
    for (let offsets = this.#dying(groupId, partition); offsets.length > 0; offsets = this.#dying(groupId, partition)) {
      const copies = await this.#options.records.copies(partition, offsets, BYTES_AT_A_TIME);
      if (this.#stopped) return;
      let reply: QueueBuryReply | Refusal | null = null;
      this.#options.groups.execute({ type: 'queue-bury', groupId, partition, copies }, (answer) => {
        reply = answer;
      });
      this.#options.flush();
      const refusal = refusalOf(reply);
      if (refusal !== null) {
        this.#retryLater(`${groupId}\n${partition}`, groupId, partition);
        return;
      }
    }
  }

  #retryLater(name: string, groupId: string, partition: PartitionKey): void {
    if (this.#stopped) return;
    const again = (): void => {
      this.#retries.delete(name);
      this.look(groupId, partition);
    };
    this.#retries.set(name, this.#options.timers.after(RETRY_MS, again));
  }
}

function refusalOf(reply: QueueBuryReply | Refusal | null): Refusal | null {
  if (reply === null) return null;
  return isRefusal(reply) ? reply : reply.refusal;
}
