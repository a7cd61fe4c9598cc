/**
 * The headers of CloudEvents 1.0 in Kafka's binary mode: `ce_specversion`, `ce_id`, `ce_type`, `ce_source`, `ce_time`, `content-type`,
 * and `traceparent` where there is a trace.
 *
 * What is the same for many events is encoded once, and id and time of each are written into that. Headers that the
 * caller gives win over these.
 */
import type { Random } from '@naru/base';
import { encodeHeaders } from '@naru/protocol/batch';
import type { EncodedHeaders, RecordHeader, RecordHeaders } from '@naru/protocol/batch';
import type { Serde } from '../serde/serde.ts';
import { EventIds, ID_BYTES } from './event-ids.ts';

/** Combinations of type, source and content type that are kept encoded. */
const MAX_TEMPLATES = 1_000;
/** `2026-01-31T12:00:00.000Z`. */
const TIME_BYTES = 24;
/** Where its milliseconds are. */
const MS_AT = 20;
const ZERO = 0x30;
/** Years of four digits: others have another form. */
const MAX_TIME_MS = 253_402_300_799_999;

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  json: 'application/json',
  string: 'text/plain',
  bytes: 'application/octet-stream',
  avro: 'application/avro',
  protobuf: 'application/protobuf',
};

export interface CloudEventAttributes {
  readonly type?: string | undefined;
  readonly source?: string | undefined;
  readonly id?: string | undefined;
  readonly traceparent?: string | undefined;
  readonly serde?: Serde<unknown> | undefined;
}

export interface CloudEventsOptions {
  readonly source: string;
  readonly random: Random;
  readonly traceparent?: (() => string | undefined) | undefined;
}

interface Template {
  readonly type: string;
  readonly source: string;
  readonly contentType: string;
  readonly headers: EncodedHeaders;
  readonly idAt: number;
  readonly timeAt: number;
  /** The time that is written in. */
  timeMs: number;
}

const text = new TextEncoder();

export class CloudEvents {
  readonly #source: string;
  readonly #traceparent: (() => string | undefined) | undefined;
  readonly #ids: EventIds;
  /** By topic, of events that say nothing themselves, and by everything else. */
  readonly #templates = new Map<string, Template>();
  #last: Template | null = null;
  #timeMs = Number.NaN;
  #time = new Uint8Array(TIME_BYTES);

  constructor({ source, random, traceparent }: CloudEventsOptions) {
    this.#source = source;
    this.#traceparent = traceparent;
    this.#ids = new EventIds(random);
  }

