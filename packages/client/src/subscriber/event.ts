/** What a handler gets: an event, and the circumstances of its handling. */
import type { TopicId } from '@naru/base';
import { encodeRequestId } from '@naru/protocol';
import type { StreamedRecord, RecordHeader } from '@naru/protocol/batch';
import type { EventName, EventValue } from '../catalog/event-catalog.ts';
import type { EnqueueOptions } from '../publish-options.ts';
import type { Serde } from '../serde/serde.ts';
import { decodeValue, deserializeValue, isPromise } from '../serde/serde.ts';

const decoder = new TextDecoder();

/** Headers in their order; a key may come more than once. */
export class EventHeaders implements Iterable<RecordHeader> {
  readonly #record: Pick<StreamedRecord, 'headers'>;

  /** @param record whose headers are read when they are asked for */
  constructor(record: Pick<StreamedRecord, 'headers'>) {
    this.#record = record;
  }

  get size(): number {
    return this.#headers.length;
  }

  /** The last value of `key` as text; undefined without such a header, null for one without a value. */
  get(key: string): string | null | undefined {
    const header = this.#headers.findLast((candidate) => candidate.key === key);
    if (header === undefined) return undefined;
    return header.value === null ? null : decoder.decode(header.value);
  }

  /** Every value of `key`, as bytes. */
  getAll(key: string): (Uint8Array | null)[] {
    return this.#headers.filter((header) => header.key === key).map((header) => header.value);
  }

  [Symbol.iterator](): Iterator<RecordHeader> {
    return this.#headers[Symbol.iterator]();
  }

  toJSON(): { key: string; value: string | null }[] {
    return this.#headers.map(({ key, value }) => ({ key, value: value === null ? null : decoder.decode(value) }));
  }

  get #headers(): readonly RecordHeader[] {
    return this.#record.headers;
  }
}

/** A received event. Key, value and request id are decoded when asked for. Its bytes are shared with its batch. */
export class NaruEvent<T = unknown> {
  readonly #topicId: TopicId;
  readonly #serde: Serde<unknown>;
  readonly #record: StreamedRecord;
  #headers: EventHeaders | undefined;
  #value: T | undefined;
  #isDecoded = false;
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  /** Milliseconds since the Unix epoch; −1 for none. */
  readonly timestampMs: number;
  readonly keyBytes: Uint8Array | null;
  readonly valueBytes: Uint8Array | null;

  constructor(topic: string, topicId: TopicId, partition: number, record: StreamedRecord, serde: Serde<unknown>) {
    this.#topicId = topicId;
    this.#serde = serde;
    this.topic = topic;
    this.partition = partition;
    this.offset = BigInt(record.offset);
    this.timestampMs = record.timestampMs;
    this.keyBytes = record.key;
    this.valueBytes = record.value;
    this.#record = record;
  }

  get headers(): EventHeaders {
    this.#headers ??= new EventHeaders(this.#record);
    return this.#headers;
  }

  /** As UTF-8. */
  get key(): string | null {
    return this.keyBytes === null ? null : decoder.decode(this.keyBytes);
  }

  /** Its CloudEvents id; of an event without one, the request id. */
  get id(): string {
    return this.#headerText('ce_id') ?? this.requestId;
  }

  /** Its CloudEvents type; undefined for an event without one. */
  get type(): string | undefined {
    return this.#headerText('ce_type');
  }

  #headerText(key: string): string | undefined {
    const value = this.#record.headerValue(key);
    return value == null ? undefined : decoder.decode(value);
  }

  /**
   * Reads the value ahead, so that {@link value} has it: what a serde that takes its time needs.
   *
   * @throws, or rejects with, what {@link value} would throw
   */
  decode(): Promise<void> | undefined {
    if (this.#isDecoded) return undefined;
    const decoded = decodeValue(this.#serde, this.valueBytes, this);
    if (isPromise(decoded)) return decoded.then((value) => this.#decoded(value as T));
    this.#decoded(decoded as T);
    return undefined;
  }

  #decoded(value: T): void {
    this.#value = value;
    this.#isDecoded = true;
  }

  /** @throws NaruError SERIALIZATION when the bytes are not what the subscriber's serde expects */
  get value(): T {
    if (!this.#isDecoded) this.#decoded(deserializeValue(this.#serde, this.valueBytes, this) as T);
    return this.#value as T;
  }

  /** The same that its publisher got. */
  get requestId(): string {
    return encodeRequestId(this.#topicId, this.partition, Number(this.offset));
  }

  /** For JSON.stringify and logs. */
  toJSON(): Record<string, unknown> {
    return {
      topic: this.topic,
      partition: this.partition,
      offset: this.offset.toString(),
      requestId: this.requestId,
      timestampMs: this.timestampMs,
      key: this.key,
      value: this.value,
      headers: this.headers,
    };
  }
}

/** What a handler knows of its call, and says about it. */
export interface HandlerContext {
  /**
   * Aborts when the result no longer counts: the partition went to another member, the lock of a record of a parallel topic was lost,
   * or draining took too long.
   */
  readonly signal: AbortSignal;
  /** 1 for the first time; counted over restarts and other members as far as they told the broker. */
  readonly attempt: number;
  /** Of the event; of the first one, for a batch. */
  readonly requestId: string;
  /** The consumer group; empty for none. */
  readonly group: string;
  /** A few words for the ledger (`naru trace`), with the event's outcome; at most 1,000 bytes. The last one counts. */
  note(text: string): void;
  /**
   * Publishes an event, as {@link Naru.publish} does. With the guarantee `exactly-once`, for an event of an ordered topic: it is buffered,
   * and stored in the transaction that commits the handled event; resolves when it is buffered, and is dropped when the handler
   * fails. Otherwise: published at once; resolves when it is stored, and the handled event is not finished before.
   *
   * One that fails fails the handler, also when it is not awaited or that is caught.
   */
  publish<Name extends EventName>(name: Name, value: EventValue<Name>, options?: EnqueueOptions): Promise<void>;
  /**
   * Ends the handler: try again after so many milliseconds, in place of the setting's back-off. It counts as an attempt. Throws,
   * and counts also when that is caught.
   */
  retryIn(ms: number): never;
  /** Ends the handler: the event becomes a dead letter, for this reason. Throws, and counts also when that is caught. */
  deadLetter(reason: string): never;
  /**
   * The handler is at work and needs this much longer, milliseconds: renews the lock of a record of a parallel topic; elsewhere it
   * counts as progress for `maxPollIntervalMs`.
   */
  extend(ms: number): void;
}

export type Handler<T> = (event: NaruEvent<T>, context: HandlerContext) => unknown;
export type BatchHandler<T> = (events: readonly NaruEvent<T>[], context: HandlerContext) => unknown;

/** A partition, in callbacks and calls about partitions. */
export interface TopicPartition {
  readonly topic: string;
  readonly partition: number;
}
