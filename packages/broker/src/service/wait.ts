/**
 * Waits until groups have processed an event, or one of them has it as a dead letter, or the transaction that it is part of is
 * aborted: then no group ever gets it.
 */
import { partitionKey, type PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { readBatchHeader } from '@naru/protocol/batch';
import { isProcessed } from '../core/group/event-progress.ts';
import type { TransactionOutcome } from '../core/partition/transaction-index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import type { GroupTrace } from './group-trace.ts';
import { checkGroupNames, declaredGroups, placeOf, type TraceService } from './trace.ts';
import { longPoll } from './long-poll.ts';
import { readNow } from './read-now.ts';
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
    const outcome = await this.#outcome(key, offset);
    if (outcome === 'aborted') return abortedRefusal(offset);
    const over = new AbortController();
    const boundMs = Math.min(Math.max(0, maxWaitMs), MAX_EVENT_WAIT_MS);
    const waitId = nextWaitId++;
    const cancel = (): void => {
      // Only a shard that is closing refuses it, and that has answered the wait.
      shard.submit({ type: 'cancel-event-wait', waitId }).catch(() => {});
    };
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
      const abortion = outcome === 'open' ? this.#abortion(key, offset, boundMs, over.signal) : Promise.resolve(null);
      const progress = await Promise.race([answer, abortion.then((refusal) => refusal ?? answer)]);
      if (isRefusal(progress)) {
        cancel();
        return progress;
      }
      // Groups go past what was aborted, too.
      if (outcome === 'open' && (await this.#outcome(key, offset)) === 'aborted') return abortedRefusal(offset);
      const dead = progress.filter(({ state }) => state === 'dead-lettered').map(({ groupId }) => groupId);
      const refusal =
        dead.length === 0 ? null : refuse('DEAD_LETTERED', `the event is a dead letter of ${dead.join(', ')}`);
      return { processed: progress.every(isProcessed), groups: traces.groupTraces(place, progress), refusal };
    } finally {
      signal.removeEventListener('abort', cancel);
      over.abort();
    }
  }

  /** Of an event whose transaction is open: null when it is committed, or when the time is over. */
  async #abortion(
    partition: PartitionKey,
    offset: number,
    maxWaitMs: number,
    signal: AbortSignal,
  ): Promise<Refusal | null> {
    const wanted = { partitions: [{ partition, offset, maxBytes: 1 }], minBytes: 1, maxBytes: 1, maxWaitMs };
    await longPoll(this.#options.shard, { ...wanted, view: 'committed' }, signal);
    return (await this.#outcome(partition, offset)) === 'aborted' ? abortedRefusal(offset) : null;
  }

  /** Null for an event that is part of no transaction, or that is not there any more. */
  async #outcome(partition: PartitionKey, offset: number): Promise<TransactionOutcome | null> {
    const fetched = await readNow(this.#options.shard, partition, offset, 1, { tellsOutcomes: true });
    if (isRefusal(fetched) || fetched.refusal !== null) return null;
    const [batch] = fetched.batches;
    return batch === undefined || readBatchHeader(batch).baseOffset > offset ? null : (fetched.outcomes?.[0] ?? null);
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

function abortedRefusal(offset: number): Refusal {
  return refuse('EVENT_NOT_FOUND', `the transaction of the event at offset ${offset} was aborted: no group gets it`);
}
