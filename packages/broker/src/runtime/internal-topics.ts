/** The broker's own topics. All of them must exist before a shard starts. Those of groups have equally many partitions. */
import type { OwnLog } from '../core/group/index.ts';
import type { TopicConfigTexts } from '../core/registry/topic-config.ts';

/** Groups and their offsets. It compacts itself. */
export const GROUP_LOG_TOPIC = '__groups';
/** Whole events that groups could not handle yet; those that are done are written again without a value. */
export const HELD_LOG_TOPIC = '__held';
/** What became of events: processing records. */
export const LEDGER_TOPIC = '__ledger';
/** Schemas and what subjects they belong to. */
export const SCHEMA_LOG_TOPIC = '__schemas';

/** Transactional ids and their transactions. */
export const TRANSACTION_LOG_TOPIC = '__transactions';

/** Tombstones stay as long as nobody asks any more: recovery may replay from before they were written. */
const FOR_GOOD_MS = 100 * 365 * 86_400_000;
const GROUP_LOG_PARTITIONS = 8;
const TRANSACTION_LOG_PARTITIONS = 8;
const TRANSACTION_SEGMENT_BYTES = 16 * 1024 * 1024;
const HELD_SEGMENT_BYTES = 32 * 1024 * 1024;

interface InternalTopic {
  readonly partitionCount: number;
  readonly config: TopicConfigTexts;
}

export const INTERNAL_TOPICS: Readonly<Record<string, InternalTopic>> = {
  [GROUP_LOG_TOPIC]: { partitionCount: GROUP_LOG_PARTITIONS, config: {} },
  [HELD_LOG_TOPIC]: {
    partitionCount: GROUP_LOG_PARTITIONS,
    config: { 'cleanup.policy': 'compact', 'delete.retention.ms': '0', 'segment.bytes': String(HELD_SEGMENT_BYTES) },
  },
  [LEDGER_TOPIC]: { partitionCount: GROUP_LOG_PARTITIONS, config: { 'cleanup.policy': 'delete' } },
  [SCHEMA_LOG_TOPIC]: {
    partitionCount: 1,
    config: { 'cleanup.policy': 'compact', 'delete.retention.ms': String(FOR_GOOD_MS) },
  },
  // Tombstones go: an id that comes back by that is as old as it was, and is forgotten again.
  [TRANSACTION_LOG_TOPIC]: {
    partitionCount: TRANSACTION_LOG_PARTITIONS,
    config: { 'cleanup.policy': 'compact', 'segment.bytes': String(TRANSACTION_SEGMENT_BYTES) },
  },
};

/** Keeps the ledger for as long as the broker’s settings say. */
export function ledgerTopicConfig(keepMs: number): TopicConfigTexts {
  const keep = keepMs === Infinity ? '-1' : String(keepMs);
  return { 'cleanup.policy': 'delete', 'retention.ms': keep, 'retention.bytes': '-1' };
}

export const OWN_LOG_TOPICS: readonly (readonly [OwnLog, string])[] = [
  ['held', HELD_LOG_TOPIC],
  ['ledger', LEDGER_TOPIC],
];
