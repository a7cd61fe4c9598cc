/**
 * What one partition of a staged group holds back from its reader: events that were passed over, in the order of offsets,
 * and by key.
 *
 * Owns the rule of order per key: an event whose key has an earlier one here comes here too, and leaves after it. Does not own
 * what is released (core/group/gate.ts).
 */
import { isReleased, type GateView } from '../core/group/index.ts';

interface WithheldEvent {
  /** Empty for an event without a key, which waits for no other. */
  readonly keyId: string;
  /** The subscriber knows that it was passed over. Until then it cannot come late. */
  told: boolean;
}

export interface WithheldAs {
  readonly offset: number;
  readonly keyId: string;
  /** Released itself, and behind an earlier event of its key. */
  readonly behindKey: boolean;
}

export class WithheldEvents {
  /** In the order of offsets. */
  #events = new Map<number, WithheldEvent>();
  /** How many of a key there are. */
  readonly #keys = new Map<string, number>();

  get size(): number {
    return this.#events.size;
  }

  /** The first offset; undefined for none. */
  get first(): number | undefined {
    return this.#events.keys().next().value;
  }

  has(offset: number): boolean {
    return this.#events.has(offset);
  }

  hasKey(keyId: string): boolean {
    return keyId !== '' && this.#keys.has(keyId);
  }

  /** @param offset beyond all others */
  add(offset: number, keyId: string): void {
    this.#events.set(offset, { keyId, told: false });
    this.#keys.set(keyId, (this.#keys.get(keyId) ?? 0) + 1);
  }

  /** Events that were given late, and are not after all: the subscriber knows of them. */
  putBack(events: readonly { readonly offset: number; readonly keyId: string }[]): void {
    for (const { offset, keyId } of events) {
      if (this.#events.has(offset)) continue;
      this.add(offset, keyId);
      (this.#events.get(offset) as WithheldEvent).told = true;
    }
    this.#events = new Map([...this.#events].sort(([a], [b]) => a - b));
  }

  told(offset: number): void {
    const event = this.#events.get(offset);
    if (event !== undefined) event.told = true;
  }

  delete(offset: number): void {
    const event = this.#events.get(offset);
    if (event === undefined) return;
    this.#events.delete(offset);
    const left = (this.#keys.get(event.keyId) ?? 1) - 1;
    if (left === 0) this.#keys.delete(event.keyId);
    else this.#keys.set(event.keyId, left);
  }

  deleteFrom(offset: number): void {
    for (const at of this.#events.keys()) if (at >= offset) this.delete(at);
  }

  clear(): void {
    this.#events.clear();
    this.#keys.clear();
  }

  /** What may be given now, in the order of offsets: of each key what is released up to the first that is not. */
  given(view: GateView): Map<number, string> {
    const given = new Map<number, string>();
    const stopped = new Set<string>();
    for (const [offset, { keyId, told }] of this.#events) {
      if (stopped.has(keyId)) continue;
      if (told && isReleased(view, offset)) given.set(offset, keyId);
      else if (keyId !== '') stopped.add(keyId);
    }
    return given;
  }

  *all(view: GateView): Generator<WithheldAs> {
    for (const [offset, { keyId }] of this.#events) yield { offset, keyId, behindKey: isReleased(view, offset) };
  }
}
