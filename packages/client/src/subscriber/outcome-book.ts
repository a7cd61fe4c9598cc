/**
 * What became of single events of one partition and is not durable yet: dead letters, held events, what was claimed, notes.
 *
 * An outcome and its event's offset go into the same commit: an offset that is committed without its outcome would be an event
 * lost. So the offset counts as finished when the commit with the outcome is answered, and until then only in that commit.
 *
 * ```
 * unsent → sent → accepted: the event is finished and let go
 *            └→ refused: unsent again
 * ```
 *
 * Where what handlers published goes with the offsets (exactly once), every event that was handled is in here until it is committed, with
 * those outputs; most of them plain, so that nothing but the offset is said.
 */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { assert } from '@naru/base';
import { OutcomeKind } from '@naru/protocol/proto';
import type { EventOutcomeSchema } from '@naru/protocol/proto';
import type { TakenRecord } from './assigned-partition.ts';
import type { Output } from './call-outputs.ts';
import { BlockedKeys } from './blocked-keys.ts';
import type { OffsetSpan, WatermarkTracker } from './watermark-tracker.ts';

/** Outcomes that the broker takes in one commit of a partition. */
export const MAX_OUTCOMES = 1_000;
/** Failures that are kept for the ledger until the next commit; newer ones are left out. */
const MAX_FAILURES = 500;

export type OutcomeFields = Omit<MessageInitShape<typeof EventOutcomeSchema>, '$typeName' | 'offset' | 'kind'>;

/** An event with an outcome. */
export interface Concluded {
  readonly offset: number;
  /** As protocol's keyId; empty for an event without a key. */
  readonly keyId: string;
  /** Null for an event that the broker kept, whose offset was committed long ago. */
  readonly taken: TakenRecord | null;
  readonly kind: OutcomeKind;
  readonly fields: OutcomeFields;
  /** Called when it is durable. */
  readonly accepted?: (() => void) | undefined;
  /** Called when it turns out not to be what became of the event. */
  readonly undone?: (() => void) | undefined;
  /** The event is not in memory any more, so that it cannot be handled here before the broker has given it back. */
  readonly isForgotten?: boolean | undefined;
  /** Nothing is said of it but that its offset is finished. */
  readonly isPlain?: boolean | undefined;
  /**
   * When it was concluded, among all events of a subscriber whose outputs go with their offsets: a commit has whatever was concluded
   * before anything that it has of the same key. Equal for events that were handled together.
   */
  readonly order?: number | undefined;
  /** What the call published that handled it, with others perhaps: they go into one commit. */
  readonly outputs?: FinishedOutputs | undefined;
}

/** What one call of a handler published, to be stored in the transaction that commits its events, or not at all. */
export interface FinishedOutputs {
  /** In the order of the calls of `publish`. */
  readonly events: readonly Output[];
  readonly sizeBytes: number;
  /** Events that the call handled. */
  readonly eventCount: number;
}

export interface SendLimits {
  readonly maxRanges: number;
  /** Nothing that was concluded later; see {@link Concluded.order}. */
  readonly upTo?: number | undefined;
  /** Offsets that the commit is to finish besides. */
  readonly spans?: readonly OffsetSpan[] | undefined;
}

export interface CommitContents {
  readonly offset: number;
  readonly finished: readonly OffsetSpan[];
  readonly outcomes: readonly MessageInitShape<typeof EventOutcomeSchema>[];
}

export class OutcomeBook {
  readonly keys: BlockedKeys;
  readonly #unsent = new Map<number, Concluded>();
  #sent: Concluded[] = [];
  #outputBytes = 0;
  readonly #failures = new Map<number, OutcomeFields>();
  /** Whether the broker has refused to keep more: nothing that it would have to keep is sent. */
  isStalled = false;

  constructor(blockedKeys: Iterable<string> = []) {
    this.keys = new BlockedKeys(blockedKeys);
  }

  get isEmpty(): boolean {
    return this.#unsent.size === 0 && this.#failures.size === 0;
  }

