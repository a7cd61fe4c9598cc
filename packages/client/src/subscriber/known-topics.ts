/**
 * Topics that are known to be there, so that a handler learns that one is not while its event can still be tried again.
 *
 * A broker that cannot be reached says nothing about a topic, nor about the event of the handler that asks: it is asked again, as long
 * as a publish would be tried. Bounded by {@link MAX_KNOWN_TOPICS}. One that is deleted later stays known.
 */
import { delay } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import type { BackoffPolicy } from '../backoff.ts';
import { backoffMs } from '../backoff.ts';
import type { DescribeTopic } from '../publisher/route-table.ts';
import type { Runtime } from '../runtime.ts';

const MAX_KNOWN_TOPICS = 10_000;

export interface KnownTopicsOptions {
  readonly runtime: Runtime;
  readonly describeTopic: DescribeTopic;
  readonly retry: BackoffPolicy;
  /** How long it is tried to find out about a topic. */
  readonly timeoutMs: number;
}

export class KnownTopics {
  readonly #options: KnownTopicsOptions;
  readonly #known = new Set<string>();
  readonly #asked = new Map<string, Promise<void>>();

  constructor(options: KnownTopicsOptions) {
    this.#options = options;
  }

  /** Rejects when there is no such topic, or that cannot be found out. Undefined: there is one. */
  check(topic: string): Promise<void> | undefined {
    if (this.#known.has(topic)) return undefined;
    const asked = this.#asked.get(topic) ?? this.#ask(topic);
    this.#asked.set(topic, asked);
    return asked;
  }

  /** It turned out not to be there. */
  forget(topic: string): void {
    this.#known.delete(topic);
  }

  async #ask(topic: string): Promise<void> {
    try {
      await this.#describe(topic);
      if (this.#known.size >= MAX_KNOWN_TOPICS) this.#known.clear();
      this.#known.add(topic);
    } finally {
      this.#asked.delete(topic);
    }
  }

  async #describe(topic: string): Promise<void> {
    const { runtime, describeTopic, retry, timeoutMs } = this.#options;
    const givenUpMs = runtime.clock.monotonicMs() + timeoutMs;
    for (let failures = 1; ; failures++) {
      try {
        await describeTopic(topic, new AbortController().signal);
        return;
      } catch (error) {
        const waitMs = backoffMs(retry, failures, runtime.random);
        const mayPass = isNaruError(error) && error.retriable;
        if (!mayPass || runtime.clock.monotonicMs() + waitMs > givenUpMs) throw error;
        await delay(runtime.timers, waitMs);
      }
    }
  }
}
