/**
 * The transactions of one partition: which are open, and what was aborted.
 *
 * Owns where readers of stable records have to wait. Does not own what a transaction is beyond this partition (core/transaction).
 *
 * Invariants: a producer has one open transaction in a partition; the last stable offset lies before the first transaction that is
 * open, or whose marker readers cannot see yet, since a marker that a crash takes back ended nothing. What was aborted is known
 * as long as one of its records may be left.
 */
import { assert } from '@naru/base';

export interface AbortedTransaction {
  readonly producerId: number;
  /** Of its first record. */
  readonly firstOffset: number;
  /** Of its marker. */
  readonly lastOffset: number;
}

export interface OpenTransaction {
  readonly producerId: number;
  readonly firstOffset: number;
}

/** What became of a transaction, as readers may know it. */
export type TransactionOutcome = 'open' | 'committed' | 'aborted';

interface EndedTransaction extends OpenTransaction {
  readonly markerOffset: number;
}

/** With what an end does to the search for others. */
interface AbortedEntry extends AbortedTransaction {
  /** Everything that ended later began here or beyond. */
  readonly laterFrom: number;
}

/** Knows what was aborted at one moment, whatever is forgotten after it. */
export type AbortedLookup = (from: number, to: number) => readonly AbortedTransaction[];

export class TransactionIndex {
  /** Producer → first offset, in the order of these. */
  #open: Map<number, number>;
  /** Their markers may not be readable yet; in the order of these. */
  #ended: EndedTransaction[] = [];
  /** In the order of their markers. Never changed but at its end, so that {@link lookup} keeps what it saw. */
  #aborted: AbortedEntry[];

  /** @param aborted in the order of their last offsets */
  constructor(open: readonly OpenTransaction[] = [], aborted: readonly AbortedTransaction[] = []) {
    const byOffset = [...open].sort((a, b) => a.firstOffset - b.firstOffset);
    this.#open = new Map(byOffset.map(({ producerId, firstOffset }) => [producerId, firstOffset]));
    this.#aborted = withBounds(aborted, byOffset[0]?.firstOffset ?? Infinity);
  }

