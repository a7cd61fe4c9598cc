/** What can be said of an event when it is published. */
import type { RecordHeader } from '@naru/protocol/batch';
import type { CallOptions } from './call-options.ts';
import type { Serde } from './serde/serde.ts';

export type HeadersInput = readonly RecordHeader[] | Readonly<Record<string, string | Uint8Array | null>>;

export interface EnqueueOptions {
  /** What is kept in order: events with equal keys go to one partition. Text is encoded as UTF-8. Default: none. */
  readonly key?: string | Uint8Array | null | undefined;
  readonly headers?: HeadersInput | undefined;
  /** Overrides what the key decides. */
  readonly partition?: number | undefined;
  /** Default: now. */
  readonly timestamp?: number | Date | undefined;
  /** How the value is written. Default JSON. */
  readonly serde?: Serde<unknown> | undefined;
  /**
   * CloudEvents attributes, unless the setting `publisher.cloudEvents` is off: what it is called by whoever handles it by type (default:
   * the topic), who says it (default: `/` and the client id), and its own id (default: a new UUIDv7).
   */
  readonly type?: string | undefined;
  readonly source?: string | undefined;
  readonly id?: string | undefined;
  /** W3C trace context, as the header of the same name. */
  readonly traceparent?: string | undefined;
}

export interface PublishOptions extends EnqueueOptions, CallOptions {
  /**
   * What the promise waits for: that the event is stored (the default), or that every group that is declared for the topic has
   * processed it, as by `naru.wait`.
   */
  readonly until?: 'stored' | 'processed' | undefined;
}
