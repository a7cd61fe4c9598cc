/**
 * A bound on bytes that are held for somebody, over all who hold them. Whoever takes more looks for room first, so that
 * the overshoot is what each takes at once.
 */
export class ByteBudget {
  readonly #limitBytes: number;
  #usedBytes = 0;
  #waiting: (() => void)[] = [];

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Null when there is room now; else resolves when there may be: look again. */
  room(): Promise<void> | null {
    if (this.#usedBytes < this.#limitBytes) return null;
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  take(bytes: number): void {
    this.#usedBytes += bytes;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
    if (this.#usedBytes < this.#limitBytes && this.#waiting.length > 0) {
      for (const resume of this.#waiting.splice(0)) resume();
    }
  }
}
