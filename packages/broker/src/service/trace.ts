/**
 * What became of single events: where an event is stored, and for each group what the group's state and the ledger say.
 *
 * Owns how the two become one report. Does not own what a group's state means (core/ledger/event-progress.ts), nor reading the
 * ledger (ledger-reader.ts), nor looking for an event by its own id (find-cloud-event.ts).
 */
import { partitionKey, type PartitionKey } from '@naru/base';
import { decodeRequestId, encodeRequestId, keyId, refuse, type Refusal } from '@naru/protocol';
import type { BatchRecord, CompressionCodecs } from '@naru/protocol/batch';
import type { EventProgress } from '../core/group/event-progress.ts';
import { parseTopicGroups, type TopicGroup } from '../core/registry/topic-groups.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import type { TransactionOutcome } from '../core/partition/transaction-index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { findCloudEvent, headerText, type CloudEventQuery } from './find-cloud-event.ts';
import { groupTrace, type GroupTrace } from './group-trace.ts';
import { LedgerReader } from './ledger-reader.ts';
import { readEvent } from './stored-event.ts';
import type { TopicService } from './topics.ts';

/** Groups that a request may name. */
export const MAX_NAMED_GROUPS = 100;

export interface EventPlace {
  readonly topic: TopicMetadata;
  readonly partition: number;
  readonly offset: number;
}

export type EventQuery =
  | { readonly by: 'request-id'; readonly requestId: string }
  | { readonly by: 'place'; readonly topic: string; readonly partition: number; readonly offset: number }
  | ({ readonly by: 'cloud-event' } & CloudEventQuery);

export interface TraceReport {
  readonly requestId: string;
  readonly place: EventPlace;
  /** Null when it is not stored any more, or cannot be read. */
  readonly record: BatchRecord | null;
  /** Not stored any more. */
  readonly gone: boolean;
  /** What became of the transaction that it is part of; null when it is part of none, or that is not known. */
  readonly transaction: TransactionOutcome | null;
  /** None where it was aborted: no group gets it. */
  readonly groups: readonly GroupTrace[];
  /** What could not be looked at; empty when everything was. */
  readonly remark: string;
}

export interface TraceOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
  readonly codecs: CompressionCodecs;
  /** The offset that a member reads next; null when nobody here knows. */
  readonly positionOf: (groupId: string, memberId: string, partition: PartitionKey) => number | null;
}

export class TraceService {
  readonly #options: TraceOptions;
  readonly #ledger: LedgerReader;

  constructor(options: TraceOptions) {
    this.#options = options;
    this.#ledger = new LedgerReader(options.shard, options.codecs);
  }

