/**
 * Looks for an event by its CloudEvents id, which has to be a UUIDv7: such an id says when it was made, and only what was stored
 * around that time is read.
 *
 * Invariants: a search reads at most {@link MAX_SEARCHED_TOPICS} topics and {@link MAX_SEARCHED_BYTES}; when it ended there, the
 * refusal says so.
 */
import { partitionKey, type PartitionKey } from '@naru/base';
import { isInternalTopicName, isNaruError, refuse, type Refusal } from '@naru/protocol';
import { iterateRecords, readBatchHeader, type BatchRecord, type CompressionCodecs } from '@naru/protocol/batch';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { readNow } from './read-now.ts';
import type { TopicService } from './topics.ts';

export const MAX_SEARCHED_TOPICS = 100;
export const MAX_SEARCHED_BYTES = 256 * 1024 * 1024;
const MAX_ID_LENGTH = 256;
const DEFAULT_TOLERANCE_MS = 5 * 60_000;
const MAX_TOLERANCE_MS = 3_600_000;
const FETCH_BYTES = 1024 * 1024;
const UUID_V7 = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const CE_ID = 'ce_id';

const FROM_TEXT = new TextDecoder();

export interface CloudEventQuery {
  readonly id: string;
  /** Empty: all topics. */
  readonly topic: string;
  /** 0 for 5 minutes. */
  readonly toleranceMs: number;
}

interface Search {
  readonly id: string;
  readonly fromMs: number;
  readonly toMs: number;
  restBytes: number;
}

/** Where the first event with that id is stored; one whose transaction was aborted only when there is no other. */
export async function findCloudEvent(
  { id, topic: name, toleranceMs }: CloudEventQuery,
  { shard, topics, codecs }: { shard: ShardClient; topics: TopicService; codecs: CompressionCodecs },
): Promise<{ topic: TopicMetadata; partition: number; offset: number } | Refusal> {
  const atMs = id.length <= MAX_ID_LENGTH ? timeOfUuidV7(id) : null;
  if (atMs === null) {
    return refuse(
      'INVALID_REQUEST',
      'only ids that are UUIDv7 can be looked for: others do not say when they were made',
    );
  }
  if (toleranceMs < 0 || toleranceMs > MAX_TOLERANCE_MS) {
    return refuse('INVALID_REQUEST', `a tolerance is 0 to ${MAX_TOLERANCE_MS} ms, not ${toleranceMs}`);
  }
  const around = toleranceMs === 0 ? DEFAULT_TOLERANCE_MS : toleranceMs;
  const wanted =
    name === '' ? topics.list(false).filter((topic) => !isInternalTopicName(topic.name)) : [topics.find(name)];
  const search: Search = { id, fromMs: Math.max(0, atMs - around), toMs: atMs + around, restBytes: MAX_SEARCHED_BYTES };
  let aborted: { topic: TopicMetadata; partition: number; offset: number } | null = null;
  for (const topic of wanted.slice(0, MAX_SEARCHED_TOPICS)) {
    if (isRefusal(topic)) return topic;
    for (let partition = 0; partition < topic.partitionCount && search.restBytes > 0; partition++) {
      const found = await findInPartition(partitionKey(topic.id, partition), search, shard, codecs);
      if (found === null) continue;
      const place = { topic, partition, offset: found.offset };
      if (!found.isAborted) return place;
      aborted ??= place;
    }
  }
  if (aborted !== null) return aborted;
  const unread = [
    ...(search.restBytes <= 0 ? [`more than ${MAX_SEARCHED_BYTES} bytes were stored in that time`] : []),
    ...(wanted.length > MAX_SEARCHED_TOPICS ? [`only ${MAX_SEARCHED_TOPICS} topics were looked at`] : []),
  ];
  const bound =
    unread.length === 0
      ? ''
      : `; not everything was looked at (${unread.join(', ')}): name the topic, or a shorter tolerance`;
  const when = new Date(atMs).toISOString();
  return refuse('EVENT_NOT_FOUND', `no event with the id ${id} is stored within ${around} ms of ${when}${bound}`);
}

/** The last value of that name as text; null without one. */
export function headerText({ headers }: BatchRecord, name: string): string | null {
  const value = headers.findLast(({ key }) => key === name)?.value ?? null;
  return value === null ? null : FROM_TEXT.decode(value);
}

/** Milliseconds since the Unix epoch; null for any other text. */
function timeOfUuidV7(id: string): number | null {
  const lower = id.toLowerCase();
  return UUID_V7.test(lower) ? Number.parseInt(lower.slice(0, 8) + lower.slice(9, 13), 16) : null;
}

interface Found {
  readonly offset: number;
  readonly isAborted: boolean;
}

async function findInPartition(
  partition: PartitionKey,
  search: Search,
  shard: ShardClient,
  codecs: CompressionCodecs,
): Promise<Found | null> {
  const position = { at: 'time', timestampMs: search.fromMs } as const;
  const start = await shard.submit({ type: 'find-offset', partition, position });
  if (isRefusal(start)) return null;
  let aborted: Found | null = null;
  for (let offset = start.offset; search.restBytes > 0;) {
    const fetched = await readNow(shard, partition, offset, FETCH_BYTES, { tellsOutcomes: true });
    if (isRefusal(fetched) || fetched.refusal !== null || fetched.batches.length === 0) return aborted;
    for (const [index, batch] of fetched.batches.entries()) {
      const { baseTimestampMs, isControl } = readBatchHeader(batch);
      // Markers have the broker's time.
      if (isControl) continue;
      if (baseTimestampMs > search.toMs) return aborted;
      search.restBytes -= batch.length;
      const at = findInBatch(batch, search.id, codecs);
      if (at === null) continue;
      const found = { offset: at, isAborted: fetched.outcomes?.[index] === 'aborted' };
      if (!found.isAborted) return found;
      aborted ??= found;
    }
    offset = fetched.nextOffset;
  }
  return aborted;
}

function findInBatch(batch: Uint8Array, id: string, codecs: CompressionCodecs): number | null {
  try {
    for (const record of iterateRecords(batch, codecs)) if (headerText(record, CE_ID) === id) return record.offset;
  } catch (error) {
    // What cannot be read cannot be found.
    if (!isNaruError(error)) throw error;
  }
  return null;
}
