/** One event of the catalog, on its own: where it goes, what its key is, and how its value is written. */
import { resolve } from 'node:path';
import { NaruError } from '@naru/protocol';
import type { Serde } from '../serde/serde.ts';
import type { SchemaSource } from '../serde/schema-serde.ts';
import { SerializationError, describeValue } from '../serde/serialization-error.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { CatalogFiles } from './catalog-files.ts';
import type { CatalogFileEvent, CatalogFileRetry } from './catalog-schema.ts';
import { loadEventSerde, readEventSchema } from './event-schema.ts';
import type { ParsedPointer } from './json-pointer.ts';
import { parsePointer, valueAt } from './json-pointer.ts';

/** Files of an event's schema. */
export interface SchemaFiles {
  readonly file: string;
  /** JSON pointer to the part of a JSON Schema that is meant; undefined for the whole. */
  readonly part: string | undefined;
  readonly references: readonly { readonly name: string; readonly file: string }[];
}

export class CatalogEvent {
  readonly name: string;
  readonly topic: string;
  /** Complete as the file has it. */
  readonly source: CatalogFileEvent;
  /** Undefined for an event without a schema. */
  readonly schema: SchemaFiles | undefined;
  /** In the schema registry; undefined where the registry has nothing to do with it. */
  readonly subject: string | undefined;
  /** Where the catalog has it, for messages. */
  readonly place: string;
  readonly #key: ParsedPointer | undefined;
  #serde: Promise<Serde<unknown>> | undefined;

  constructor(name: string, source: CatalogFileEvent, files: CatalogFiles) {
    this.name = name;
    this.source = source;
    this.topic = source.topic ?? name;
    this.place = files.place(['events'], name);
    this.subject = source.registry ? (source.subject ?? `${name}-value`) : undefined;
    this.schema = schemaFiles(name, source, files);
    const pointer = source.key === undefined ? undefined : parsePointer(source.key);
    this.#key = pointer === undefined || 'wrong' in pointer ? undefined : pointer;
  }

  get format(): CatalogFileEvent['format'] {
    return this.source.format;
  }

  /** JSON pointer into the payload. */
  get key(): string | undefined {
    return this.#key?.text;
  }

  /**
   * The key of a value: undefined for an event that has none.
   *
   * @throws SerializationError when the value has nothing there, or something that cannot be a key
   */
  keyOf(value: unknown): string | undefined {
    if (this.#key === undefined) return undefined;
    const found = valueAt(value, this.#key);
    if (typeof found === 'string' && found !== '') return found;
    if (typeof found === 'bigint' || (typeof found === 'number' && Number.isFinite(found))) return String(found);
    const what =
      found === undefined || found === null ? 'is missing' : `is ${found === '' ? 'empty' : describeValue(found)}`;
    const message = `${what}, and it is the key of ${this.name}: expected text or a number`;
    throw SerializationError.at(this.format, this.#key.text, message).within(`value of ${this.name}: `);
  }

  /** How values are written without a registry, loaded once. @throws SerializationError, NaruError INVALID_CONFIGURATION */
  localSerde(): Promise<Serde<unknown>> {
    this.#serde ??= loadEventSerde(this);
    return this.#serde;
  }

  /** Text of the schema with what it refers to; undefined for an event without one. @throws NaruError INVALID_CONFIGURATION */
  schemaSource(): Promise<SchemaSource | undefined> {
    return readEventSchema(this);
  }

  /** What `group` does with failed events: as the catalog says, else as `settings`. */
  retryOf(group: string, settings: SubscriberSettings['retry']): SubscriberSettings['retry'] {
    const groups = this.source.groups;
    const own = Object.hasOwn(groups, group) ? groups[group]?.retry : undefined;
    return withRetry(withRetry(settings, this.source.retry), own);
  }

  /** @throws NaruError INVALID_CONFIGURATION */
  failed(error: unknown): NaruError {
    const message = error instanceof Error ? error.message : String(error);
    return new NaruError('INVALID_CONFIGURATION', `${this.place}: event ${this.name}: ${message}`, { cause: error });
  }
}

function schemaFiles(name: string, source: CatalogFileEvent, files: CatalogFiles): SchemaFiles | undefined {
  if (source.schema === undefined) return undefined;
  const at = source.schema.indexOf('#');
  const [file, part] = at < 0 ? [source.schema, undefined] : [source.schema.slice(0, at), source.schema.slice(at + 1)];
  const folder = files.folder(['events', name, 'schema']);
  const references = Object.entries(source.references).map(([reference, its]) => ({
    name: reference,
    file: resolve(files.folder(['events', name, 'references', reference]), its),
  }));
  return { file: resolve(folder, file), part: part === '' ? undefined : part, references };
}

function withRetry(
  below: SubscriberSettings['retry'],
  above: CatalogFileRetry | undefined,
): SubscriberSettings['retry'] {
  if (above === undefined) return below;
  const { initial, factor, max, jitter } = above.backoff ?? {};
  const { backoff } = below;
  return {
    ...below,
    attempts: above.attempts ?? below.attempts,
    backoff: {
      initialMs: initial ?? backoff.initialMs,
      factor: factor ?? backoff.factor,
      maxMs: max ?? backoff.maxMs,
      jitter: jitter ?? backoff.jitter,
    },
  };
}