  /** Whether a commit now would say more than failures. */
  get hasSendable(): boolean {
    if (!this.isStalled) return this.#unsent.size > 0;
    for (const entry of this.#unsent.values()) if (!isKept(entry)) return true;
    return false;
  }

  /** Of outputs that are not durable. */
  get outputBytes(): number {
    return this.#outputBytes;
  }

  /** What was not sent. */
  waiting(): Iterable<Concluded> {
    return this.#unsent.values();
  }

  /** What the commit under way says. */
  sent(): readonly Concluded[] {
    return this.#sent;
  }

  /** Outcomes that are not durable. */
  get size(): number {
    return this.#unsent.size + this.#sent.length;
  }

  /** Whether it has the last word on the event: one that comes again was given before the broker heard. */
  isConcluded(offset: number): boolean {
    if (this.#unsent.has(offset)) return true;
    return this.#sent.some((entry) => entry.offset === offset && entry.kind !== OutcomeKind.HELD);
  }

  conclude(entry: Concluded): void {
    assert(!this.#unsent.has(entry.offset), 'an event has one outcome at a time');
    this.#unsent.set(entry.offset, entry);
    this.#outputBytes += outputBytesOf(entry);
    this.#failures.delete(entry.offset);
    if (entry.kind === OutcomeKind.HELD) this.keys.hold(entry.keyId);
  }

  /** It failed and is tried again here: for the ledger, which may miss some. */
  failed(offset: number, fields: OutcomeFields): void {
    if (this.#failures.has(offset) || this.#failures.size < MAX_FAILURES) this.#failures.set(offset, fields);
  }

  /** What the next commit says, for which the book waits then. At most one commit is under way. */
  send(
    tracker: WatermarkTracker,
    { maxRanges, upTo = Number.POSITIVE_INFINITY, spans = [] }: SendLimits,
  ): CommitContents {
    assert(this.#sent.length === 0, 'one commit of a partition is under way at a time');
    this.#dropStale(tracker);
    const { shown, sending } = this.#fitting(tracker, this.#sendable(upTo), maxRanges, spans);
    this.#sent = sending;
    for (const entry of sending) {
      this.#unsent.delete(entry.offset);
      if (entry.kind === OutcomeKind.HELD) this.keys.sent(entry.keyId);
      if (entry.taken === null) this.keys.resolved(entry.keyId);
    }
    const said = sending.filter(({ isPlain }) => isPlain !== true);
    const outcomes = said.map(({ offset, kind, fields }) => ({ ...fields, offset: BigInt(offset), kind }));
    for (const [offset, fields] of this.#failures) {
      if (outcomes.length >= MAX_OUTCOMES) break;
      outcomes.push({ ...fields, offset: BigInt(offset), kind: OutcomeKind.FAILED });
      this.#failures.delete(offset);
    }
    return { offset: shown.watermark, finished: shown.ranges.slice(0, maxRanges), outcomes };
  }

  /** What was finished before a seek and not committed counts no longer, nor does what its handler published. */
  #dropStale(tracker: WatermarkTracker): void {
    for (const entry of this.#unsent.values()) {
      if (entry.order === undefined || entry.kind !== OutcomeKind.PROCESSED) continue;
      if (entry.taken !== null && entry.taken.tracker !== tracker) this.#forget(entry);
    }
  }

  /** What is finished behind the last range that fits is not said, so its outcome is not, either. */
  #fitting(
    tracker: WatermarkTracker,
    sendable: Concluded[],
    maxRanges: number,
    spans: readonly OffsetSpan[],
  ): { shown: WatermarkTracker; sending: Concluded[] } {
    for (let sending = sendable; ;) {
      const pending = sending.filter((entry) => isPending(entry, tracker));
      if (pending.length === 0 && spans.length === 0) return { shown: tracker, sending };
      const offsets = pending.map(({ offset }) => offset);
      const shown = tracker.with(offsets, spans);
      const end = shown.ranges[maxRanges - 1]?.to ?? Number.POSITIVE_INFINITY;
      const isBeyond = (entry: Concluded): boolean => isPending(entry, tracker) && entry.offset >= end;
      const calls = new Set(sending.filter(isBeyond).map(({ outputs }) => outputs));
      const fitting = sending.filter((entry) => !isBeyond(entry) && (!entry.outputs || !calls.has(entry.outputs)));
      // What is within is said as finished here: it must not go without the rest of its call, nor without its outputs.
      const split = sending.find((entry) => entry.outputs && calls.has(entry.outputs) && !isBeyond(entry));
      if (split === undefined) return { shown, sending: fitting };
      // Nor may anything of its keys go before it.
      sending = fitting.filter(({ order = 0 }) => order < (split.order ?? 0));
    }
  }

  /** @returns what is durable now */
  accepted(): readonly Concluded[] {
    const accepted = this.#sent;
    this.#sent = [];
    for (const entry of accepted) {
      this.#outputBytes -= outputBytesOf(entry);
      if (entry.kind === OutcomeKind.HELD) this.keys.accepted(entry.keyId);
    }
    return accepted;
  }

  /** @returns what was read before a seek that came meanwhile, and is forgotten: it may be read again */
  refused(tracker: WatermarkTracker): readonly Concluded[] {
    const dropped: Concluded[] = [];
    for (const entry of this.#sent) {
      if (entry.kind === OutcomeKind.HELD) this.keys.refused(entry.keyId);
      if (entry.taken === null) this.keys.received(entry.keyId);
      const isStale = entry.taken !== null && entry.taken.tracker !== tracker;
      // It was given again meanwhile, and has a newer outcome.
      const isReplaced = this.#unsent.has(entry.offset);
      if (isStale) dropped.push(entry);
      if (!isStale && !isReplaced) this.#unsent.set(entry.offset, entry);
      else this.#letGo(entry);
    }
    this.#sent = [];
    return dropped;
  }

  /** The held events among what is not sent, in order, which are not concluded any more; of one key, or of all. */
  takeBackHeld(keyId?: string): Concluded[] {
    const held = [...this.#unsent.values()].filter(
      (entry) => entry.kind === OutcomeKind.HELD && (keyId === undefined || entry.keyId === keyId),
    );
    // Nothing of a key before what only the broker can give back.
    const stays = new Set(held.filter(({ isForgotten }) => isForgotten).map((entry) => entry.keyId));
    const taken = held.filter((entry) => entry.isForgotten !== true && !stays.has(entry.keyId));
    for (const entry of taken) {
      this.#unsent.delete(entry.offset);
      this.keys.takeBack(entry.keyId);
    }
    return taken.sort(byOffset);
  }

  /**
   * Takes out the events of a call, and what was concluded after it of the same keys, whole calls at a time; but for what is held or was
   * left out. In order.
   */
  takeOutFrom(outputs: FinishedOutputs): readonly Concluded[] {
    const entries = [...this.#unsent.values()]
      .filter(({ kind }) => kind === OutcomeKind.PROCESSED || kind === OutcomeKind.DEAD_LETTERED)
      .sort((a, b) => (a.order ?? 0) - (b.order ?? 0) || a.offset - b.offset);
    const keys = new Set<string>();
    const orders = new Set<number | undefined>();
    for (const { order, keyId, outputs: of } of entries) {
      if (of !== outputs && !keys.has(keyId)) continue;
      orders.add(order);
      for (const entry of entries) if (entry.order === order && entry.keyId !== '') keys.add(entry.keyId);
    }
    const taken = entries.filter(({ order }) => orders.has(order));
    for (const entry of taken) this.#forget(entry);
    return taken;
  }

  /** Forgets what was read before a seek. */
  dropRead(): Concluded[] {
    const dropped = [...this.#unsent.values()].filter(({ taken }) => taken !== null);
    for (const entry of dropped) this.#forget(entry);
    this.#failures.clear();
    return dropped;
  }

  /** These were refused for good, and nobody is to say them again. */
  withdraw(entries: readonly Concluded[]): void {
    for (const entry of entries) if (this.#unsent.get(entry.offset) === entry) this.#forget(entry);
  }

  #forget(entry: Concluded): void {
    this.#unsent.delete(entry.offset);
    this.#letGo(entry);
  }

  /** Of one that is not sent and not to be. */
  #letGo(entry: Concluded): void {
    this.#outputBytes -= outputBytesOf(entry);
    if (entry.kind === OutcomeKind.HELD) this.keys.takeBack(entry.keyId);
  }

  /**
   * The first ones in the order in which they were concluded where that matters, else by offset: those of a key arrive in its order
   * either way. All or none of the events that were handled together.
   */
  #sendable(upTo: number): Concluded[] {
    const entries = [...this.#unsent.values()]
      .filter((entry) => (entry.order ?? 0) <= upTo && (!this.isStalled || !isKept(entry)))
      .sort((a, b) => (a.order ?? 0) - (b.order ?? 0) || a.offset - b.offset);
    let said = 0;
    let end = entries.findIndex(({ isPlain }) => isPlain !== true && ++said > MAX_OUTCOMES);
    if (end === -1) return entries;
    const { outputs } = entries[end] as Concluded;
    while (outputs !== undefined && end > 0 && entries[end - 1]?.outputs === outputs) end -= 1;
    return entries.slice(0, end);
  }
}

/** Whether the broker has to keep a copy of it, for which it may have no room. */
export function isKept({ kind, taken }: Concluded): boolean {
  return taken !== null && (kind === OutcomeKind.HELD || kind === OutcomeKind.DEAD_LETTERED);
}

/** Whether its offset is to be finished by the commit. */
function isPending({ taken, offset }: Concluded, tracker: WatermarkTracker): boolean {
  return taken !== null && taken.tracker === tracker && !tracker.isFinished(offset);
}

function byOffset(a: Concluded, b: Concluded): number {
  return a.offset - b.offset;
}

function outputBytesOf({ outputs }: Concluded): number {
  return outputs === undefined ? 0 : Math.ceil(outputs.sizeBytes / outputs.eventCount);
}
