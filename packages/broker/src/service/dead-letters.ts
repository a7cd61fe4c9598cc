/** Dead letters of groups as operators see them: found, looked at, given again, forgotten. */
import { splitPartitionKey, partitionKey, type Clock, type PartitionKey } from '@naru/base';
import {
  checkGroupId,
  decodeRequestId,
  encodeRequestId,
  isNaruError,
  keyId,
  refuse,
  type Refusal,
} from '@naru/protocol';
import { iterateRecords, type BatchRecord, type CompressionCodecs, type RecordHeader } from '@naru/protocol/batch';
import type { DeadLetterFilter, DeadLetterPlace, ListedDeadLetter } from '../core/group/index.ts';
import type { HeldEvent } from '../core/held/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { readHeldCopy } from './held-copies.ts';
import type { GivenRecord } from './poll-answer.ts';
import type { TopicService } from './topics.ts';

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder('utf-8', { fatal: true });
const DEFAULT_LIMIT = 100;
export const MAX_DEAD_LETTERS = 1_000;
/** Ids of one filter. */
const MAX_IDS = 1_000;

/** What is empty or 0 is not asked for. */
export interface DeadLetterQuestion {
  readonly groupId: string;
  readonly ids: readonly string[];
  readonly topic: string;
  readonly keyText: string | null;
  readonly reason: string;
  readonly sinceMs: number;
  readonly beforeMs: number;
  /** 0 for 100; at most 1,000. */
  readonly limit: number;
  readonly cursor: string;
}

export interface DeadLetterReport {
  /** The event's request id. */
  readonly id: string;
  readonly groupId: string;
  /** Empty when the topic is gone. */
  readonly topic: string;
  readonly place: DeadLetterPlace;
  readonly event: HeldEvent;
  /** Null when the event has no key, or one that is no text or long. */
  readonly keyText: string | null;
  readonly parkedBehind: number;
}

export interface DeadLetterList {
  readonly letters: readonly DeadLetterReport[];
  /** Empty when that was all. */
  readonly nextCursor: string;
  readonly total: number;
}

export interface DeadLettersDone {
  readonly letters: readonly DeadLetterReport[];
  /** Empty when that was all. */
  readonly nextCursor: string;
  readonly untilMs: number;
  readonly refused: readonly { readonly id: string; readonly refusal: Refusal }[];
}

export interface DeadLettersOrder extends DeadLetterQuestion {
  readonly kind: 'redrive' | 'purge';
  /** Of the first answer; 0: now. */
  readonly untilMs: number;
  readonly dryRun: boolean;
}

export interface DeadLetterServiceOptions {
  readonly shard: ShardClient;
  readonly topics: TopicService;
  readonly clock: Clock;
  readonly codecs: CompressionCodecs;
}

interface Query {
  readonly filter: DeadLetterFilter;
  readonly limit: number;
  readonly cursor: DeadLetterPlace | null;
  /** Ids that are none, with the reason. */
  readonly wrong: readonly { readonly id: string; readonly refusal: Refusal }[];
}

export class DeadLetterService {
  readonly #options: DeadLetterServiceOptions;

  constructor(options: DeadLetterServiceOptions) {
    this.#options = options;
  }

