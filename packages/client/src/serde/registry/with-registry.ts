/**
 * A serde in Confluent's wire format: payloads name the schema that they were written with, by its id in a registry.
 *
 * ```
 * 0x00  id:int32 (big endian)  [message indexes, Protobuf only]  payload
 * ```
 *
 * Waits only for what it has not seen before: the id of its own schema for a subject, the schema of another id. What the
 * registry does not have, or has and cannot be read, is an error of the event; a registry that does not answer is not.
 */
import { BoundedCache } from './bounded-cache.ts';
import { isPromise } from '../serde.ts';
import type { Awaitable, Serde, SerdeContext } from '../serde.ts';
import type { PayloadReader, SchemaSerde } from '../schema-serde.ts';
import { SerializationError } from '../serialization-error.ts';
import type { SchemaReference, SchemaRegistryClient } from './schema-registry-client.ts';
import { systemRuntime } from '../../runtime.ts';
import type { Runtime } from '../../runtime.ts';
import { subjectName } from './subject-names.ts';
import type { SubjectName } from './subject-names.ts';

/** Subjects and schema ids that a serde remembers, each. */
const MAX_ENTRIES = 1_000;
const HEADER_BYTES = 5;

export interface WithRegistryOptions {
  readonly client: SchemaRegistryClient;
  /** Default `topic`. */
  readonly subject?: SubjectName | undefined;
  /**
   * Whether a schema that the subject does not have is registered with it, by the first event; else that event is refused.
   * Default true, as with Confluent's serializers.
   */
  readonly autoRegister?: boolean | undefined;
  /**
   * Writes with the newest schema of the subject instead of the serde's own; nothing is registered then. While that is looked up,
   * values must not be changed: await the publish. Default false.
   */
  readonly useLatest?: boolean | undefined;
  /** Schemas in the registry that the serde's own refers to; registered with it. */
  readonly references?: readonly SchemaReference[] | undefined;
  readonly runtime?: Partial<Runtime> | undefined;
}

interface Writer<T> {
  readonly header: Uint8Array;
  readonly write: (value: T) => Uint8Array;
  /** Monotonic milliseconds until which it counts. */
  readonly untilMs: number;
  readonly id: number;
}

/** `serde` with a schema registry; what it reads is what `serde`'s own schema makes of it. */
export function withRegistry<T>(serde: SchemaSerde<T>, options: WithRegistryOptions): Serde<T> {
  return new RegistrySerde(serde, options);
}

class RegistrySerde<T> implements Serde<T> {
  readonly name: string;
  readonly #serde: SchemaSerde<T>;
  readonly #options: WithRegistryOptions;
  readonly #runtime: Runtime;
  readonly #writers = new BoundedCache<string, Writer<T>>(MAX_ENTRIES);
  readonly #writersUnderWay = new Map<string, Promise<Writer<T>>>();
  readonly #readers = new BoundedCache<number, PayloadReader<T>>(MAX_ENTRIES);

  constructor(serde: SchemaSerde<T>, options: WithRegistryOptions) {
    this.name = serde.name;
    this.#serde = serde;
    this.#options = options;
    this.#runtime = { ...systemRuntime, ...options.runtime };
  }

  serialize(value: T, { topic }: SerdeContext): Awaitable<Uint8Array | null> {
    if (value === null) return null;
    const { subject: naming = 'topic', useLatest = false } = this.#options;
    const subject = subjectName(naming, topic, this.#serde.recordName, this.name);
    const writer = this.#writers.get(subject);
    if (writer !== undefined && writer.untilMs > this.#runtime.clock.monotonicMs())
      return this.#frame(subject, writer, value);
    if (useLatest) return this.#writerOf(subject).then((found) => this.#frame(subject, found, value));
    // Written now, so that the caller may change the value when this returns.
    const payload = this.#written(subject, undefined, () => this.#serde.write(value));
    return this.#writerOf(subject).then(({ header }) => concat(header, payload));
  }

  deserialize(bytes: Uint8Array | null): Awaitable<T> {
    if (bytes === null) return null as T;
    if (bytes.length < HEADER_BYTES || bytes[0] !== 0) throw this.#noHeader(bytes);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const id = view.getInt32(1);
    const payload = bytes.subarray(HEADER_BYTES);
    const reader = this.#readers.get(id);
    if (reader !== undefined) return this.#read(reader, id, payload);
    return this.#readerOf(id).then((found) => this.#read(found, id, payload));
  }

  #frame(subject: string, { header, write, id }: Writer<T>, value: T): Uint8Array {
    return concat(
      header,
      this.#written(subject, id, () => write(value)),
    );
  }

  #written(subject: string, schemaId: number | undefined, write: () => Uint8Array): Uint8Array {
    try {
      return write();
    } catch (error) {
      throw this.#explained(error, { subject, ...(schemaId === undefined ? {} : { schemaId }) });
    }
  }

