/** A bounded queue between what produces and what consumes; either side waits for the other. */
export class Channel<T> implements AsyncIterable<T> {
  readonly #limit: number;
  #items: T[] = [];
  #ended = false;
  #onItem: (() => void) | null = null;
  #onRoom: (() => void) | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Null when there is room for more; else resolves when there is. */
  push(item: T): Promise<void> | null {
    this.#items.push(item);
    this.#onItem?.();
    if (this.#items.length < this.#limit) return null;
    return new Promise((resolve) => {
      this.#onRoom = resolve;
    });
  }

  end(): void {
    this.#ended = true;
    this.#onItem?.();
  }

  /** Everything that waits; null at the end. */
  async takeAll(): Promise<T[] | null> {
    while (this.#items.length === 0) {
      if (this.#ended) return null;
      await new Promise<void>((resolve) => {
        this.#onItem = resolve;
      });
      this.#onItem = null;
    }
    const items = this.#items;
    this.#items = [];
    this.#onRoom?.();
    this.#onRoom = null;
    return items;
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (let items = await this.takeAll(); items !== null; items = await this.takeAll()) yield* items;
  }
}
