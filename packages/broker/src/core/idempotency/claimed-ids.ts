/**
 * Ids of events that a group has claimed, or is done with, for idempotent handling.
 *
 * They are kept in buckets, which the group log has as whole values. A claim, and what one commit has done, is a small bucket of
 * its own; buckets of done ids are merged by 32 into larger ones (decide-claims.ts), so that an id is written a few times in
 * all, however many there are.
 *
 * Invariants: an id is done when any bucket of done ids has it; else it is claimed by the newest claim that has it.
 */

/** An id as 16 characters of a byte each: the beginning of its SHA-256. */
export const ID_LENGTH = 16;

export interface ActiveClaim {
  readonly kind: 'claim';
  readonly memberId: string;
  /** The epoch at which it joined: a later life of the same id has none of its claims. */
  readonly joinEpoch: number;
  /** By the wall clock. */
  readonly leaseUntilMs: number;
  readonly ids: ReadonlySet<string>;
}

export interface DoneIds {
  readonly kind: 'done';
  /** When the first and the last of them were done. */
  readonly oldestMs: number;
  readonly newestMs: number;
  /** How often they were merged. */
  readonly level: number;
  readonly ids: readonly string[];
}

export type ClaimedIds = ActiveClaim | DoneIds;

/** The buckets of a group by number, and where each id is. */
export class ClaimTable extends Map<number, ClaimedIds> {
  readonly #done = new Map<string, number>();
  readonly #claims = new Map<string, number>();
  readonly #claimBuckets = new Set<number>();
  readonly #doneBuckets = new Set<number>();
  #last = -1;

  get doneCount(): number {
    return this.#done.size;
  }

  get claimCount(): number {
    return this.#claims.size;
  }

  isDone(id: string): boolean {
    return this.#done.has(id);
  }

  /** The bucket of the claim that counts for the id; undefined without one. */
  claimBucket(id: string): number | undefined {
    return this.#claims.get(id);
  }

  claimOf(id: string): ActiveClaim | undefined {
    const bucket = this.#claims.get(id);
    return bucket === undefined ? undefined : (this.get(bucket) as ActiveClaim);
  }

  /** Oldest first. Each has the ids for which it counts; one without any can go. */
  claimBuckets(): IterableIterator<number> {
    return this.#claimBuckets.values();
  }

  doneBuckets(): IterableIterator<number> {
    return this.#doneBuckets.values();
  }

  /** A number that no bucket has. @param taken numbers that are about to be used */
  free(taken: ReadonlySet<number> = new Set()): number {
    let bucket = this.#last;
    do bucket = bucket >= 0x7fff_ffff ? 0 : bucket + 1;
    while (this.has(bucket) || taken.has(bucket));
    return bucket;
  }

  override set(bucket: number, value: ClaimedIds): this {
    this.delete(bucket);
    this.#last = bucket;
    if (value.kind === 'done') {
      super.set(bucket, value);
      this.#doneBuckets.add(bucket);
      for (const id of value.ids) {
        this.#done.set(id, bucket);
        this.#unclaim(id);
      }
      return this;
    }
    const ids = new Set<string>();
    for (const id of value.ids) {
      if (this.#done.has(id)) continue;
      this.#unclaim(id);
      this.#claims.set(id, bucket);
      ids.add(id);
    }
    super.set(bucket, { ...value, ids });
    this.#claimBuckets.add(bucket);
    return this;
  }

  override delete(bucket: number): boolean {
    const value = this.get(bucket);
    if (value === undefined) return false;
    const index = value.kind === 'done' ? this.#done : this.#claims;
    for (const id of value.ids) if (index.get(id) === bucket) index.delete(id);
    this.#doneBuckets.delete(bucket);
    this.#claimBuckets.delete(bucket);
    return super.delete(bucket);
  }

  #unclaim(id: string): void {
    const bucket = this.#claims.get(id);
    if (bucket === undefined) return;
    this.#claims.delete(id);
    // The set is the table's own: see `set`.
    const own = this.get(bucket)?.ids as Set<string> | undefined;
    own?.delete(id);
  }
}
