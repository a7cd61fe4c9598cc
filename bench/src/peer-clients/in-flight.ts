/** Promises of acknowledgements, so many at once. */

export class InFlight {
  readonly #limit: number;
  #open = 0;
  #failure: Error | null = null;
  #waiting: (() => void) | null = null;

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Counts one that has begun. */
  add(acknowledged: Promise<unknown>): void {
    this.begin();
    acknowledged.then(
      () => this.end(),
      (error: unknown) => this.end(error),
    );
  }

  begin(): void {
    this.#open += 1;
  }

  /** @param error when it failed; the next wait says so */
  end(error: unknown = null): void {
    this.#open -= 1;
    if (error !== null && error !== undefined) this.#failure ??= failureOf(error);
    this.#waiting?.();
  }

  /** Resolves when there is room for one more. One caller at a time. */
  room(): Promise<void> | void {
    if (this.#open >= this.#limit || this.#failure !== null) return this.#until(this.#limit - 1);
  }

  /** Resolves when all have come. */
  empty(): Promise<void> {
    return this.#until(0);
  }

  async #until(open: number): Promise<void> {
    while (this.#open > open && this.#failure === null) {
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
      this.#waiting = null;
    }
    if (this.#failure !== null) throw this.#failure;
  }
}

/** What a client says of what was not acknowledged: an error, or only its number. */
export function failureOf(said: unknown): Error {
  return said instanceof Error ? said : new Error(`not acknowledged: ${JSON.stringify(said)}`);
}
