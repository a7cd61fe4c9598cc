/**
 * A client of a schema registry with Confluent's REST API: the broker's own, or any other.
 *
 * Owns what is known of schemas: an id's schema never changes, so it is asked for once; what is the latest version of a subject
 * is asked again after a while. Everything is bounded. Requests for the same thing at the same time are one.
 */
import { NaruError } from '@naru/protocol';
import { systemRuntime } from '../../runtime.ts';
import type { Runtime } from '../../runtime.ts';
import type { BackoffPolicy } from '../../backoff.ts';
import type { NamedSchema, SchemaSource, SchemaType } from '../schema-serde.ts';
import { SerializationError } from '../serialization-error.ts';
import { BoundedCache } from './bounded-cache.ts';
import { RegistryHttp, RegistryRefusal } from './registry-http.ts';

/** Schemas, ids and subjects that are remembered, each. */
const MAX_ENTRIES = 1_000;
/** Schemas that one schema may refer to, directly or not. */
const MAX_REFERENCES = 1_000;
const BACKOFF: BackoffPolicy = { initialMs: 100, factor: 2, maxMs: 2_000, jitter: 0.2 };

export interface SchemaRegistryOptions {
  /**
   * Its address, such as `http://localhost:9092`; `host:port` will do, and credentials may stand in it. Of several, the next is
   * asked when one does not answer.
   */
  readonly url: string | readonly string[];
  /** For every request, such as `authorization`. */
  readonly headers?: Readonly<Record<string, string>> | undefined;
  /** Milliseconds for one request. Default 10 s. */
  readonly timeoutMs?: number | undefined;
  /** How often a request that fails for the network's or the registry's sake is made in all. Default 4. */
  readonly attempts?: number | undefined;
  /** How long a subject's latest version counts as the latest. Default 60 s. */
  readonly latestMaxAgeMs?: number | undefined;
  /** How long an id or subject that is not there is not asked for again. Default 10 s. */
  readonly missingMaxAgeMs?: number | undefined;
  readonly fetch?: typeof fetch | undefined;
  readonly runtime?: Partial<Runtime> | undefined;
}

/** Another schema, in the registry. */
export interface SchemaReference {
  /** Avro: full name; JSON Schema: URI; Protobuf: path of the import. */
  readonly name: string;
  readonly subject: string;
  readonly version: number;
}

/** What is registered. */
export interface SchemaInput {
  readonly schemaType: SchemaType;
  readonly schema: string;
  readonly references?: readonly SchemaReference[] | undefined;
}

export interface RegisteredSchema extends SchemaSource {
  readonly id: number;
}

interface Answer {
  readonly id?: unknown;
  readonly version?: unknown;
  readonly schema?: unknown;
  readonly schemaType?: unknown;
  readonly references?: unknown;
}

interface Remembered<T> {
  readonly value: T;
  readonly untilMs: number;
}

export class SchemaRegistryClient {
  readonly #http: RegistryHttp;
  readonly #runtime: Runtime;
  readonly #latestMaxAgeMs: number;
  readonly #missingMaxAgeMs: number;
  readonly #schemas = new BoundedCache<number, RegisteredSchema>(MAX_ENTRIES);
  readonly #ids = new BoundedCache<string, number>(MAX_ENTRIES);
  readonly #latest = new BoundedCache<string, Remembered<RegisteredSchema>>(MAX_ENTRIES);
  readonly #missing = new BoundedCache<string, Remembered<RegistryRefusal>>(MAX_ENTRIES);
  readonly #underWay = new Map<string, Promise<unknown>>();

