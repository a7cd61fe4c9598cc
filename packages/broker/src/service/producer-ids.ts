/** Gives producer ids, never one twice: blocks of them are reserved in the metadata before any of a block is given. */
import { NaruError } from '@naru/protocol';
import type { MetadataStore } from '../metadata/metadata-store.ts';

const KEY = 'producer-ids';
const BLOCK_SIZE = 1_000;
const MAX_ATTEMPTS = 10;

export class ProducerIds {
  readonly #metadata: MetadataStore;
  #next = 0;
  #end = 0;
  #reserving: Promise<void> | null = null;

  constructor(metadata: MetadataStore) {
    this.#metadata = metadata;
  }

  async next(): Promise<number> {
    while (this.#next >= this.#end) {
      this.#reserving ??= this.#reserve().finally(() => {
        this.#reserving = null;
      });
      await this.#reserving;
    }
    return this.#next++;
  }

  async #reserve(): Promise<void> {
    for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
      const { entries } = await this.#metadata.snapshot();
      const entry = entries.find(({ key }) => key === KEY);
      const from = entry === undefined ? 1 : Number(entry.value);
      const to = from + BLOCK_SIZE;
      const result = await this.#metadata.commit(
        [{ key: KEY, revision: entry?.revision ?? 0 }],
        [{ key: KEY, value: to }],
      );
      if (!result.ok) continue;
      this.#next = from;
      this.#end = to;
      return;
    }
    throw new NaruError('OVERLOADED', 'producer ids could not be reserved: too many brokers try at once');
  }
}