  #read(reader: PayloadReader<T>, schemaId: number, payload: Uint8Array): T {
    try {
      return reader.read(payload);
    } catch (error) {
      throw this.#explained(error, { schemaId });
    }
  }

  #writerOf(subject: string): Promise<Writer<T>> {
    const underWay = this.#writersUnderWay.get(subject);
    if (underWay !== undefined) return underWay;
    const asked = this.#askForWriter(subject)
      .catch((error: unknown) => {
        throw this.#explained(error, { subject });
      })
      .finally(() => this.#writersUnderWay.delete(subject));
    this.#writersUnderWay.set(subject, asked);
    return asked;
  }

  async #askForWriter(subject: string): Promise<Writer<T>> {
    const { client, useLatest = false, autoRegister = true, references } = this.#options;
    const serde = this.#serde;
    if (useLatest) {
      const latest = await client.latest(subject);
      const found = await serde.writerFor(latest);
      const header = headerOf(latest.id, found.prefix);
      const write = (value: T): Uint8Array => found.write(value);
      const untilMs = this.#runtime.clock.monotonicMs() + client.latestMaxAgeMs;
      return this.#remember(subject, { id: latest.id, header, write, untilMs });
    }
    const { schemaType, schemaText: schema } = serde;
    if (schema === undefined) {
      throw SerializationError.at(
        this.name,
        '',
        'the text of its schema is not known: give it, or use the latest schema',
      );
    }
    const input = { schemaType, schema, references };
    const id = await (autoRegister ? client.register(subject, input) : client.lookUp(subject, input));
    const write = (value: T): Uint8Array => serde.write(value);
    return this.#remember(subject, {
      id,
      header: headerOf(id, serde.prefix),
      write,
      untilMs: Number.POSITIVE_INFINITY,
    });
  }

  #remember(subject: string, writer: Writer<T>): Writer<T> {
    this.#writers.set(subject, writer);
    return writer;
  }

  async #readerOf(id: number): Promise<PayloadReader<T>> {
    try {
      const schema = await this.#options.client.schema(id);
      const made = this.#serde.readerFor(schema);
      const reader = isPromise(made) ? await made : made;
      this.#readers.set(id, reader);
      return reader;
    } catch (error) {
      throw this.#explained(error, { schemaId: id });
    }
  }

  #explained(error: unknown, of: { subject?: string; schemaId?: number }): unknown {
    if (!(error instanceof SerializationError)) return error;
    const named = [
      ...(of.subject === undefined ? [] : [`subject ${of.subject}`]),
      ...(of.schemaId === undefined ? [] : [`schema ${of.schemaId}`]),
    ];
    return error.within(`${named.join(', ')}: `, { format: this.name, ...of });
  }

  #noHeader(bytes: Uint8Array): SerializationError {
    const got = bytes.length < HEADER_BYTES ? `${bytes.length} bytes` : `a first byte of ${bytes[0]}`;
    return SerializationError.at(this.name, '', `expected 0 and a schema id in front, got ${got}`);
  }
}

function headerOf(id: number, prefix: Uint8Array): Uint8Array {
  const header = new Uint8Array(HEADER_BYTES + prefix.length);
  new DataView(header.buffer).setInt32(1, id);
  header.set(prefix, HEADER_BYTES);
  return header;
}

function concat(header: Uint8Array, payload: Uint8Array): Uint8Array {
  const framed = Buffer.allocUnsafe(header.length + payload.length);
  framed.set(header);
  framed.set(payload, header.length);
  return framed;
}
