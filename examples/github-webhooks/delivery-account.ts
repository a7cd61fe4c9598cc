/**
 * The demo's bookkeeping: was every published event handled by every group, and each key's events in order?
 *
 * Every event has its number within its key: 1, 2, 3… Delivery is at least once, so that events may be repeated, but only
 * like this. For each group and key:
 * - A delivery is the successor of the one before it, or it goes back. So first deliveries are in order, without a gap, and
 *   what is repeated is a run that leads up to where the group was.
 * - It goes back only after the key's partition was assigned anew, and once for each time.
 * Anything else is a violation.
 */
export interface Delivered {
  readonly key: string;
  readonly sequence: number;
  readonly partition: number;
  readonly offset: bigint;
}

export interface GroupAccount {
  readonly group: string;
  /** Different events. */
  readonly handled: number;
  /** Deliveries of events that the group had already. */
  readonly repeated: number;
  /** Violations of the order, by key. */
  readonly violations: ReadonlyMap<string, number>;
}

interface KeyProgress {
  /** The last delivery's number. */
  cursor: number;
  /** The highest number without a gap before it. */
  handled: number;
  /** Handled beyond a gap: empty unless order was violated. */
  readonly beyond: Set<number>;
  /** How often the partition had been assigned when the key went back last. */
  assignments: number;
}

interface GroupState {
  handled: number;
  repeated: number;
  readonly keys: Map<string, KeyProgress>;
  readonly violations: Map<string, number>;
  /** By partition: how often it was assigned. The first time is not counted: nothing can be repeated then. */
  readonly assignments: Map<number, number>;
}

export class DeliveryAccount {
  readonly #published = new Map<string, number>();
  readonly #groups = new Map<string, GroupState>();
  /** By key: where in the log each event is. */
  readonly #offsets = new Map<string, bigint[]>();
  /** Places in the log that hold an event that another place holds, too. */
  readonly #duplicates = new Set<string>();
  #publishedCount = 0;

  constructor(groups: readonly string[]) {
    for (const group of groups) {
      const state = { handled: 0, repeated: 0, keys: new Map(), violations: new Map(), assignments: new Map() };
      this.#groups.set(group, state);
    }
  }

  get published(): number {
    return this.#publishedCount;
  }

  get keys(): number {
    return this.#published.size;
  }

  get duplicates(): number {
    return this.#duplicates.size;
  }

  publish(key: string, sequence: number): void {
    this.#published.set(key, sequence);
    this.#publishedCount += 1;
  }

  assigned(group: string, partition: number): void {
    const { assignments } = this.#group(group);
    assignments.set(partition, (assignments.get(partition) ?? -1) + 1);
  }

  delivered(group: string, { key, sequence, partition, offset }: Delivered): void {
    this.#locate(key, sequence, partition, offset);
    const state = this.#group(group);
    const progress = state.keys.get(key) ?? { cursor: 0, handled: 0, beyond: new Set(), assignments: 0 };
    state.keys.set(key, progress);
    const assignments = state.assignments.get(partition) ?? 0;
    const goesBack = sequence <= progress.cursor;
    const isAllowed = goesBack ? assignments > progress.assignments : sequence === progress.cursor + 1;
    if (!isAllowed) state.violations.set(key, (state.violations.get(key) ?? 0) + 1);
    if (goesBack) progress.assignments = assignments;
    progress.cursor = sequence;
    if (sequence <= progress.handled || progress.beyond.has(sequence)) {
      state.repeated += 1;
      return;
    }
    state.handled += 1;
    progress.beyond.add(sequence);
    while (progress.beyond.delete(progress.handled + 1)) progress.handled += 1;
  }

  account(group: string): GroupAccount {
    const { handled, repeated, violations } = this.#group(group);
    return { group, handled, repeated, violations };
  }

  accounts(): GroupAccount[] {
    return [...this.#groups.keys()].map((group) => this.account(group));
  }

  /** Whether every group has handled everything that was published. */
  get isComplete(): boolean {
    return this.accounts().every(({ handled }) => handled >= this.#publishedCount);
  }

  #group(group: string): GroupState {
    const state = this.#groups.get(group);
    if (state === undefined) throw new Error(`no such group: ${group}`);
    return state;
  }

  #locate(key: string, sequence: number, partition: number, offset: bigint): void {
    const offsets = this.#offsets.get(key) ?? [];
    this.#offsets.set(key, offsets);
    const known = (offsets[sequence] ??= offset);
    if (known !== offset) this.#duplicates.add(`${partition}/${offset}`);
  }
}
