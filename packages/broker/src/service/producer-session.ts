/**
 * One publishing stream: takes encoded batches, pipelined, and answers each when it is durable.
 *
 * Invariants: batches of one partition are stored in the order in which they came; bytes that are taken but not
 * answered stay below {@link MAX_IN_FLIGHT_BYTES} for a stream, and below the budget for all streams, plus one batch
 * each, since the door takes nothing more until {@link ready}.
 */
import { partitionKey, topicIdFromBytes, type PartitionKey, type TopicId } from '@naru/base';
import { NaruError, refuse, type Refusal } from '@naru/protocol';
import type { TransactionRef } from '../core/transaction/commands.ts';
import type { ProducerIdentity } from '../core/transaction/transaction-state.ts';
import { ByteBudget } from './byte-budget.ts';
import { isRefusal, type AppendReply, type ShardClient } from '../runtime/commands.ts';

/** What a commit counts for among the bytes in flight. */
const COMMIT_BYTES = 1024;

/** Of one stream. */
export const MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024;

/** Of all doors; below what the shard's queue takes, so that publishers wait where they would be refused. */
export const MAX_TOTAL_IN_FLIGHT_BYTES = 48 * 1024 * 1024;

export interface BatchOutcome {
  readonly correlationId: number;
  readonly baseOffset: number;
  readonly refusal: Refusal | null;
  /** Of a commit: what the next transaction uses. */
  readonly next?: TransactionRef | undefined;
}

export class ProducerSession {
  readonly #shard: ShardClient;
  readonly #total: ByteBudget;
  readonly #own = new ByteBudget(MAX_IN_FLIGHT_BYTES);
  readonly #answer: (outcome: BatchOutcome) => void;
  /** Of the last batch: most streams are of one topic, whose text is made once. */
  #topicBytes: Uint8Array = new Uint8Array(16);
  #topicId: TopicId = topicIdFromBytes(this.#topicBytes);
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
    const command = { type: 'append', partition: this.#keyOf(topicId, partition), batch } as const;
    this.#follow(batch.length, this.#shard.submit(command), (reply: AppendReply | Refusal) =>
      isRefusal(reply)
        ? { correlationId, baseOffset: -1, refusal: reply }
        : { correlationId, baseOffset: reply.baseOffset, refusal: null },
    );
  }

  /** Ends a transaction behind the batches that were taken before. As for {@link take}. */
  commit(
    correlationId: number,
    { transactionalId }: TransactionRef,
    end: () => Promise<ProducerIdentity | Refusal>,
  ): void {
    this.#follow(COMMIT_BYTES, end(), (reply) =>
      isRefusal(reply)
        ? { correlationId, baseOffset: -1, refusal: reply }
        : { correlationId, baseOffset: -1, refusal: null, next: { transactionalId, ...reply } },
    );
  }

  #keyOf(topicId: Uint8Array, partition: number): PartitionKey {
    if (!isSame(topicId, this.#topicBytes)) {
      this.#topicBytes = topicId.slice();
      this.#topicId = topicIdFromBytes(topicId);
    }
    return partitionKey(this.#topicId, partition);
  }

  #follow<T>(bytes: number, work: Promise<T | Refusal>, outcome: (reply: T | Refusal) => BatchOutcome): void {
    this.#own.take(bytes);
    this.#total.take(bytes);
    this.#inFlight += 1;
    const done = (reply: T | Refusal): void => {
      this.#own.release(bytes);
      this.#total.release(bytes);
      this.#inFlight -= 1;
      this.#answer(outcome(reply));
    };
    work.then(done, (error: unknown) =>
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

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return a.length === b.length;
}
