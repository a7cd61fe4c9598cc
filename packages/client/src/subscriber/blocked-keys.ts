/**
 * Which keys of a partition must not be handled here because the broker keeps events of them (DESIGN §4): what is read of them is
 * held, so that it queues up behind those.
 *
 * The broker tells when a key becomes blocked and when it is free. It cannot know what this member is about to tell it, so
 * `unblocked` is passed over for a key that is about to be blocked again, or of which an event that the broker kept is in hand;
 * the broker says it again the next time that nothing of the key is left.
 *
 * Invariant: while a held outcome of a key is not answered, or a kept event of it is in hand, the key is blocked.
 */
import { keyId } from '@naru/protocol';
import type { StreamedRecord } from '@naru/protocol/batch';

export class BlockedKeys {
  readonly #told = new Set<string>();
  /** Held outcomes that are not sent, by key. */
  readonly #unsent = new Map<string, number>();
  /** Held outcomes that are sent and not answered, by key. */
  readonly #unanswered = new Map<string, number>();
  /** Kept events that the broker has given and whose outcome is not sent, by key. */
  readonly #inHand = new Map<string, number>();

  constructor(told: Iterable<string> = []) {
    for (const key of told) this.#told.add(key);
  }

  /** Whether nothing at all is blocked, so that nobody needs to know the id of a key. */
  get isEmpty(): boolean {
    return this.#told.size === 0 && this.#unsent.size === 0 && this.#unanswered.size === 0 && this.#inHand.size === 0;
  }

  isBlocked(keyId: string): boolean {
    return this.#told.has(keyId) || this.#unsent.has(keyId) || this.#unanswered.has(keyId) || this.#inHand.has(keyId);
  }

  blocked(keyId: string): void {
    this.#told.add(keyId);
  }

  /**
   * The broker has nothing of the key left.
   *
   * @returns `free`: it is not blocked any more; `unsent`: it is only by held outcomes that were not sent, which may be taken back;
   *   `ignored`: the broker will say it again
   */
  unblocked(keyId: string): 'free' | 'unsent' | 'ignored' {
    if (this.#unanswered.has(keyId) || this.#inHand.has(keyId)) return 'ignored';
    this.#told.delete(keyId);
    return this.#unsent.has(keyId) ? 'unsent' : 'free';
  }

  /** An event of the key will be given to the broker. */
  hold(keyId: string): void {
    add(this.#unsent, keyId, 1);
  }

  /** It will not, after all. */
  takeBack(keyId: string): void {
    add(this.#unsent, keyId, -1);
  }

  sent(keyId: string): void {
    add(this.#unsent, keyId, -1);
    add(this.#unanswered, keyId, 1);
  }

  refused(keyId: string): void {
    add(this.#unanswered, keyId, -1);
    add(this.#unsent, keyId, 1);
  }

  /** The broker has it, so that the key is blocked until the broker says otherwise. */
  accepted(keyId: string): void {
    add(this.#unanswered, keyId, -1);
    if (keyId !== '') this.#told.add(keyId);
  }

  /** The broker has given a kept event. */
  received(keyId: string): void {
    add(this.#inHand, keyId, 1);
  }

  /** The outcome of a kept event is on its way. */
  resolved(keyId: string): void {
    add(this.#inHand, keyId, -1);
  }
}

/** Keyless events have no id and are nobody's successors. */
function add(counts: Map<string, number>, keyId: string, change: number): void {
  if (keyId === '') return;
  const count = (counts.get(keyId) ?? 0) + change;
  if (count > 0) counts.set(keyId, count);
  else counts.delete(keyId);
}

/** Empty for a record without a key. */
export function recordKeyId({ key }: Pick<StreamedRecord, 'key'>): string {
  return key === null ? '' : keyId(key);
}