  /** By their first offset. */
  get open(): readonly OpenTransaction[] {
    return Array.from(this.#open, ([producerId, firstOffset]) => ({ producerId, firstOffset }));
  }

  /** By their last offset. */
  get aborted(): readonly AbortedTransaction[] {
    return this.#aborted.map(({ producerId, firstOffset, lastOffset }) => ({ producerId, firstOffset, lastOffset }));
  }

  /** What may have to be remembered: all that were aborted, and all that may yet be. */
  get size(): number {
    return this.#aborted.length + this.#open.size;
  }

  /** Ended ones whose markers readers may not see yet, as far as {@link lastStableOffset} was told. */
  get unreadableCount(): number {
    return this.#ended.length;
  }

  /** Of the producer's open transaction; undefined without one. */
  openSince(producerId: number): number | undefined {
    return this.#open.get(producerId);
  }

  /** A transactional batch was stored. */
  written(producerId: number, baseOffset: number): void {
    if (!this.#open.has(producerId)) this.#open.set(producerId, baseOffset);
  }

  /** A marker was stored. Without effect when the producer has written nothing here. */
  ended(producerId: number, isCommit: boolean, markerOffset: number): void {
    const firstOffset = this.#open.get(producerId);
    if (firstOffset === undefined) return;
    assert(firstOffset < markerOffset, `the marker at ${markerOffset} stands behind what it ends`);
    this.#open.delete(producerId);
    this.#ended.push({ producerId, firstOffset, markerOffset });
    if (isCommit) return;
    const laterFrom = Math.min(markerOffset + 1, this.#firstOpen());
    this.#aborted.push({ producerId, firstOffset, lastOffset: markerOffset, laterFrom });
  }

  /**
   * Everything below is decided, and readers may see how.
   *
   * @param highWatermark which never moves down: markers below it are readable for good
   */
  lastStableOffset(highWatermark: number): number {
    let readable = 0;
    while ((this.#ended[readable]?.markerOffset ?? Infinity) < highWatermark) readable += 1;
    if (readable > 0) this.#ended.splice(0, readable);
    let stable = Math.min(highWatermark, this.#firstOpen());
    for (const { firstOffset } of this.#ended) stable = Math.min(stable, firstOffset);
    return stable;
  }

  /**
   * What became of the transaction in which the producer wrote at `offset`.
   *
   * @param abortedIn of when the record was there; default: now
   */
  outcomeOf(
    producerId: number,
    offset: number,
    highWatermark: number,
    abortedIn: AbortedLookup = this.lookup(),
  ): TransactionOutcome {
    const openSince = this.#open.get(producerId);
    if (openSince !== undefined && openSince <= offset) return 'open';
    const isOwn = (ended: EndedTransaction): boolean =>
      ended.producerId === producerId && ended.firstOffset <= offset && offset < ended.markerOffset;
    const ended = this.#ended.find(isOwn);
    if (ended !== undefined && ended.markerOffset >= highWatermark) return 'open';
    const isAborted = abortedIn(offset, offset + 1).some((aborted) => aborted.producerId === producerId);
    return isAborted ? 'aborted' : 'committed';
  }

  /** Aborted transactions that may have something between the two offsets, by their first offset. */
  abortedIn(from: number, to: number): readonly AbortedTransaction[] {
    return this.lookup()(from, to);
  }

  /** As {@link abortedIn} is now: for who is reading while more may be forgotten. */
  lookup(): AbortedLookup {
    const entries = this.#aborted;
    return (from, to) => abortedBetween(entries, from, to);
  }

  /** Forgets what was aborted and ended below: nothing of it is left. */
  deletedBefore(offset: number): void {
    const first = this.#aborted[0];
    if (first !== undefined && first.lastOffset < offset)
      this.#aborted = this.#aborted.slice(firstEndingFrom(this.#aborted, offset));
  }

  /**
   * The log ends at `endOffset` now: what ended beyond is open again. Transactions that were committed are known only while nobody
   * has read their markers, so nothing below a high watermark may be cut off.
   */
  truncated(endOffset: number): void {
    const open = new Map<number, number>();
    const reopen = ({ producerId, firstOffset }: OpenTransaction): void => {
      if (firstOffset < endOffset) open.set(producerId, Math.min(firstOffset, open.get(producerId) ?? Infinity));
    };
    for (const [producerId, firstOffset] of this.#open) reopen({ producerId, firstOffset });
    for (const ended of this.#ended) if (ended.markerOffset >= endOffset) reopen(ended);
    for (const aborted of this.#aborted) if (aborted.lastOffset >= endOffset) reopen(aborted);
    this.#open = new Map([...open].sort(([, a], [, b]) => a - b));
    this.#ended = this.#ended.filter(({ markerOffset }) => markerOffset < endOffset);
    const kept = this.#aborted.filter(({ lastOffset }) => lastOffset < endOffset);
    this.#aborted = withBounds(kept, this.#firstOpen());
  }

  #firstOpen(): number {
    for (const firstOffset of this.#open.values()) return firstOffset;
    return Infinity;
  }
}

/** Which records of a stretch of the log belong to aborted transactions. */
export class AbortedRecords {
  readonly #byProducer = new Map<number, AbortedTransaction[]>();

  constructor(aborted: readonly AbortedTransaction[]) {
    for (const transaction of aborted) {
      const known = this.#byProducer.get(transaction.producerId);
      if (known === undefined) this.#byProducer.set(transaction.producerId, [transaction]);
      else known.push(transaction);
    }
  }

  /** Whether a transactional batch of the producer that begins there was aborted. */
  has(producerId: number, baseOffset: number): boolean {
    const transactions = this.#byProducer.get(producerId);
    if (transactions === undefined) return false;
    // A producer's transactions follow each other.
    const next = transactions[firstEndingFrom(transactions, baseOffset)];
    return next !== undefined && next.firstOffset <= baseOffset;
  }
}

/** Index of the first that ends at `offset` or later; they are in the order of their ends. */
function firstEndingFrom(transactions: readonly AbortedTransaction[], offset: number): number {
  let low = 0;
  let high = transactions.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((transactions[middle] as AbortedTransaction).lastOffset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

function abortedBetween(entries: readonly AbortedEntry[], from: number, to: number): AbortedTransaction[] {
  const found: AbortedTransaction[] = [];
  for (let index = firstEndingFrom(entries, from); index < entries.length; index++) {
    const { producerId, firstOffset, lastOffset, laterFrom } = entries[index] as AbortedEntry;
    if (firstOffset < to) found.push({ producerId, firstOffset, lastOffset });
    if (laterFrom >= to) break;
  }
  return found.sort((a, b) => a.firstOffset - b.firstOffset);
}

/** @param firstOpen what is open now may be aborted later */
function withBounds(aborted: readonly AbortedTransaction[], firstOpen: number): AbortedEntry[] {
  const entries: AbortedEntry[] = [];
  let later = firstOpen;
  for (const { producerId, firstOffset, lastOffset } of aborted.toReversed()) {
    entries.push({ producerId, firstOffset, lastOffset, laterFrom: Math.min(lastOffset + 1, later) });
    later = Math.min(later, firstOffset);
  }
  return entries.reverse();
}