  constructor(options: SchemaRegistryOptions) {
    const { timeoutMs = 10_000, attempts = 4, latestMaxAgeMs = 60_000, missingMaxAgeMs = 10_000 } = options;
    this.#runtime = { ...systemRuntime, ...options.runtime };
    this.#latestMaxAgeMs = latestMaxAgeMs;
    this.#missingMaxAgeMs = missingMaxAgeMs;
    const addresses = (typeof options.url === 'string' ? [options.url] : options.url).map(registryAddress);
    const authorization = addresses.find((address) => address.authorization !== undefined)?.authorization;
    this.#http = new RegistryHttp({
      urls: addresses.map(({ url }) => url),
      headers: { ...(authorization === undefined ? {} : { authorization }), ...options.headers },
      fetch: options.fetch ?? fetch,
      timeoutMs,
      attempts,
      backoff: BACKOFF,
      timers: this.#runtime.timers,
      random: this.#runtime.random,
    });
  }

  /** The schema of an id, with everything that it refers to. */
  schema(id: number): Promise<RegisteredSchema> {
    const known = this.#schemas.get(id);
    if (known !== undefined) return Promise.resolve(known);
    return this.#once(`id ${id}`, async () => {
      const answer = (await this.#http.call('GET', ['schemas', 'ids', String(id)])) as Answer;
      return this.#remember(await this.#resolve(id, answer));
    });
  }

  /** Registers a schema, unless it is there already. @returns its id */
  register(subject: string, input: SchemaInput): Promise<number> {
    const path = ['subjects', subject, 'versions'];
    return this.#idOf(`register ${subject}`, path, input);
  }

  /** The id of a schema that is registered under a subject. @throws RegistryRefusal 40401, 40403 when it is not */
  lookUp(subject: string, input: SchemaInput): Promise<number> {
    return this.#idOf(`look up ${subject}`, ['subjects', subject], input);
  }

  /** The newest version of a subject. @throws RegistryRefusal 40401 for none */
  latest(subject: string): Promise<RegisteredSchema> {
    const known = this.#latest.get(subject);
    if (known !== undefined && known.untilMs > this.#nowMs()) return Promise.resolve(known.value);
    return this.#once(`latest ${subject}`, async () => {
      const answer = (await this.#http.call('GET', ['subjects', subject, 'versions', 'latest'])) as Answer;
      const id = wholeNumber(answer.id, 'id');
      const value = this.#schemas.get(id) ?? this.#remember(await this.#resolve(id, answer));
      this.#latest.set(subject, { value, untilMs: this.#nowMs() + this.#latestMaxAgeMs });
      return value;
    });
  }

  /** How long {@link latest} answers the same, milliseconds. */
  get latestMaxAgeMs(): number {
    return this.#latestMaxAgeMs;
  }

  #idOf(what: string, path: readonly string[], { schemaType, schema, references = [] }: SchemaInput): Promise<number> {
    const body = {
      schema,
      ...(schemaType === 'AVRO' ? {} : { schemaType }),
      ...(references.length === 0 ? {} : { references }),
    };
    const key = `${what} ${JSON.stringify(body)}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return Promise.resolve(known);
    return this.#once(key, async () => {
      const id = wholeNumber(((await this.#http.call('POST', path, body)) as Answer).id, 'id');
      this.#ids.set(key, id);
      return id;
    });
  }

  async #resolve(id: number, answer: Answer): Promise<RegisteredSchema> {
    const references: NamedSchema[] = [];
    await this.#collect(answer, references, new Set());
    return { id, schemaType: typeOf(answer.schemaType), schema: text(answer.schema, 'schema'), references };
  }

  /** What `answer` refers to, depth first, so that everything comes after what it refers to. */
  async #collect(answer: Answer, found: NamedSchema[], seen: Set<string>): Promise<void> {
    for (const { name, subject, version } of referencesOf(answer.references)) {
      const key = `${subject}/${version}/${name}`;
      if (seen.has(key)) continue;
      seen.add(key);
      if (seen.size > MAX_REFERENCES) throw malformed(`a schema refers to more than ${MAX_REFERENCES} others`);
      const referred = (await this.#http.call('GET', ['subjects', subject, 'versions', String(version)])) as Answer;
      await this.#collect(referred, found, seen);
      found.push({ name, schema: text(referred.schema, 'schema') });
    }
  }

  #remember(schema: RegisteredSchema): RegisteredSchema {
    this.#schemas.set(schema.id, schema);
    return schema;
  }

  /** One request for all who ask for the same; what is not there is remembered for a moment. */
  #once<T>(key: string, ask: () => Promise<T>): Promise<T> {
    const missing = this.#missing.get(key);
    if (missing !== undefined && missing.untilMs > this.#nowMs()) return Promise.reject(missing.value);
    const underWay = this.#underWay.get(key) as Promise<T> | undefined;
    if (underWay !== undefined) return underWay;
    const asked = ask()
      .catch((error: unknown) => {
        if (error instanceof RegistryRefusal && error.status === 404)
          this.#missing.set(key, { value: error, untilMs: this.#nowMs() + this.#missingMaxAgeMs });
        throw error;
      })
      .finally(() => this.#underWay.delete(key));
    this.#underWay.set(key, asked);
    return asked;
  }

  #nowMs(): number {
    return this.#runtime.clock.monotonicMs();
  }
}

/** Credentials of an address belong into a header: `fetch` refuses them where they stand. */
function registryAddress(address: string): { url: string; authorization: string | undefined } {
  const full = /^https?:\/\//i.test(address) ? address : `http://${address}`;
  if (!URL.canParse(full))
    throw new NaruError('INVALID_CONFIGURATION', `not the address of a schema registry: ${address}`);
  const url = new URL(full);
  const credentials = `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}`;
  url.username = '';
  url.password = '';
  const authorization = credentials === ':' ? undefined : `Basic ${Buffer.from(credentials).toString('base64')}`;
  return { url: url.href.replace(/\/+$/, ''), authorization };
}

function typeOf(type: unknown): SchemaType {
  if (type === undefined || type === null || type === 'AVRO') return 'AVRO';
  if (type === 'JSON' || type === 'PROTOBUF') return type;
  throw malformed(`schemas of type ${JSON.stringify(type)} are not known`);
}

function referencesOf(references: unknown): SchemaReference[] {
  if (references === undefined || references === null) return [];
  if (!Array.isArray(references)) throw malformed('its references are no array');
  return (references as unknown[]).map((reference) => {
    const { name, subject, version } = reference as Readonly<Record<string, unknown>>;
    return { name: text(name, 'name'), subject: text(subject, 'subject'), version: wholeNumber(version, 'version') };
  });
}

function wholeNumber(value: unknown, what: string): number {
  if (Number.isSafeInteger(value)) return value as number;
  throw malformed(`an answer without ${what}`);
}

function text(value: unknown, what: string): string {
  if (typeof value === 'string') return value;
  throw malformed(`an answer without ${what}`);
}

function malformed(message: string): SerializationError {
  return SerializationError.at('schema registry', '', message);
}
