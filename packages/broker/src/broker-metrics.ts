/** What /metrics shows: the table of a broker's own counters and gauges. */
import { MetricsPage } from './doors/http/metrics-page.ts';
import type { PublisherDoor } from './doors/grpc/publisher-door.ts';
import type { SubscriberDoor } from './doors/grpc/subscriber-door.ts';
import type { KafkaDoor } from './doors/kafka/kafka-door.ts';
import type { Listener } from './doors/listener.ts';
import type { LogStore } from './log/log-store.ts';
import type { Shard } from './runtime/shard.ts';
import type { ByteBudget } from './service/byte-budget.ts';

const counter = (name: string, help: string, read: () => number) => ({ name, help, kind: 'counter', read }) as const;
const gauge = (name: string, help: string, read: () => number) => ({ name, help, kind: 'gauge', read }) as const;

export interface MeteredDoors {
  readonly publisher: PublisherDoor;
  readonly subscriber: SubscriberDoor;
  readonly kafka: KafkaDoor;
  /** Batches that are taken and not durable, of all doors. */
  readonly publishing: ByteBudget;
}

export function metricsPage(store: LogStore, shard: Shard, listener: Listener, doors: MeteredDoors): MetricsPage {
  return new MetricsPage([...ofLog(store), ...ofShard(shard), ...ofTransactions(shard), ...ofDoors(listener, doors)]);
}

function ofLog(store: LogStore) {
  return [
    counter('log_appends_total', 'Appends to the log, each of any number of batches.', () => store.metrics().appends),
    counter('log_appended_bytes_total', 'Bytes of batches appended.', () => store.metrics().appendedBytes),
    counter('log_commit_cycles_total', 'Writes that made appends durable.', () => store.metrics().commitCycles),
    counter('log_commit_seconds_total', 'Time spent in those writes.', () => store.metrics().commitMs / 1_000),
    counter('log_checkpoints_total', 'Checkpoints written.', () => store.metrics().checkpoints),
    gauge(
      'log_unwritten_bytes',
      'Bytes acknowledged and not yet in their segments.',
      () => store.metrics().unwrittenBytes,
    ),
    gauge('log_cache_bytes', 'Bytes of recent batches in memory.', () => store.metrics().cacheBytes),
    counter('log_cache_hits_total', 'Reads answered from memory.', () => store.metrics().cacheHits),
    counter('log_cache_misses_total', 'Reads answered from disk.', () => store.metrics().cacheMisses),
  ];
}

function ofTransactions(shard: Shard) {
  const metrics = () => shard.status().transactions;
  return [
    gauge('transactional_ids', 'Transactional ids that are remembered.', () => metrics().ids),
    gauge('transactions_open', 'Transactions that are open.', () => metrics().open),
    counter('transactions_committed_total', 'Transactions committed.', () => metrics().committed),
    counter('transactions_aborted_total', 'Transactions aborted, for whatever reason.', () => metrics().aborted),
    counter(
      'transactions_timed_out_total',
      'Of these, those that took longer than their time.',
      () => metrics().timedOut,
    ),
  ];
}

function ofShard(shard: Shard) {
  return [
    gauge('shard_queued_commands', 'Commands waiting in the shard.', () => shard.status().queuedCommands),
    gauge(
      'shard_committing_bytes',
      'Bytes of batches on their way to being durable.',
      () => shard.status().committingBytes,
    ),
    gauge('partitions', 'Partitions.', () => shard.status().partitions),
    gauge('groups', 'Consumer groups.', () => shard.status().groups),
    counter(
      'retention_deletions_total',
      'Times that retention moved a log start.',
      () => shard.status().retention.deletions,
    ),
    counter('retention_failures_total', 'Times that it failed.', () => shard.status().retention.failures),
    counter('compaction_passes_total', 'Partitions compacted.', () => shard.status().compaction.passes),
    counter('compaction_failures_total', 'Compactions that failed.', () => shard.status().compaction.failures),
    counter(
      'compaction_read_bytes_total',
      'Bytes that compactions looked at.',
      () => shard.status().compaction.bytesBefore,
    ),
    counter('compaction_kept_bytes_total', 'What they left of them.', () => shard.status().compaction.bytesAfter),
    gauge(
      'compaction_skipped_partitions',
      'Partitions that are not compacted because something in them cannot be read.',
      () => shard.status().compaction.skippedPartitions,
    ),
    gauge('waiting_fetches', 'Long polls that wait for records.', () => shard.status().waitingFetches),
  ];
}

function ofDoors(listener: Listener, { publisher, subscriber, kafka, publishing }: MeteredDoors) {
  return [
    gauge(
      'publish_in_flight_bytes',
      'Bytes of batches taken from publishers and not durable.',
      () => publishing.usedBytes,
    ),
    gauge('publish_streams', 'Publish streams that are open.', () => publisher.openStreams),
    gauge('subscribe_streams', 'Subscriptions that are open.', () => subscriber.openStreams),
    gauge(
      'subscribe_held_bytes',
      'Bytes of records read for subscribers and not taken by them.',
      () => subscriber.heldBytes,
    ),
    gauge('kafka_connections', 'Open connections that speak Kafka.', () => kafka.connections),
    counter(
      'kafka_connections_refused_total',
      'Connections closed for what their Kafka clients did.',
      () => kafka.refused,
    ),
    counter('kafka_requests_total', 'Requests of Kafka clients.', () => kafka.requests),
    gauge(
      'kafka_arriving_bytes',
      'Memory of large requests of Kafka clients that are arriving.',
      () => kafka.arrivingBytes,
    ),
    gauge('kafka_unsent_bytes', 'Bytes of answers to Kafka clients that they have not taken.', () => kafka.unsentBytes),
    gauge('connections', 'Open connections.', () => listener.connections),
    counter('connections_accepted_total', 'Connections accepted.', () => listener.accepted),
    counter(
      'connections_refused_total',
      'Connections refused: too many, or no known protocol.',
      () => listener.refused,
    ),
  ];
}
