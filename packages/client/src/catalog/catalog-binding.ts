/**
 * A catalog in use by a connection: what publishing and handling an event by its name mean. Options that a program gives win.
 */
import { NaruError } from '@naru/protocol';
import type { EnqueueOptions } from '../publish-options.ts';
import type { SchemaSerde } from '../serde/schema-serde.ts';
import type { Awaitable, Serde, SerdeContext } from '../serde/serde.ts';
import { bytes, json, string } from '../serde/serde.ts';
import { withRegistry } from '../serde/registry/with-registry.ts';
import type { SchemaRegistryClient } from '../serde/registry/schema-registry-client.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { Catalog } from './catalog.ts';
import type { CatalogEvent } from './catalog-event.ts';

/** What a subscriber has to know to handle an event. */
export interface EventHandling {
  readonly topic: string;
  /** Undefined where the topic has no other events: then all that is in it is taken for this one. */
  readonly type: string | undefined;
  readonly serde: Serde<unknown>;
  readonly retry: SubscriberSettings['retry'];
}

export class CatalogBinding {
  readonly catalog: Catalog;
  readonly #registry: () => SchemaRegistryClient;
  readonly #serdes = new Map<string, Serde<unknown>>();
  #client: SchemaRegistryClient | undefined;

  /** @param registry makes the client that events with `registry: true` are written with */
  constructor(catalog: Catalog, registry: () => SchemaRegistryClient) {
    this.catalog = catalog;
    this.#registry = registry;
  }

  /**
   * The options to publish with, to the event's topic.
   *
   * @throws SerializationError when the value has no key
   */
  publishing<Options extends EnqueueOptions>(event: CatalogEvent, value: unknown, given: Options): Options {
    const key = given.key === undefined ? event.keyOf(value) : given.key;
    return { ...given, key, type: given.type ?? event.name, serde: given.serde ?? this.#serde(event) };
  }

  /** @throws NaruError INVALID_REQUEST for an event that the catalog does not have */
  handling(group: string, name: string, settings: SubscriberSettings['retry']): EventHandling {
    const event = this.catalog.event(name);
    return {
      topic: event.topic,
      type: this.catalog.eventsOf(event.topic).length > 1 ? event.name : undefined,
      serde: this.#serde(event),
      retry: event.retryOf(group, settings),
    };
  }

  /** What the catalog says of a group in place of the settings; undefined fields: nothing. */
  groupSettings(group: string): Partial<SubscriberSettings> {
    const { guarantee, poll, concurrency, unhandled } = this.catalog.groups.get(group) ?? {};
    const said: Record<string, unknown> = { guarantee, pollWaitMs: poll, concurrency, unhandled };
    return Object.fromEntries(Object.entries(said).filter(([, value]) => value !== undefined));
  }

  /** Loads what serdes of the catalog need, so that a broken schema ends a program and not an event. @throws NaruError */
  async load(serdes: Iterable<Serde<unknown>>): Promise<void> {
    for (const serde of serdes) if (serde instanceof EventSerde) await serde.load();
  }

  #serde(event: CatalogEvent): Serde<unknown> {
    const known = this.#serdes.get(event.name);
    if (known !== undefined) return known;
    const made = this.#makeSerde(event);
    this.#serdes.set(event.name, made);
    return made;
  }

  #makeSerde(event: CatalogEvent): Serde<unknown> {
    if (event.format === 'string') return string;
    if (event.format === 'bytes') return bytes;
    if (event.schema === undefined) return json;
    return new EventSerde(event, async () => {
      const serde = await event.localSerde();
      const { subject } = event;
      if (subject === undefined) return serde;
      this.#client ??= this.#registry();
      // Schemas are changed by `naru catalog apply`, not by whoever publishes first.
      const options = { client: this.#client, subject: () => subject, autoRegister: false };
      return withRegistry(serde as SchemaSerde<unknown>, options);
    });
  }
}

/** A serde that is loaded when it is needed first. */
class EventSerde implements Serde<unknown> {
  readonly name: string;
  readonly #event: CatalogEvent;
  readonly #make: () => Promise<Serde<unknown>>;
  #loaded: Serde<unknown> | undefined;
  #loading: Promise<Serde<unknown>> | undefined;

  constructor(event: CatalogEvent, make: () => Promise<Serde<unknown>>) {
    this.name = event.format;
    this.#event = event;
    this.#make = make;
  }

  /** @throws NaruError INVALID_CONFIGURATION, which says nothing about any event */
  load(): Promise<Serde<unknown>> {
    this.#loading ??= this.#make().then(
      (serde) => (this.#loaded = serde),
      (error: unknown) => {
        throw this.#event.failed(error);
      },
    );
    return this.#loading;
  }

  serialize(value: unknown, context: SerdeContext): Awaitable<Uint8Array | null> {
    if (this.#loaded !== undefined) return this.#loaded.serialize(value, context);
    return this.load().then((serde) => serde.serialize(value, context));
  }

  deserialize(payload: Uint8Array | null, context: SerdeContext): Awaitable<unknown> {
    if (this.#loaded !== undefined) return this.#loaded.deserialize(payload, context);
    return this.load().then((serde) => serde.deserialize(payload, context));
  }
}

/** @throws NaruError INVALID_REQUEST for an event that shares its topic, since a batch holds all of a topic's events */
export function checkBatchHandling(name: string, { type, topic }: EventHandling): void {
  if (type === undefined) return;
  const message = `handleBatch gets all events of a topic, and ${topic} has others than ${name}: use handle()`;
  throw new NaruError('INVALID_REQUEST', message);
}
