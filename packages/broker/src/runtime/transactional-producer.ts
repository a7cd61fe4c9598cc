/** A transactional producer on a table, for tests: one identity, its sequences, and the requests that it makes of a shard. */
import type { PartitionKey } from '@naru/base';
import type { CommitCommand, OffsetCommit } from '../core/group/index.ts';
import type { ProducerIdentity, TransactionFlow, TransactionRef } from '../core/transaction/index.ts';
import type { AppendReply, Command } from './commands.ts';
import { keyOf, textBatch, textsOf, type ShardScenario } from './shard-scenario.ts';
import type { CommitInTransactionCommand, EndTransactionReply } from './transaction-commands.ts';

/** What is asked. */
export type Asked = Pick<ShardScenario, 'ask'>;

export class TransactionalProducer {
  readonly transactionalId: string;
  readonly flow: TransactionFlow;
  identity: ProducerIdentity = { producerId: -1, producerEpoch: -1 };
  readonly #sequences = new Map<number, number>();

  constructor(transactionalId: string, flow: TransactionFlow = 2) {
    this.transactionalId = transactionalId;
    this.flow = flow;
  }

  get ref(): TransactionRef {
    return { transactionalId: this.transactionalId, ...this.identity };
  }

  async init(
    shard: Asked,
    freshProducerId: number,
    { timeoutMs = 0, expected = null }: { timeoutMs?: number; expected?: ProducerIdentity | null } = {},
  ): Promise<ProducerIdentity> {
    const { transactionalId } = this;
    const command = { type: 'init', transactionalId, timeoutMs, expected, freshProducerId } as const;
    return this.goOn(await shard.ask({ type: 'transaction', command }));
  }

  /** Sequences begin again with every epoch. */
  goOn(identity: ProducerIdentity): ProducerIdentity {
    if (identity.producerEpoch !== this.identity.producerEpoch) this.#sequences.clear();
    this.identity = identity;
    return identity;
  }

  /** The next batch to the partition of orders. */
  batch(partition: number, values: readonly string[]): Command & { readonly type: 'append' } {
    const baseSequence = this.#sequences.get(partition) ?? 0;
    this.#sequences.set(partition, baseSequence + values.length);
    const batch = textBatch(values, { ...this.identity, baseSequence, isTransactional: true });
    return { type: 'append', partition: keyOf(partition), batch, flow: this.flow };
  }

  write(shard: Asked, partition: number, ...values: string[]): Promise<AppendReply> {
    return shard.ask(this.batch(partition, values));
  }

  add(shard: Asked, ...partitions: number[]): Promise<null> {
    const command = { ...this.ref, type: 'add-partitions', partitions: partitions.map((at) => keyOf(at)) } as const;
    return shard.ask({ type: 'transaction', command });
  }

  async end(
    shard: Asked,
    commit: boolean,
    groupCommit: CommitCommand | null = null,
    freshProducerId = 9_999,
  ): Promise<EndTransactionReply> {
    const { ref: transaction, flow } = this;
    const reply = await shard.ask({ type: 'end-transaction', transaction, flow, commit, freshProducerId, groupCommit });
    if (reply.next !== null) this.goOn(reply.next);
    return reply;
  }

  /** Keeps an offset of the group for the end. */
  keep(
    shard: Asked,
    groupId: string,
    offsets: readonly (readonly [partition: number, offset: number])[],
    member: Partial<CommitInTransactionCommand> = {},
  ) {
    const command = { memberId: '', memberEpoch: -1, instanceId: null, ...member };
    const { ref: transaction, flow } = this;
    return shard.ask({
      type: 'commit-in-transaction',
      transaction,
      flow,
      groupId,
      offsets: offsets.map(([partition, offset]) => offsetCommit(partition, offset)),
      ...command,
    });
  }
}

export function offsetCommit(partition: number, offset: number): OffsetCommit {
  return { partition: keyOf(partition), offset, finished: null, metadata: '', leaderEpoch: -1, endOffset: null };
}

/** What readers of committed events see of the partition, as `offset:value`. */
export async function committed(shard: ShardScenario, partition: number): Promise<string[]> {
  return (await committedFrom(shard, partition, 0)).found;
}

/** The same from an offset on, and where to go on reading. */
export async function committedFrom(
  shard: ShardScenario,
  partition: number,
  from: number,
): Promise<{ readonly found: string[]; readonly nextOffset: number }> {
  const found: string[] = [];
  for (let offset = from; ;) {
    const wanted = { partition: keyOf(partition), offset, maxBytes: 1_000_000 };
    const { partitions } = await shard.fetch({}, { partitions: [wanted], view: 'committed' });
    const read = partitions[0];
    if (read === undefined || read.nextOffset === offset) return { found, nextOffset: offset };
    found.push(...textsOf(read.batches));
    offset = read.nextOffset;
  }
}

/** Of the group, by partition of orders: what is committed, `?` where a transaction may change it. */
export async function offsetsOf(shard: ShardScenario, groupId: string): Promise<Record<number, number | string>> {
  const partitions: PartitionKey[] = [keyOf(0), keyOf(1), keyOf(2)];
  const found = await shard.ask({ type: 'group-offsets', groupId, partitions });
  return Object.fromEntries(
    found.flatMap(({ committed: offset, isUnstable }, partition) => {
      if (offset === null && !isUnstable) return [];
      return [[partition, isUnstable ? `${offset?.offset ?? ''}?` : (offset?.offset ?? 0)]];
    }),
  );
}
