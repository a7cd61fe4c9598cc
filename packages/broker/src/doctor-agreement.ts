/** What the parts of a data directory must agree on: metadata, log, and the core's state in a checkpoint. */
import type { PartitionKey } from '@naru/base';
import { isTopicId, partitionKey, splitPartitionKey } from '@naru/base';
import { TOPIC_KEY_PREFIX, type TopicMetadata } from './core/registry/topic-registry.ts';
import type { VerifyContext } from './log/verify-context.ts';
import { finding } from './log/finding.ts';
import type { Snapshot } from './log/log-store.ts';
import type { VerifiedMetadata } from './metadata/verify-metadata.ts';
import { decodeCoreSnapshot, SNAPSHOT_VERSION } from './runtime/core-snapshot.ts';

/** A log as it was verified. */
export interface LogAtRest {
  /** Sequence of the checkpoint that a broker would start from; null without one that can be read. */
  readonly checkpoint: number | null;
  /** Whether the broker was stopped properly. */
  readonly isClean: boolean;
  /** Of the layers above, and where the partitions ended then. */
  readonly snapshot: Snapshot | null;
  readonly snapshotEnds: ReadonlyMap<PartitionKey, number>;
  /** There are now; null when that cannot be told. */
  readonly partitions: ReadonlySet<PartitionKey> | null;
}

/** Topics, or null when the metadata cannot be read. @param path of its database */
export function readTopics(context: VerifyContext, path: string, metadata: VerifiedMetadata): TopicMetadata[] | null {
  const advice =
    'A broker refuses to start, or would not know topics that the log holds. Put the file that belongs to this log back ' +
    'from a backup';
  for (const problem of metadata.problems) context.report(finding('problem', path, problem, advice));
  if (metadata.entries === null) return null;
  const topics: TopicMetadata[] = [];
  for (const { key, value } of metadata.entries) {
    if (!key.startsWith(TOPIC_KEY_PREFIX)) continue;
    if (isTopic(value) && key === TOPIC_KEY_PREFIX + value.name) topics.push(value);
    else context.report(finding('problem', path, `the entry ${JSON.stringify(key)} is no topic`, advice));
  }
  return topics;
}

function isTopic(value: unknown): value is TopicMetadata {
  const { name, id, partitionCount, state } = (value ?? {}) as Partial<Record<keyof TopicMetadata, unknown>>;
  if (typeof name !== 'string' || typeof id !== 'string' || !isTopicId(id)) return false;
  return Number.isSafeInteger(partitionCount) && (state === 'active' || state === 'deleting');
}

/** The core's state must decode, and end where the log ended. @param path of what holds it */
export function verifySnapshot(context: VerifyContext, path: string, { snapshot, snapshotEnds }: LogAtRest): void {
  if (snapshot === null) return;
  const advice = 'A broker refuses to start. Start the version of Naru that wrote it';
  const report = (cause: string, partition: PartitionKey | null = null): void =>
    context.report(finding('problem', path, `the state in the checkpoint ${cause}`, advice, { partition }));
  if (snapshot.version !== SNAPSHOT_VERSION) return report(`has format ${snapshot.version}, not ${SNAPSHOT_VERSION}`);
  try {
    for (const { partition, endOffset } of decodeCoreSnapshot(snapshot).partitions) {
      const end = snapshotEnds.get(partition);
      if (end === endOffset) continue;
      report(`ends the partition at offset ${endOffset}, the log ends at ${end ?? 'none: it has none'}`, partition);
    }
  } catch (error) {
    report(`cannot be decoded: ${(error as Error).message}`);
  }
}

/** What metadata and log say of each other's partitions. @param path of the metadata's database */
export function compareTopics(
  context: VerifyContext,
  path: string,
  topics: readonly TopicMetadata[],
  log: LogAtRest,
): void {
  const { partitions } = log;
  if (partitions === null) return;
  const byId = new Map(topics.map((topic) => [topic.id, topic]));
  for (const key of partitions) {
    const { topicId, partition } = splitPartitionKey(key);
    const topic = byId.get(topicId);
    if (topic !== undefined && partition < topic.partitionCount) continue;
    const cause =
      topic === undefined
        ? 'the log holds a partition of a topic that the metadata does not know: it is older than the log, or was replaced'
        : `the log holds a partition that the topic does not have: the metadata says ${topic.partitionCount}`;
    const advice = 'A broker refuses to start, or does not serve it. Put the file that belongs to this log back';
    context.report(finding('problem', path, cause, advice, { partition: key }));
  }
  for (const { id, partitionCount, state } of topics) {
    for (let i = 0; i < partitionCount && state === 'active'; i++) {
      const key = partitionKey(id, i);
      if (partitions.has(key)) continue;
      const cause = 'the metadata knows the partition, and the log does not';
      // Between the two, a broker may have been killed.
      const severity = log.isClean ? 'problem' : 'warning';
      const advice = log.isClean
        ? 'The next start would create it empty. If it held events, restore the whole data directory from a backup first'
        : 'Nothing if the topic, or this partition, was being created when the broker ended: the next start creates it';
      context.report(finding(severity, path, cause, advice, { partition: key }));
    }
  }
}