  async list(question: DeadLetterQuestion): Promise<DeadLetterList | Refusal> {
    const { groupId } = question;
    const query = this.#query(question);
    if (isRefusal(query)) return query;
    const { filter, limit, cursor } = query;
    const page = await this.#options.shard.submit({ type: 'list-dead-letters', groupId, filter, limit, cursor });
    if (isRefusal(page)) return page;
    const letters = page.letters.map((letter) => this.#report(groupId, letter));
    return { letters, nextCursor: toCursor(page.next), total: page.total };
  }

  /** @returns the whole event too, with the headers that say why it is here */
  async get(groupId: string, id: string): Promise<{ letter: DeadLetterReport; record: GivenRecord } | Refusal> {
    const found = await this.list({ ...NOTHING_ASKED, groupId, ids: [id] });
    if (isRefusal(found)) return found;
    const [letter] = found.letters;
    const gone = refuse('DEAD_LETTER_NOT_FOUND', `group ${JSON.stringify(groupId)} has no dead letter ${id}`);
    if (letter === undefined) return gone;
    const { shard, codecs } = this.#options;
    const { partition, offset } = letter.place;
    try {
      const batch = await readHeldCopy(shard, codecs, groupId, letter.event.copyOffset);
      for (const record of iterateRecords(batch, codecs)) {
        if (record.offset !== offset) continue;
        return { letter, record: { topic: letter.topic, partition, record: withReasons(record, letter) } };
      }
    } catch (error) {
      if (isNaruError(error)) return error.toRefusal();
      throw error;
    }
    return gone;
  }

  /** Redrives or purges a page of what matches: bounded, to be gone on with at the cursor. */
  async carryOut(order: DeadLettersOrder): Promise<DeadLettersDone | Refusal> {
    const { groupId, kind, dryRun } = order;
    const query = this.#query(order);
    if (isRefusal(query)) return query;
    const { wrong, ...asked } = query;
    const untilMs = order.untilMs > 0 ? order.untilMs : Math.trunc(this.#options.clock.nowMs());
    const type = kind === 'redrive' ? ('redrive' as const) : ('purge-dead-letters' as const);
    const command = { type, groupId, untilMs, dryRun, ...asked };
    const reply = await this.#options.shard.submit({ type: 'group', command });
    if (isRefusal(reply)) return reply;
    const missing = reply.missing.map(({ place, refusal }) => ({ id: idOf(place), refusal }));
    const letters = reply.letters.map((letter) => this.#report(groupId, letter));
    return { letters, nextCursor: toCursor(reply.next), untilMs, refused: [...wrong, ...missing] };
  }

  #query(question: DeadLetterQuestion): Query | Refusal {
    const { groupId, ids, topic, keyText, reason, sinceMs, beforeMs, limit } = question;
    const wrongGroup = checkGroupId(groupId);
    if (wrongGroup !== null) return wrongGroup;
    if (ids.length > MAX_IDS) return refuse('INVALID_REQUEST', `${ids.length} ids in a filter: at most ${MAX_IDS}`);
    const named = topic === '' ? null : this.#options.topics.find(topic);
    if (isRefusal(named)) return named;
    const cursor = fromCursor(question.cursor);
    if (isRefusal(cursor)) return cursor;
    const places: DeadLetterPlace[] = [];
    const wrong: { id: string; refusal: Refusal }[] = [];
    for (const id of new Set(ids)) {
      const place = toPlace(id);
      if (isRefusal(place)) wrong.push({ id, refusal: place });
      else places.push(place);
    }
    const filter: DeadLetterFilter = {
      places: ids.length === 0 ? null : places,
      topicId: named?.id ?? null,
      keyId: keyText === null ? null : keyId(TEXT.encode(keyText)),
      reason: reason === '' ? null : reason,
      sinceMs: sinceMs === 0 ? null : sinceMs,
      beforeMs: beforeMs === 0 ? null : beforeMs,
    };
    return { filter, limit: limit <= 0 ? DEFAULT_LIMIT : Math.min(limit, MAX_DEAD_LETTERS), cursor, wrong };
  }

  #report(groupId: string, { partition, offset, event, parkedBehind }: ListedDeadLetter): DeadLetterReport {
    const place = { partition, offset };
    const topic = this.#topicOf(partition);
    return { id: idOf(place), groupId, topic, place, event, keyText: textOfKey(event.keyId), parkedBehind };
  }

  #topicOf(partition: PartitionKey): string {
    const topic = this.#options.topics.findById(splitPartitionKey(partition).topicId);
    return isRefusal(topic) ? '' : topic.name;
  }
}

const NOTHING_ASKED: Omit<DeadLetterQuestion, 'groupId' | 'ids'> = {
  topic: '',
  keyText: null,
  reason: '',
  sinceMs: 0,
  beforeMs: 0,
  limit: 0,
  cursor: '',
};

/** The event's own headers, and those that tell what happened to it. They are of what is shown, not of what is given again. */
function withReasons(record: BatchRecord, { id, groupId, topic, place, event }: DeadLetterReport): BatchRecord {
  const { partition } = splitPartitionKey(place.partition);
  const reasons: Readonly<Record<string, string | number>> = {
    'naru-dlq-reason': event.reason,
    'naru-dlq-error': event.error,
    'naru-dlq-attempts': event.attempts,
    'naru-dlq-first-failure': toTime(event.firstFailureMs),
    'naru-dlq-last-failure': toTime(event.lastFailureMs),
    'naru-dlq-origin-topic': topic,
    'naru-dlq-origin-partition': partition,
    'naru-dlq-origin-offset': place.offset,
    'naru-dlq-request-id': id,
    'naru-dlq-group': groupId,
  };
  const added = Object.entries(reasons).map(([key, value]): RecordHeader => ({
    key,
    value: TEXT.encode(String(value)),
  }));
  return { ...record, headers: [...record.headers, ...added] };
}

/** ISO 8601; empty when it is not known. */
function toTime(atMs: number): string {
  return atMs > 0 && atMs < MAX_TIME_MS ? new Date(atMs).toISOString() : '';
}

/** Later ones cannot be written. */
const MAX_TIME_MS = 8.64e15;

function idOf({ partition: key, offset }: DeadLetterPlace): string {
  const { topicId, partition } = splitPartitionKey(key);
  return encodeRequestId(topicId, partition, offset);
}

function toPlace(id: string): DeadLetterPlace | Refusal {
  const place = decodeRequestId(id);
  if ('code' in place) return place;
  return { partition: partitionKey(place.topicId, place.partition), offset: place.offset };
}

function toCursor(place: DeadLetterPlace | null): string {
  return place === null ? '' : idOf(place);
}

function fromCursor(cursor: string): DeadLetterPlace | null | Refusal {
  if (cursor === '') return null;
  const place = toPlace(cursor);
  return isRefusal(place) ? refuse('INVALID_REQUEST', `the cursor is of no answer: ${place.message}`) : place;
}

/** What keyId says of a short key. */
function textOfKey(id: string): string | null {
  if (!id.startsWith('=')) return null;
  try {
    return FROM_TEXT.decode(Buffer.from(id.slice(1), 'hex'));
  } catch {
    return null;
  }
}
