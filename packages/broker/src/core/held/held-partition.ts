/**
 * The held events of a group in one partition, by offset, and what is to be known of them without looking at all.
 *
 * Owns the key queues and everything that derives from them: which keys are blocked, which event of a key comes next, and
 * when. Does not own who was given what (service/held-feed.ts). Changed by evolveGroup only.
 *
 * Invariants: of a key queue at most one event is deliverable; a key is blocked while one waits, and where dead letters park
 * their key, while one is dead; each change of that is in the change log, or the log says that it does not reach that far back.
 */
import type { HeldEvent } from './held-event.ts';
import { firstNotBelow, insertSorted, KeyQueue, removeSorted } from './key-queue.ts';
import { OffsetHeap } from './offset-heap.ts';

/** Changes of keys that are remembered; who asks for older ones is told of all keys. */
export const MAX_KEY_CHANGES = 10_000;

export interface Deliverable {
  readonly offset: number;
  readonly event: HeldEvent;
}

export interface Deliverables {
  readonly events: readonly Deliverable[];
  /** When the next one is due that is not due yet; null when there is none. Not to be used when `events` is full. */
  readonly nextDueMs: number | null;
}

export interface KeyChanges {
  /** To be given the next time. */
  readonly version: number;
  /** All blocked keys; what is not in here is not blocked. */
  readonly isWhole: boolean;
  readonly blocked: readonly string[];
  readonly unblocked: readonly string[];
}

interface Offered {
  readonly atMs: number;
  readonly offset: number;
  readonly event: HeldEvent;
}

export class HeldPartition extends Map<number, HeldEvent> {
  readonly #keys = new Map<string, KeyQueue>();
  /** Dead letters, and what was redriven and not handled yet. */
  readonly #letters = new Set<number>();
  #sortedLetters: readonly number[] | null = null;
  #waiting = 0;
  #dead = 0;
  #blocked = 0;
  #sizeBytes = 0;
  #parks = false;
  #version = 1;
  readonly #changes: { readonly version: number; readonly keyId: string }[] = [];
  /** The change log has everything after this version. */
  #completeAfter = 1;
  /** Events that come next in their queue, by when they were put there; those that have to wait for a time by that. */
  readonly #ready = new OffsetHeap<Offered>();
  readonly #timed = new OffsetHeap<Offered>();
  readonly #offered = new Map<number, HeldEvent>();

  get waitingCount(): number {
    return this.#waiting;
  }

  get deadCount(): number {
    return this.#dead;
  }

  /** Of the copies. */
  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Changes with the set of blocked keys. */
  get version(): number {
    return this.#version;
  }

  /** Offsets of dead letters, and of those that were redriven and are not handled yet, ascending. */
  get letters(): readonly number[] {
    this.#sortedLetters ??= [...this.#letters].sort((a, b) => a - b);
    return this.#sortedLetters;
  }

