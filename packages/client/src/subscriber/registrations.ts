/** Who handles which event: by topic, and within a topic by CloudEvents type. */
import { NaruError } from '@naru/protocol';
import type { StreamedRecord } from '@naru/protocol/batch';
import type { Serde } from '../serde/serde.ts';
import { bytes, json, string } from '../serde/serde.ts';
import type { SubscriberSettings } from '../settings.ts';
import type { BatchHandler, Handler } from './event.ts';

export type Registration = {
  readonly serde: Serde<unknown>;
  /** Of an event of the catalog, in place of the subscriber's. */
  readonly retry?: SubscriberSettings['retry'] | undefined;
} & (
  | { readonly kind: 'event'; readonly handler: Handler<unknown> }
  | { readonly kind: 'batch'; readonly handler: BatchHandler<unknown> }
);

/** Of one topic. */
interface TopicHandlers {
  /** Of every event that no type claims. */
  any: Registration | null;
  readonly byType: Map<string, Registration>;
}

const decoder = new TextDecoder();
const LAZY: ReadonlySet<unknown> = new Set<unknown>([json, bytes, string]);

export class Registrations {
  readonly #topics = new Map<string, TopicHandlers>();

  get topics(): string[] {
    return [...this.#topics.keys()];
  }

  /** How values are read, of all handlers. */
  *serdes(): Iterable<Serde<unknown>> {
    for (const { any, byType } of this.#topics.values()) {
      if (any !== null) yield any.serde;
      for (const { serde } of byType.values()) yield serde;
    }
  }

  /** @param type of events; undefined for all that no other handler of the topic wants */
  add(topic: string, type: string | undefined, registration: Registration): void {
    const handlers = this.#topics.get(topic) ?? { any: null, byType: new Map<string, Registration>() };
    const hasBatch = handlers.any?.kind === 'batch';
    if (type === undefined ? handlers.any !== null : handlers.byType.has(type)) {
      const what = type === undefined ? topic : `${type} of ${topic}`;
      throw new NaruError('INVALID_REQUEST', `${what} has a handler already`);
    }
    if (hasBatch || (registration.kind === 'batch' && handlers.byType.size > 0)) {
      throw new NaruError('INVALID_REQUEST', `${topic} has a batch handler, which gets all of its events`);
    }
    if (type === undefined) handlers.any = registration;
    else handlers.byType.set(type, registration);
    this.#topics.set(topic, handlers);
  }

  /** Whether the topic's events are handled in batches. */
  isBatch(topic: string): boolean {
    return this.#topics.get(topic)?.any?.kind === 'batch';
  }

  /** Null when nobody handles it. */
  find(topic: string, record: Pick<StreamedRecord, 'headerValue'>): Registration | null {
    const handlers = this.#topics.get(topic);
    if (handlers === undefined) return null;
    if (handlers.byType.size === 0) return handlers.any;
    const value = record.headerValue('ce_type');
    const type = value == null ? undefined : decoder.decode(value);
    return (type === undefined ? undefined : handlers.byType.get(type)) ?? handlers.any;
  }
}

/** Whether values are read when the handler asks for them, and not before. */
export function readsLazily({ serde }: Registration): boolean {
  return LAZY.has(serde);
}
