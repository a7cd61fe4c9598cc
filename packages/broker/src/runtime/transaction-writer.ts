/** A transactional producer on a shard, for tests: one transactional id and one partition at a time. */
import type { PartitionKey } from '@naru/base';
import { encodeBatch } from '@naru/protocol/batch';
import type { ProducerIdentity } from '../core/transaction/transaction-state.ts';
import type { AppendReply } from './commands.ts';
import type { ShardScenario } from './shard-scenario.ts';

const TEXT = new TextEncoder();

export class TransactionWriter {
  readonly #shard: ShardScenario;
  readonly #transactionalId: string;
  #identity: ProducerIdentity;
  #sequence = 0;

  private constructor(shard: ShardScenario, transactionalId: string, identity: ProducerIdentity) {
    this.#shard = shard;
    this.#transactionalId = transactionalId;
    this.#identity = identity;
  }

  /** @param producerId that nobody has */
  static async init(shard: ShardScenario, transactionalId: string, producerId: number): Promise<TransactionWriter> {
    const init = { type: 'init', transactionalId, timeoutMs: 0, expected: null, freshProducerId: producerId } as const;
    return new TransactionWriter(shard, transactionalId, await shard.ask({ type: 'transaction', command: init }));
  }

  /** One batch with an event for each key. To one partition: the sequence counts for all. */
  async write(partition: PartitionKey, keys: readonly string[]): Promise<AppendReply> {
    const batch = encodeBatch(
      keys.map((key) => ({ key: TEXT.encode(key), value: TEXT.encode('x'), timestampMs: 1 })),
      { ...this.#identity, baseSequence: this.#sequence, isTransactional: true },
    );
    const reply = await this.#shard.ask({ type: 'append', partition, batch });
    this.#sequence += keys.length;
    return reply;
  }

  async end(commit: boolean): Promise<void> {
    const transaction = { transactionalId: this.#transactionalId, ...this.#identity };
    const rest = { flow: 2, commit, freshProducerId: 9_000, groupCommit: null } as const;
    const { next } = await this.#shard.ask({ type: 'end-transaction', transaction, ...rest });
    if (next === null) throw new Error('the transaction was not ended');
    this.#identity = next;
    this.#sequence = 0;
  }
}
