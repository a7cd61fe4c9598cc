/**
 * Bugs that could be in transactions or in what they stand on, planted around a shard, for tests of the tests: each must be noticed.
 */
import { readBatchHeader } from '@naru/protocol/batch';
import type { AppendEntry, LogStore, RecoveryVisitor } from '../log/log-store.ts';
import { isRefusal, type Command, type ShardClient } from './commands.ts';
import { decodeCoreSnapshot, encodeCoreSnapshot } from './core-snapshot.ts';
import { TRANSACTION_LOG } from './shard-scenario.ts';

export type PlantedTransactionBug =
  /** An end is several appends: a crash leaves a part of it. */
  | 'end-in-parts'
  /** What a transaction writes is stored before it is known that the partition takes part. */
  | 'begin-after-data'
  /** Ends are answered, and their events shown, before they are durable. */
  | 'end-before-durable'
  /** An end is taken for the open transaction, whatever epoch it names. */
  | 'late-end-taken'
  /** What producers have sent is forgotten at a restart. */
  | 'sequences-lost';

/** The store of a shard with the bug. */
export function plantedStore(bug: PlantedTransactionBug | null, store: LogStore): LogStore {
  switch (bug) {
    case 'end-in-parts':
      return splitting(store, (entries) => (holdsEnd(entries) ? entries.map((entry) => [entry]) : [entries]));
    case 'begin-after-data': {
      const isBegin = ({ partition }: AppendEntry): boolean => partition.startsWith(TRANSACTION_LOG.id);
      return splitting(store, (entries) => [entries.filter((entry) => !isBegin(entry)), entries.filter(isBegin)]);
    }
    case 'end-before-durable':
      return withAppend(store, (entries) => {
        const done = store.append(entries);
        done.catch(() => {});
        return holdsEnd(entries) ? Promise.resolve() : done;
      });
    case 'sequences-lost':
      return forgetting(store);
    case 'late-end-taken':
    case null:
      return store;
  }
}

/** What the shard is spoken to through. */
export function plantedClient(bug: PlantedTransactionBug | null, shard: ShardClient): ShardClient {
  if (bug !== 'late-end-taken') return shard;
  const client = {
    submit: async (command: Command): Promise<unknown> => {
      if (command.type !== 'end-transaction') return shard.submit(command);
      const { transactionalId } = command.transaction;
      const known = await shard.submit({ type: 'describe-transaction', transactionalId });
      if (isRefusal(known)) return shard.submit(command);
      const { producerId, producerEpoch } = known;
      return shard.submit({ ...command, transaction: { transactionalId, producerId, producerEpoch } });
    },
  };
  return client as ShardClient;
}

function holdsEnd(entries: readonly AppendEntry[]): boolean {
  return entries.some(({ records }) => readBatchHeader(records).isControl);
}

/** Appends in parts, each when the one before is durable; everything else that is written keeps its place among them. */
function splitting(
  store: LogStore,
  split: (entries: readonly AppendEntry[]) => readonly (readonly AppendEntry[])[],
): LogStore {
  let last: Promise<unknown> = Promise.resolve();
  const inOrder = <T>(write: () => Promise<T>): Promise<T> => {
    const done = last.then(write);
    last = done.catch(() => {});
    return done;
  };
  return changed(store, {
    append: (entries) =>
      inOrder(async () => {
        for (const part of split(entries)) if (part.length > 0) await store.append(part);
      }),
    create: (...of) => inOrder(() => store.create(...of)),
    delete: (...of) => inOrder(() => store.delete(...of)),
    deleteBefore: (...of) => inOrder(() => store.deleteBefore(...of)),
    checkpoint: (...of) => inOrder(() => store.checkpoint(...of)),
    close: (...of) => inOrder(() => store.close(...of)),
  });
}

function withAppend(store: LogStore, append: LogStore['append']): LogStore {
  return changed(store, { append });
}

function changed(store: LogStore, own: Partial<LogStore>): LogStore {
  return new Proxy(store, {
    get: (target, name: keyof LogStore) => {
      if (name in own) return own[name];
      const value: unknown = target[name];
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

/** Recovery does not say what producers sent. */
function forgetting(store: LogStore): LogStore {
  return changed(store, {
    recover: (visitor) =>
      store.recover({
        ...through(visitor),
        snapshot: (snapshot) => {
          if (snapshot === null) return visitor.snapshot(null);
          const { partitions, groupRecords, schemaRecords, transactionRecords } = decodeCoreSnapshot(snapshot);
          for (const { producers } of partitions) producers.clear();
          visitor.snapshot(encodeCoreSnapshot(partitions, groupRecords, schemaRecords, transactionRecords));
        },
        batch: (partition, batch) => {
          const { isControl, isTransactional } = readBatchHeader(batch.records);
          const isPlain = isControl || !isTransactional;
          visitor.batch(partition, isPlain ? batch : { ...batch, records: resequenced(batch.records) });
        },
      }),
  });
}

function through(visitor: RecoveryVisitor): RecoveryVisitor {
  return {
    snapshot: (snapshot) => visitor.snapshot(snapshot),
    partition: (info) => visitor.partition(info),
    created: (partition, logStartOffset) => visitor.created(partition, logStartOffset),
    batch: (partition, batch) => visitor.batch(partition, batch),
    truncated: (partition, endOffset) => visitor.truncated(partition, endOffset),
    deletedBefore: (partition, offset) => visitor.deletedBefore(partition, offset),
    deleted: (partition) => visitor.deleted(partition),
  };
}

const BASE_SEQUENCE_AT = 53;

/** With sequences that nobody sends. */
function resequenced(records: Uint8Array): Uint8Array {
  const copy = new Uint8Array(records);
  copy[BASE_SEQUENCE_AT] = 0x40;
  return copy;
}
