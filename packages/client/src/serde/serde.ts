/**
 * Values to bytes and back.
 *
 * A serde answers at once, or with a promise where it has to ask somebody first (a schema registry, an asynchronous
 * validator); callers look which it was, so that the many that answer at once cost no promise.
 */
import { isUtf8 } from 'node:buffer';
import { NaruError } from '@naru/protocol';
import { checkNoPrototypeKeys } from './prototype-keys.ts';
import { SerializationError, messageOf } from './serialization-error.ts';

export type Awaitable<T> = T | Promise<T>;

/** What a value is serialized for. */
export interface SerdeContext {
  readonly topic: string;
}

export interface Serde<T> {
  /** For messages. */
  readonly name: string;
  /**
   * Null is a record without a value: a tombstone in a compacted topic. Events of a topic are sent in the order in which they
   * were published, however long the promise of one of them takes.
   */
  serialize(value: T, context: SerdeContext): Awaitable<Uint8Array | null>;
  /** Anything that it throws, but a retriable NaruError, means that these bytes can never be read. */
  deserialize(bytes: Uint8Array | null, context: SerdeContext): Awaitable<T>;
}

/** One that always answers at once, and the same for every topic. */
export interface SyncSerde<T> extends Serde<T> {
  serialize(value: T): Uint8Array | null;
  deserialize(bytes: Uint8Array | null): T;
}

const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * JSON text in UTF-8, the default. `null` becomes a record without a value, and back. Keys that would reach an object's
 * prototype in code that copies them (`__proto__`, `constructor.prototype`) are refused when read.
 */
export const json: SyncSerde<unknown> = {
  name: 'json',
  serialize: writeJson,
  deserialize: (value) => (value === null ? null : readJson(value)),
};

export function writeJson(value: unknown): Buffer | null {
  if (value === null) return null;
  const text = JSON.stringify(value) as string | undefined;
  if (text === undefined) throw new TypeError(`${typeof value} has no JSON form`);
  return Buffer.from(text, 'utf8');
}

/** @throws SyntaxError, TypeError for what is not UTF-8, SerializationError */
export function readJson(value: Uint8Array): unknown {
  const text = readText(value);
  const parsed = JSON.parse(text) as unknown;
  checkNoPrototypeKeys(text, parsed);
  return parsed;
}

/** As a strict TextDecoder, which takes twice as long. @throws TypeError for what is not UTF-8 */
function readText(value: Uint8Array): string {
  if (!isUtf8(value)) return strictDecoder.decode(value);
  const buffer = value instanceof Buffer ? value : Buffer.from(value.buffer, value.byteOffset, value.length);
  return buffer.toString('utf8');
}

/** Bytes as they are. They are copied when published; what a subscriber gets is shared with its batch. */
export const bytes: SyncSerde<Uint8Array | null> = {
  name: 'bytes',
  serialize(value) {
    if (value !== null && !(value instanceof Uint8Array)) throw new TypeError('expected a Uint8Array');
    return value;
  },
  deserialize: (value) => value,
};

/** Text in UTF-8. A byte-order mark is part of the text. */
export const string: SyncSerde<string | null> = {
  name: 'string',
  serialize(value) {
    if (value !== null && typeof value !== 'string') throw new TypeError('expected a string');
    if (value !== null && !value.isWellFormed()) throw new TypeError('the text has half of a surrogate pair');
    return value === null ? null : Buffer.from(value, 'utf8');
  },
  deserialize: (value) => (value === null ? null : readText(value)),
};

/** @throws, or rejects with, NaruError SERIALIZATION; a retriable NaruError of the serde as it is */
export function serializeValue<T>(serde: Serde<T>, value: T, topic: string): Awaitable<Uint8Array | null> {
  const failed = (error: unknown): NaruError => failure(serde, error, `value for ${topic} is not ${serde.name}: `);
  try {
    const written = serde.serialize(value, { topic });
    if (written === null || written instanceof Uint8Array) return written;
    if (!isPromise(written)) throw new TypeError(`its serializer returned ${typeof written}, expected a Uint8Array`);
    return written.then(checkWritten).catch((error: unknown) => Promise.reject(failed(error)));
  } catch (error) {
    throw failed(error);
  }
}

function checkWritten(written: Uint8Array | null): Uint8Array | null {
  if (written === null || written instanceof Uint8Array) return written;
  throw new TypeError(`its serializer resolved with ${typeof written}, expected a Uint8Array`);
}

/** `topic/partition/offset`, or what has them: then nothing is put together before something fails. */
export type RecordPlace = string | { readonly topic: string; readonly partition: number; readonly offset: bigint };

/**
 * Reads a value.
 *
 * @throws, or rejects with, NaruError SERIALIZATION when the bytes can never be read. Any other NaruError (NETWORK: the
 *   registry did not answer) says nothing about them: try again.
 */
export function decodeValue<T>(serde: Serde<T>, value: Uint8Array | null, where: RecordPlace): Awaitable<T> {
  try {
    const read = serde.deserialize(value, { topic: topicOf(where) });
    if (!isPromise(read)) return read;
    return read.catch((error: unknown) => Promise.reject(decodeFailure(serde, error, where)));
  } catch (error) {
    throw decodeFailure(serde, error, where);
  }
}

function decodeFailure(serde: { readonly name: string }, error: unknown, where: RecordPlace): NaruError {
  return failure(serde, error, `value of ${placeText(where)} is not ${serde.name}: `);
}

/**
 * {@link decodeValue} where there is no waiting.
 *
 * @throws NaruError also INVALID_REQUEST when the serde answers with a promise
 */
export function deserializeValue<T>(serde: Serde<T>, value: Uint8Array | null, where: RecordPlace): T {
  const read = decodeValue(serde, value, where);
  if (!isPromise(read)) return read;
  read.catch(() => {});
  const message = `value of ${placeText(where)} was not awaited, but ${serde.name} has to wait for it`;
  throw new NaruError('INVALID_REQUEST', message);
}

export function isPromise<T>(value: Awaitable<T>): value is Promise<T> {
  return typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function';
}

function placeText(where: RecordPlace): string {
  return typeof where === 'string' ? where : `${where.topic}/${where.partition}/${where.offset}`;
}

function topicOf(where: RecordPlace): string {
  if (typeof where !== 'string') return where.topic;
  const end = where.indexOf('/');
  return end < 0 ? where : where.slice(0, end);
}

function failure(serde: { readonly name: string }, error: unknown, prefix: string): NaruError {
  if (error instanceof SerializationError) return error.within(prefix, { format: error.format });
  if (error instanceof NaruError && error.code !== 'SERIALIZATION') return error;
  return new SerializationError(`${prefix}${messageOf(error)}`, { format: serde.name }, { cause: error });
}
