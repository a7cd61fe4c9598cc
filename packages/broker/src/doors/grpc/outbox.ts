/**
 * What a stream has to say, in order, as an async iterable.
 *
 * It has no limit of its own: whoever takes the requests that it answers takes no more of them while too much waits here
 * ({@link Outbox.length}, {@link Outbox.emptied}).
 */
import { toError } from '@naru/base';

export class Outbox<T> implements AsyncIterable<T> {
  #items: T[] = [];
  #wake: (() => void) | null = null;
  #ended = false;
  #error: Error | null = null;
  #onEmptied: (() => void)[] = [];

  get length(): number {
    return this.#items.length;
  }

  push(item: T): void {
    if (this.#ended) return;
    this.#items.push(item);
    this.#wake?.();
  }

  /** The iterable ends after what is in it; with `error`, by throwing it. */
  end(error: unknown = null): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error === null ? null : toError(error);
    this.#wake?.();
    for (const resume of this.#onEmptied.splice(0)) resume();
  }

  /** Everything that waits; waits for something; null at the end. */
  async takeAll(): Promise<T[] | null> {
    while (this.#items.length === 0) {
      for (const resume of this.#onEmptied.splice(0)) resume();
      if (this.#ended) {
        if (this.#error !== null) throw this.#error;
        return null;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = null;
    }
    const items = this.#items;
    this.#items = [];
    return items;
  }

  /** Resolves when everything that was put in was taken, and the taker came back for more; at the end too. */
  emptied(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    return new Promise((resolve) => this.#onEmptied.push(resolve));
  }

  async *[Symbol.asyncIterator](): AsyncIterator<T> {
    for (let items = await this.takeAll(); items !== null; items = await this.takeAll()) yield* items;
  }
}
