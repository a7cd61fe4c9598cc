/** Waits until groups have processed an event, or one of them has it as a dead letter. */
import { partitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { isProcessed } from '../core/group/event-progress.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { GroupTrace } from './group-trace.ts';
import { checkGroupNames, declaredGroups, placeOf, type TraceService } from './trace.ts';
import type { TopicService } from './topics.ts';

export const MAX_EVENT_WAIT_MS = 5 * 60_000;

export interface WaitAnswer {
  readonly processed: boolean;
  readonly groups: readonly GroupTrace[];
  /** DEAD_LETTERED when a group has it as a dead letter; null otherwise, also when the time is over. */
  readonly refusal: Refusal | null;
}

export interface WaitOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
  readonly traces: TraceService;
}

let nextWaitId = 1;

export class WaitService {
  readonly #options: WaitOptions;

  constructor(options: WaitOptions) {
    this.#options = options;
  }

  /**
   * @param groups empty for every group that is declared for the topic
   * @param signal when it aborts, the wait is answered at once
   */
  async wait(
    requestId: string,
    groups: readonly string[],
    maxWaitMs: number,
    signal: AbortSignal,
  ): Promise<WaitAnswer | Refusal> {
    const { shard, topics, traces } = this.#options;
    const tooMany = checkGroupNames(groups);
    if (tooMany !== null) return tooMany;
    const place = placeOf(requestId, topics);
    if (isRefusal(place)) return place;
    const { topic, partition, offset } = place;
    const wanted = groups.length > 0 ? [...new Set(groups)] : declaredGroups(topic).map(({ name }) => name);
    if (wanted.length === 0) {
      const name = JSON.stringify(topic.name);
      return refuse('INVALID_REQUEST', `no group is declared for topic ${name}: name the groups to wait for`);
    }
    const key = partitionKey(topic.id, partition);
    const missing = await this.#checkStored(key, offset);
    if (missing !== null) return missing;
    const waitId = nextWaitId++;
    const cancel = (): void => {
      // Only a shard that is closing refuses it, and that has answered the wait.
      shard.submit({ type: 'cancel-event-wait', waitId }).catch(() => {});
    };
    const boundMs = Math.min(Math.max(0, maxWaitMs), MAX_EVENT_WAIT_MS);
    const answer = shard.submit({
      type: 'wait-event',
      waitId,
      partition: key,
      offset,
      groups: wanted,
      maxWaitMs: boundMs,
    });
    if (signal.aborted) cancel();
    signal.addEventListener('abort', cancel, { once: true });
    try {
      const progress = await answer;
      if (isRefusal(progress)) return progress;
      const dead = progress.filter(({ state }) => state === 'dead-lettered').map(({ groupId }) => groupId);
      const refusal =
        dead.length === 0 ? null : refuse('DEAD_LETTERED', `the event is a dead letter of ${dead.join(', ')}`);
      return { processed: progress.every(isProcessed), groups: traces.groupTraces(place, progress), refusal };
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /** Nobody waits for what was never stored. */
  async #checkStored(partition: ReturnType<typeof partitionKey>, offset: number): Promise<Refusal | null> {
    const status = await this.#options.shard.submit({ type: 'describe-partitions', partitions: [partition] });
    if (isRefusal(status)) return status;
    const highWatermark = status[0]?.highWatermark ?? 0;
    if (offset < highWatermark) return null;
    return refuse(
      'EVENT_NOT_FOUND',
      `nothing is stored at offset ${offset} yet: the partition ends at ${highWatermark}`,
    );
  }
}
