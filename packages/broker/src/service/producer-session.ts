/**
 * One publishing stream: takes encoded batches, pipelined, and answers each when it is durable.
 *
 * Invariants: batches of one partition are stored in the order in which they came; bytes that are taken but not
 * answered stay below {@link MAX_IN_FLIGHT_BYTES} for a stream, and below the budget for all streams, plus one batch
 * each, since the door takes nothing more until {@link ready}.
 */
import { partitionKey, topicIdFromBytes } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import { ByteBudget } from './byte-budget.ts';
import { isRefusal, type AppendReply, type ShardClient } from '../runtime/commands.ts';

/** Of one stream. */
export const MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024;

/** Of all doors; below what the shard's queue takes, so that publishers wait where they would be refused. */
export const MAX_TOTAL_IN_FLIGHT_BYTES = 48 * 1024 * 1024;

export interface BatchOutcome {
  readonly correlationId: number;
  readonly baseOffset: number;
  readonly refusal: Refusal | null;
}

export class ProducerSession {
  readonly #shard: ShardClient;
  readonly #total: ByteBudget;
  readonly #own = new ByteBudget(MAX_IN_FLIGHT_BYTES);
  readonly #answer: (outcome: BatchOutcome) => void;
  #inFlight = 0;

  /**
   * @param total shared by all sessions
   * @param answer is called once for each batch, as they become durable
   */
  constructor(shard: ShardClient, total: ByteBudget, answer: (outcome: BatchOutcome) => void) {
    this.#shard = shard;
    this.#total = total;
    this.#answer = answer;
  }

  /** Takes a batch, which the session owns from now on. Wait for {@link ready} before the next. */
  take(correlationId: number, topicId: Uint8Array, partition: number, batch: Uint8Array): void {
    if (topicId.length !== 16) {
      const refusal = refuse('INVALID_REQUEST', `a topic id has 16 bytes, not ${topicId.length}`);
      return this.#answer({ correlationId, baseOffset: -1, refusal });
    }
    const bytes = batch.length;
    this.#own.take(bytes);
    this.#total.take(bytes);
    this.#inFlight += 1;
    const done = (reply: AppendReply | Refusal): void => {
      this.#own.release(bytes);
      this.#total.release(bytes);
      this.#inFlight -= 1;
      const refusal = isRefusal(reply) ? reply : null;
      this.#answer({ correlationId, baseOffset: isRefusal(reply) ? -1 : reply.baseOffset, refusal });
    };
    this.#shard
      .submit({ type: 'append', partition: partitionKey(topicIdFromBytes(topicId), partition), batch })
      .then(done, (error: unknown) =>
        done(error instanceof NaruError ? error.toRefusal() : refuse('INTERNAL', 'the broker failed; see its log')),
      );
  }

  /** Null when the next batch may come now; else resolves when to look again. */
  ready(): Promise<void> | null {
    return this.#own.room() ?? this.#total.room();
  }

  /** Batches that are not answered yet. */
  get inFlight(): number {
    return this.#inFlight;
  }
}