  /** @param groups empty for all that are declared for the topic, or have something to do with the partition */
  async trace(query: EventQuery, groups: readonly string[]): Promise<TraceReport | Refusal> {
    const tooMany = checkGroupNames(groups);
    if (tooMany !== null) return tooMany;
    const place = await this.#find(query);
    if (isRefusal(place)) return place;
    const { topic, partition, offset } = place;
    const key = partitionKey(topic.id, partition);
    const stored = await readEvent(this.#options.shard, this.#options.codecs, key, offset);
    const isDamaged = stored !== null && isRefusal(stored) && stored.code === 'DATA_CORRUPT';
    if (stored !== null && isRefusal(stored) && !isDamaged) return stored;
    const { record: event, transaction } =
      stored === null || isRefusal(stored) ? { record: null, transaction: null } : stored;
    const requestId = encodeRequestId(topic.id, partition, offset);
    const found = { requestId, place, record: event, gone: stored === null, transaction };
    if (transaction === 'aborted') return { ...found, groups: [], remark: '' };
    const eventKey = event === null ? null : event.key === null ? '' : keyId(event.key);
    const progress = await this.#progress(place, eventKey, groups);
    if (isRefusal(progress)) return progress;
    const remarks = isDamaged ? ['the event itself cannot be read: its batch is damaged'] : [];
    const traces: GroupTrace[] = [];
    for (const one of progress.wanted) {
      const history =
        one.ledger === null ? null : await this.#ledger.history(one.groupId, { partition: key, offset }, one.ledger);
      if (history?.complete === false) remarks.push(`the ledger has more of group ${one.groupId} than was read`);
      traces.push(this.#groupTrace(place, one, progress.all, history?.steps ?? []));
    }
    return { ...found, groups: traces, remark: remarks.join('; ') };
  }

  /** As a trace has it, without what only the ledger knows. */
  groupTraces(place: EventPlace, progress: readonly EventProgress[]): GroupTrace[] {
    return progress.map((one) => this.#groupTrace(place, one, progress, []));
  }

  #groupTrace(
    place: EventPlace,
    progress: EventProgress,
    all: readonly EventProgress[],
    steps: Parameters<typeof groupTrace>[0]['steps'],
  ): GroupTrace {
    const { topic, partition, offset } = place;
    const { memberId, groupId } = progress;
    const key = partitionKey(topic.id, partition);
    const position = memberId === null ? null : this.#options.positionOf(groupId, memberId, key);
    const requestIdOf = (at: number): string => encodeRequestId(topic.id, partition, at);
    const isParallel = topic.type === 'parallel';
    const declared = declaredGroups(topic);
    return groupTrace({ progress, all, declared, steps, position, offset, isParallel, requestIdOf });
  }

  /** Of the groups that were asked for, and of all that may gate them. */
  async #progress(
    { topic, partition, offset }: EventPlace,
    eventKey: string | null,
    groups: readonly string[],
  ): Promise<{ wanted: readonly EventProgress[]; all: readonly EventProgress[] } | Refusal> {
    const named =
      groups.length === 0 ? null : [...new Set([...groups, ...declaredGroups(topic).map(({ name }) => name)])];
    const all = await this.#options.shard.submit({
      type: 'trace-event',
      partition: partitionKey(topic.id, partition),
      offset,
      keyId: eventKey,
      groups: named,
    });
    if (isRefusal(all)) return all;
    const wanted = groups.length === 0 ? all : all.filter(({ groupId }) => groups.includes(groupId));
    return { wanted, all };
  }

  async #find(query: EventQuery): Promise<EventPlace | Refusal> {
    if (query.by === 'request-id') return placeOf(query.requestId, this.#options.topics);
    if (query.by === 'cloud-event') return findCloudEvent(query, this.#options);
    const topic = this.#options.topics.find(query.topic);
    return isRefusal(topic) ? topic : checkedPlace({ topic, partition: query.partition, offset: query.offset });
  }
}

/** Where the event of a request id is, or was, stored. */
export function placeOf(requestId: string, topics: TopicService): EventPlace | Refusal {
  const decoded = decodeRequestId(requestId);
  if (isRefusal(decoded)) return decoded;
  const topic = topics.findById(decoded.topicId);
  if (isRefusal(topic)) return topic;
  return checkedPlace({ topic, partition: decoded.partition, offset: decoded.offset });
}

export function checkGroupNames(groups: readonly string[]): Refusal | null {
  if (groups.length <= MAX_NAMED_GROUPS) return null;
  return refuse('INVALID_REQUEST', `${groups.length} groups are named: at most ${MAX_NAMED_GROUPS} are allowed`);
}

/** As the topic's setting says; none when it cannot be read, which changing it does not allow. */
export function declaredGroups(topic: TopicMetadata): readonly TopicGroup[] {
  const groups = parseTopicGroups(topic.config['groups'] ?? '');
  return 'wrong' in groups ? [] : groups;
}

/** What CloudEvents' Kafka binding calls the event's type and id; empty without. */
export function cloudEventOf(record: BatchRecord): { readonly type: string; readonly id: string } {
  return { type: headerText(record, 'ce_type') ?? '', id: headerText(record, 'ce_id') ?? '' };
}

function checkedPlace(place: EventPlace): EventPlace | Refusal {
  const { topic, partition, offset } = place;
  if (!Number.isSafeInteger(offset) || offset < 0) return refuse('INVALID_REQUEST', `${offset} is no offset`);
  if (Number.isInteger(partition) && partition >= 0 && partition < topic.partitionCount) return place;
  return refuse(
    'UNKNOWN_TOPIC_OR_PARTITION',
    `there is no partition ${partition} of topic ${JSON.stringify(topic.name)}`,
  );
}
