/**
 * Memory for answers with records: what clients have not taken, and what is being read for them, over all connections.
 *
 * A fetch begins only when there is room, and then gets a share of it: many that begin at once find out what they hold only
 * when they have it. Those that wait for records hold nothing, but may at any moment.
 */
import { ByteBudget } from '../../service/byte-budget.ts';

/** Of one answer, plus one batch. */
const MAX_SHARE_BYTES = 16 * 1024 * 1024;
const MIN_SHARE_BYTES = 256 * 1024;

export class AnswerMemory {
  readonly #limitBytes: number;
  readonly #unsent: ByteBudget;
  #open = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
    this.#unsent = new ByteBudget(limitBytes);
  }

  get unsentBytes(): number {
    return this.#unsent.usedBytes;
  }

  /** Null when a fetch may begin; else resolves when to look again. */
  room(): Promise<void> | null {
    return this.#unsent.room();
  }

  /** A fetch begins: bytes that it may read, plus one batch. */
  begin(): number {
    this.#open += 1;
    const free = Math.max(0, this.#limitBytes - this.#unsent.usedBytes);
    return Math.min(MAX_SHARE_BYTES, Math.max(MIN_SHARE_BYTES, Math.floor(free / this.#open)));
  }

  /** It is answered. */
  end(): void {
    this.#open -= 1;
  }

  /** An answer waits until its client takes it. */
  hold(bytes: number): void {
    this.#unsent.take(bytes);
  }

  release(bytes: number): void {
    this.#unsent.release(bytes);
  }
}
