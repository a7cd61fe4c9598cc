/**
 * Topics that are known to be there, so that a handler learns that one is not while its event can still be tried again.
 *
 * Bounded by {@link MAX_KNOWN_TOPICS}. One that is deleted later stays known.
 */
import type { DescribeTopic } from '../publisher/route-table.ts';

const MAX_KNOWN_TOPICS = 10_000;

export class KnownTopics {
  readonly #describe: DescribeTopic;
  readonly #known = new Set<string>();
  readonly #asked = new Map<string, Promise<void>>();

  constructor(describe: DescribeTopic) {
    this.#describe = describe;
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
      await this.#describe(topic, new AbortController().signal);
      if (this.#known.size >= MAX_KNOWN_TOPICS) this.#known.clear();
      this.#known.add(topic);
    } finally {
      this.#asked.delete(topic);
    }
  }
}