  override set(offset: number, event: HeldEvent): this {
    const before = this.get(offset);
    const touched = event.keyId === '' ? null : this.#queue(event.keyId);
    const wasBlocked = touched?.isBlocked(this.#parks) ?? false;
    if (before !== undefined) this.#forget(offset, before);
    super.set(offset, event);
    this.#sizeBytes += event.sizeBytes;
    if (event.state === 'waiting') this.#waiting += 1;
    else this.#dead += 1;
    this.#noteLetter(offset, event.state === 'dead' || event.redrives > 0);
    if (touched === null) {
      if (event.state === 'waiting') this.#offer(offset, event);
      return this;
    }
    insertSorted(event.state === 'waiting' ? touched.waiting : touched.dead, offset);
    this.#keyChanged(event.keyId, touched, wasBlocked);
    return this;
  }

  override delete(offset: number): boolean {
    const before = this.get(offset);
    if (before === undefined) return false;
    const queue = this.#keys.get(before.keyId);
    const wasBlocked = queue?.isBlocked(this.#parks) ?? false;
    this.#forget(offset, before);
    this.#noteLetter(offset, false);
    super.delete(offset);
    if (queue !== undefined) this.#keyChanged(before.keyId, queue, wasBlocked);
    return true;
  }

  isBlocked(keyId: string, parks: boolean): boolean {
    return this.#keys.get(keyId)?.isBlocked(parks) ?? false;
  }

  /** @param parks whether dead letters of the group park their key here */
  blockedCount(parks: boolean): number {
    this.#setParks(parks);
    return this.#blocked;
  }

  blockedKeys(parks: boolean): string[] {
    return [...this.#keys].filter(([, queue]) => queue.isBlocked(parks)).map(([keyId]) => keyId);
  }

  /** How many wait behind an event of its key. */
  waitingBehind(offset: number): number {
    const event = this.get(offset);
    const queue = event === undefined ? undefined : this.#keys.get(event.keyId);
    if (queue === undefined) return 0;
    const { waiting } = queue;
    return waiting.length - firstNotBelow(waiting, offset + 1);
  }

  /** What changed after `version`: keys that are blocked now, or not any more, also when they were told of before. */
  keyChanges(version: number, parks: boolean): KeyChanges {
    this.#setParks(parks);
    if (version === this.#version) return { version, isWhole: false, blocked: [], unblocked: [] };
    if (version < this.#completeAfter || version > this.#version) {
      return { version: this.#version, isWhole: true, blocked: this.blockedKeys(parks), unblocked: [] };
    }
    const keys = new Set<string>();
    for (let index = this.#changes.length - 1; index >= 0; index--) {
      const change = this.#changes[index] as { version: number; keyId: string };
      if (change.version <= version) break;
      keys.add(change.keyId);
    }
    const [blocked, unblocked]: [string[], string[]] = [[], []];
    for (const keyId of keys) (this.isBlocked(keyId, parks) ? blocked : unblocked).push(keyId);
    return { version: this.#version, isWhole: false, blocked, unblocked };
  }

  /**
   * Events that may be given now, one of a key at a time; what was due first comes first.
   *
   * @param given offsets that somebody has: their keys are left out
   */
  deliverable(nowMs: number, parks: boolean, given: ReadonlySet<number>, max: number): Deliverables {
    this.#setParks(parks);
    const busy = new Set<string>();
    for (const offset of given) busy.add(this.get(offset)?.keyId ?? '');
    const events: Deliverable[] = [];
    const kept: Offered[] = [];
    while (events.length < max) {
      const next = this.#takeDue(nowMs);
      if (next === undefined) break;
      const { offset, event } = next;
      if (!this.#isHead(next)) continue;
      kept.push(next);
      if (!given.has(offset) && (event.keyId === '' || !busy.has(event.keyId))) events.push({ offset, event });
    }
    const nextDueMs = this.#nextDueMs();
    for (const { offset, event } of kept) this.#offer(offset, event);
    return { events, nextDueMs };
  }

  #nextDueMs(): number | null {
    for (let first = this.#timed.peek(); first !== undefined; first = this.#timed.peek()) {
      if (this.#isHead(first)) return first.atMs;
      this.#timed.pop();
      this.#unoffer(first);
    }
    return null;
  }

  /** Takes from both heaps whichever was due first. */
  #takeDue(nowMs: number): Offered | undefined {
    const ready = this.#ready.peek();
    const timed = this.#timed.peek();
    const isDue = timed !== undefined && timed.atMs <= nowMs;
    const heap = isDue && (ready === undefined || timed.atMs < ready.atMs) ? this.#timed : this.#ready;
    const next = heap.pop();
    if (next !== undefined) this.#unoffer(next);
    return next;
  }

  #isHead({ offset, event }: Offered): boolean {
    if (this.get(offset) !== event) return false;
    return event.keyId === '' || this.#keys.get(event.keyId)?.head(this.#parks) === offset;
  }

  #offer(offset: number, event: HeldEvent): void {
    if (this.#offered.get(offset) === event) return;
    this.#offered.set(offset, event);
    if (event.notBeforeMs > 0) this.#timed.push({ atMs: event.notBeforeMs, offset, event });
    else this.#ready.push({ atMs: event.atMs, offset, event });
  }

  #unoffer({ offset, event }: Offered): void {
    if (this.#offered.get(offset) === event) this.#offered.delete(offset);
  }

  #queue(keyId: string): KeyQueue {
    let queue = this.#keys.get(keyId);
    if (queue === undefined) this.#keys.set(keyId, (queue = new KeyQueue()));
    return queue;
  }

  /** Takes an event out of counts and queue. */
  #forget(offset: number, event: HeldEvent): void {
    this.#sizeBytes -= event.sizeBytes;
    if (event.state === 'waiting') this.#waiting -= 1;
    else this.#dead -= 1;
    const queue = this.#keys.get(event.keyId);
    if (queue !== undefined) removeSorted(event.state === 'waiting' ? queue.waiting : queue.dead, offset);
  }

  #noteLetter(offset: number, isLetter: boolean): void {
    if (isLetter === this.#letters.has(offset)) return;
    if (isLetter) this.#letters.add(offset);
    else this.#letters.delete(offset);
    this.#sortedLetters = null;
  }

  #keyChanged(keyId: string, queue: KeyQueue, wasBlocked: boolean): void {
    if (queue.isEmpty) this.#keys.delete(keyId);
    const isBlocked = queue.isBlocked(this.#parks);
    if (isBlocked !== wasBlocked) {
      this.#blocked += isBlocked ? 1 : -1;
      this.#logChange(keyId);
    }
    const head = queue.head(this.#parks);
    if (head !== undefined) this.#offer(head, this.get(head) as HeldEvent);
  }

  #logChange(keyId: string): void {
    this.#version += 1;
    this.#changes.push({ version: this.#version, keyId });
    if (this.#changes.length < 2 * MAX_KEY_CHANGES) return;
    this.#changes.splice(0, MAX_KEY_CHANGES);
    this.#completeAfter = (this.#changes[0] as { version: number }).version - 1;
  }

  /** The group's declaration is other settings than what was known here: everything derived of it is made anew. */
  #setParks(parks: boolean): void {
    if (parks === this.#parks) return;
    this.#parks = parks;
    this.#version += 1;
    this.#completeAfter = this.#version;
    this.#changes.length = 0;
    this.#blocked = 0;
    this.#ready.clear();
    this.#timed.clear();
    this.#offered.clear();
    for (const queue of this.#keys.values()) {
      if (queue.isBlocked(parks)) this.#blocked += 1;
      const head = queue.head(parks);
      if (head !== undefined) this.#offer(head, this.get(head) as HeldEvent);
    }
    for (const [offset, event] of this) {
      if (event.keyId === '' && event.state === 'waiting') this.#offer(offset, event);
    }
  }
}
