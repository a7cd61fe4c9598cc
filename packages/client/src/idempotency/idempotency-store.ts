/**
 * Handling once: a store of event ids that a group has handled, or is handling.
 *
 * ```
 * claim → claimed → complete → done
 *            └→ release, or the lease runs out → may be claimed again
 * ```
 * What it cannot exclude: a handler whose process dies between its side effect and `complete` runs again. Only a store inside the
 * side effect's own transaction (`once` of postgres-idempotency.ts) does.
 */

export type ClaimResult =
  /** This caller handles it now. `token` proves it. */
  | { readonly state: 'claimed'; readonly token: string }
  /** It was handled: leave it out. */
  | { readonly state: 'done' }
  /** Somebody is at it, until this time at the latest; milliseconds since the Unix epoch. */
  | { readonly state: 'busy'; readonly untilMs: number };

export interface IdempotencyStore {
  /**
   * @param id of the event: its CloudEvents id, else its request id
   * @param leaseMs how long nobody else gets it
   */
  claim(group: string, id: string, leaseMs: number): Promise<ClaimResult>;
  /** It was handled. Does nothing when the lease ran out and somebody else has it. */
  complete(group: string, id: string, token: string): Promise<void>;
  /** It was not handled, and this caller does not go on. */
  release(group: string, id: string, token: string): Promise<void>;
}

/** Claims of one member of a group. */
export interface MemberClaims {
  claim(id: string): Promise<ClaimResult>;
  /** Undefined where it is the commit that completes them, as with the broker's store. */
  readonly complete: ((id: string, token: string) => Promise<void>) | undefined;
  release(id: string, token: string): Promise<void>;
  /** The outcome of an event with this id is durable. */
  settled?(id: string): void;
}

/** The claims of a member with a store of the user's. */
export function claimsOf(store: IdempotencyStore, group: string, leaseMs: number): MemberClaims {
  return {
    claim: (id) => store.claim(group, id, leaseMs),
    complete: (id, token) => store.complete(group, id, token),
    release: (id, token) => store.release(group, id, token),
  };
}
