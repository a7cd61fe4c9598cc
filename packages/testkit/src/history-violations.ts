/** What can be wrong with a history, and the list of what was found. */

export const VIOLATION_KINDS = [
  /** Two values at one offset, whoever saw them. */
  'inconsistent-offsets',
  /** One value at two offsets. */
  'duplicate',
  /** Acknowledged (or committed) and read by nobody, although a later offset of its partition was read. */
  'lost-write',
  /** Acknowledged (or committed, or read by others) and not read by a group until its end. */
  'unseen',
  /** A value was read whose send had failed for certain, or whose transaction was aborted. */
  'G1a',
  /** A value was read before its writer had asked for the commit of its transaction. */
  'precommitted-read',
  /** A group has read a part of a transaction until its end, in whichever partitions. */
  'torn-transaction',
  /** A value was read that nobody sent. */
  'phantom',
  /** Inside one poll, a value of the log was left out. */
  'int-poll-skip',
  /** Inside one poll, offsets do not grow. */
  'int-nonmonotonic-poll',
  /** Between two polls of a member, a value of the log was left out. */
  'poll-skip',
  /** Between two polls of a member, offsets do not grow. */
  'nonmonotonic-poll',
  /** Two values of one call of a writer are in the log the other way round. */
  'int-nonmonotonic-send',
  /** Two values of different calls of a writer are in the log the other way round. */
  'nonmonotonic-send',
] as const;

export type ViolationKind = (typeof VIOLATION_KINDS)[number];

export interface Violation<Kind extends string = ViolationKind> {
  readonly kind: Kind;
  readonly message: string;
}

/** Counts violations, and keeps the first ones of each kind. */
export class ViolationList<Kind extends string = ViolationKind> {
  readonly #maxExamples: number;
  readonly #counts = new Map<Kind, number>();
  readonly #examples: Violation<Kind>[] = [];

  /** @param maxExamples of a kind; all are counted */
  constructor(maxExamples: number) {
    this.#maxExamples = maxExamples;
  }

  /** @param message is not asked for beyond the examples */
  add(kind: Kind, message: string | (() => string)): void {
    const count = (this.#counts.get(kind) ?? 0) + 1;
    this.#counts.set(kind, count);
    if (count > this.#maxExamples) return;
    this.#examples.push({ kind, message: typeof message === 'string' ? message : message() });
  }

  /** Of kinds that were found. */
  get counts(): Partial<Record<Kind, number>> {
    return Object.fromEntries(this.#counts) as Partial<Record<Kind, number>>;
  }

  get examples(): readonly Violation<Kind>[] {
    return this.#examples;
  }
}