  /**
   * The headers of one event. Encoded ones are valid until the next call, since the next event of the kind is written into the same
   * bytes: whoever keeps them takes {@link ownHeaders}.
   */
  headers(
    topic: string,
    value: unknown,
    attributes: CloudEventAttributes,
    given: readonly RecordHeader[] | undefined,
    timestampMs: number,
  ): RecordHeaders {
    const { type = topic, source = this.#source, id, serde } = attributes;
    const traceparent = attributes.traceparent ?? this.#traceparent?.();
    const contentType = value === null ? '' : contentTypeOf(serde?.name);
    const isUsual = id === undefined && traceparent === undefined && given === undefined;
    if (!isUsual || timestampMs < 0 || timestampMs > MAX_TIME_MS) {
      return this.#list(type, source, contentType, id, traceparent, given ?? [], timestampMs);
    }
    const template = this.#template(type, source, contentType);
    const { bytes } = template.headers;
    bytes.set(this.#ids.next(timestampMs), template.idAt);
    if (template.timeMs !== timestampMs) {
      bytes.set(this.#timeText(timestampMs), template.timeAt);
      template.timeMs = timestampMs;
    }
    return template.headers;
  }

  #list(
    type: string,
    source: string,
    contentType: string,
    id: string | undefined,
    traceparent: string | undefined,
    given: readonly RecordHeader[],
    timestampMs: number,
  ): RecordHeader[] {
    const own: RecordHeader[] = [
      header('ce_specversion', '1.0'),
      { key: 'ce_id', value: id === undefined ? this.#ids.next(Math.max(0, timestampMs)).slice() : text.encode(id) },
      header('ce_type', type),
      header('ce_source', source),
    ];
    const isTime = Math.abs(timestampMs) <= 8.64e15;
    if (isTime) own.push(header('ce_time', new Date(timestampMs).toISOString()));
    if (contentType !== '') own.push(header('content-type', contentType));
    if (traceparent !== undefined) own.push(header('traceparent', traceparent));
    const named = new Set(given.map(({ key }) => key));
    return [...own.filter(({ key }) => !named.has(key)), ...given];
  }

  #template(type: string, source: string, contentType: string): Template {
    const last = this.#last;
    if (last?.type === type && last.source === source && last.contentType === contentType) return last;
    const key = source === this.#source ? `${contentType}\n${type}` : `${contentType}\n${type}\n${source}`;
    let template = this.#templates.get(key);
    if (template === undefined) {
      if (this.#templates.size >= MAX_TEMPLATES) this.#templates.clear();
      template = makeTemplate(type, source, contentType);
      this.#templates.set(key, template);
    }
    this.#last = template;
    return template;
  }

  #timeText(timestampMs: number): Uint8Array {
    if (timestampMs === this.#timeMs) return this.#time;
    const ms = timestampMs % 1_000;
    if (timestampMs - ms === this.#timeMs - (this.#timeMs % 1_000)) {
      // The second is written already, and milliseconds are many.
      this.#time[MS_AT] = ZERO + Math.floor(ms / 100);
      this.#time[MS_AT + 1] = ZERO + (Math.floor(ms / 10) % 10);
      this.#time[MS_AT + 2] = ZERO + (ms % 10);
    } else {
      this.#time = text.encode(new Date(timestampMs).toISOString());
    }
    this.#timeMs = timestampMs;
    return this.#time;
  }
}

/** Headers that stay what they are. */
export function ownHeaders(headers: RecordHeaders | undefined): RecordHeaders | undefined {
  return headers !== undefined && 'bytes' in headers ? { ...headers, bytes: headers.bytes.slice() } : headers;
}

/** Headers as a list, whatever form they have. */
export function headerList(headers: RecordHeaders | undefined): readonly RecordHeader[] {
  if (headers === undefined) return [];
  return 'bytes' in headers ? decodeHeaders(headers) : headers;
}

function makeTemplate(type: string, source: string, contentType: string): Template {
  const first = [header('ce_specversion', '1.0'), { key: 'ce_id', value: new Uint8Array(ID_BYTES) }];
  const upToTime = [
    ...first,
    header('ce_type', type),
    header('ce_source', source),
    { key: 'ce_time', value: new Uint8Array(TIME_BYTES) },
  ];
  const all = contentType === '' ? upToTime : [...upToTime, header('content-type', contentType)];
  return {
    type,
    source,
    contentType,
    headers: encodeHeaders(all),
    idAt: encodeHeaders(first).bytes.length - ID_BYTES,
    timeAt: encodeHeaders(upToTime).bytes.length - TIME_BYTES,
    timeMs: -1,
  };
}

function contentTypeOf(format = 'json'): string {
  return CONTENT_TYPES[format] ?? CONTENT_TYPES[format.split(/[^a-z]/, 1)[0] ?? ''] ?? 'application/octet-stream';
}

function header(key: string, value: string): RecordHeader {
  return { key, value: text.encode(value) };
}

/** Only of what {@link CloudEvents} has encoded. */
function decodeHeaders({ count, bytes }: EncodedHeaders): RecordHeader[] {
  const decoder = new TextDecoder();
  const headers: RecordHeader[] = [];
  let at = 0;
  const take = (): Uint8Array => {
    let length = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = bytes[at++] as number;
      length |= (byte & 0x7f) << shift;
      if (byte < 0x80) break;
    }
    const start = at;
    at += length >>> 1; // zigzag, never negative here
    return bytes.slice(start, at);
  };
  for (let i = 0; i < count; i++) {
    const key = decoder.decode(take());
    headers.push({ key, value: take() });
  }
  return headers;
}
