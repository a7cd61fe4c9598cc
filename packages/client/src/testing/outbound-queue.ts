/**
 * Messages on their way to a connection that takes them one by one. Whoever puts them in limits how many.
 */
export class OutboundQueue<T> implements AsyncIterableIterator<T, undefined> {
  readonly #onDrain: () => void;
  #messages: T[] = [];
  #next = 0;
  #ended = false;
  #waiting: ((result: IteratorResult<T, undefined>) => void) | null = null;

  /** @param onDrain called when the connection asks for more and there is nothing */
  constructor(onDrain: () => void) {
    this.#onDrain = onDrain;
  }

  get length(): number {
    return this.#messages.length - this.#next;
  }

  push(message: T): void {
    if (this.#ended) return;
    const waiting = this.#waiting;
    if (waiting === null) {
      this.#messages.push(message);
      return;
    }
    this.#waiting = null;
    waiting({ done: false, value: message });
  }

  end(): void {
    this.#ended = true;
    this.#waiting?.({ done: true, value: undefined });
    this.#waiting = null;
  }

  next(): Promise<IteratorResult<T, undefined>> {
    if (this.#next < this.#messages.length) {
      const value = this.#messages[this.#next] as T;
      this.#next += 1;
      if (this.#next === this.#messages.length) {
        this.#messages = [];
        this.#next = 0;
      }
      return Promise.resolve({ done: false, value });
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    const promise = new Promise<IteratorResult<T, undefined>>((resolve) => {
      this.#waiting = resolve;
    });
    this.#onDrain();
    return promise;
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#drop();
    return Promise.resolve({ done: true, value: undefined });
  }

  /** The connection failed. */
  throw(): Promise<IteratorResult<T, undefined>> {
    return this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #drop(): void {
    this.#messages = [];
    this.#next = 0;
    this.end();
  }
}
