/**
 * Bounds the bytes that reads under way may bring into memory together; who comes later waits, in order of arrival.
 *
 * The queue is as long as there are callers: each reader of the broker has one read under way.
 */
export class ReadBudget {
  #freeBytes: number;
  #users = 0;
  readonly #waiting: { readonly bytes: number; readonly start: () => void }[] = [];

  constructor(limitBytes: number) {
    this.#freeBytes = limitBytes;
  }

  /** Calls `work` when there is room for `bytes`; for more than the limit, when nothing else is under way. */
  async use<T>(bytes: number, work: () => Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || !this.#fits(bytes)) {
      await new Promise<void>((resolve) => this.#waiting.push({ bytes, start: resolve }));
    } else this.#take(bytes);
    try {
      return await work();
    } finally {
      this.#freeBytes += bytes;
      this.#users -= 1;
      for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
        this.#waiting.shift();
        this.#take(next.bytes);
        next.start();
      }
    }
  }

  #fits(bytes: number): boolean {
    return bytes <= this.#freeBytes || this.#users === 0;
  }

  #take(bytes: number): void {
    this.#freeBytes -= bytes;
    this.#users += 1;
  }
}
