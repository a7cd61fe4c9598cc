/**
 * Gives producer ids, never one twice: blocks of them are reserved in the metadata before any of a block is given. So it knows of
 * every id whether it may have been given.
 */
import { NaruError } from '@naru/protocol';
import type { MetadataStore } from '../metadata/metadata-store.ts';

const KEY = 'producer-ids';
const FIRST_ID = 1;
const BLOCK_SIZE = 1_000;
const MAX_ATTEMPTS = 10;

export class ProducerIds {
  readonly #metadata: MetadataStore;
  #next: number;
  #end: number;
  #reserving: Promise<void> | null = null;

  /** @param next the first id that is not reserved */
  private constructor(metadata: MetadataStore, next: number) {
    this.#metadata = metadata;
    this.#next = next;
    this.#end = next;
  }

  static async open(metadata: MetadataStore): Promise<ProducerIds> {
    const { entries } = await metadata.snapshot();
    return new ProducerIds(metadata, Number(entries.find(({ key }) => key === KEY)?.value ?? FIRST_ID));
  }

  /** Whether the id was given, by this start or an earlier one. Those that an earlier one reserved and did not give count too. */
  isIssued(producerId: number): boolean {
    return producerId >= FIRST_ID && producerId < this.#next;
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
      const from = entry === undefined ? FIRST_ID : Number(entry.value);
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
