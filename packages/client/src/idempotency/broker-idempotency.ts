/**
 * The broker as store: claims go over the member's stream, several at a time, and an event is done with the commit that finishes
 * it, in the same append. When a member is removed, its claims end.
 */
import { NaruError } from '@naru/protocol';
import type { Claimed } from '@naru/protocol/proto';
import { ClaimState } from '@naru/protocol/proto';
import type { Deferred } from '../deferred.ts';
import { deferred } from '../deferred.ts';
import type { Runtime } from '../runtime.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { ClaimResult, IdempotencyStore, MemberClaims } from './idempotency-store.ts';

/** Ids in one message. */
const MAX_CLAIMED = 1_000;
/** Longer ids are refused by the broker; bytes. */
export const MAX_ID_BYTES = 256;

const BROKER: unique symbol = Symbol('the broker');

/** Names the broker as the store of a subscriber. It cannot be called: claims go over the subscriber's own connection. */
export interface BrokerIdempotency extends IdempotencyStore {
  readonly [BROKER]: true;
}

/** The default store, where idempotency is used: nothing to run, and nothing to write but the setting. */
export function brokerIdempotency(): BrokerIdempotency {
  const refuse = (): Promise<never> =>
    Promise.reject(new NaruError('UNSUPPORTED', 'the broker’s store works within a subscriber only'));
  return { [BROKER]: true, claim: refuse, complete: refuse, release: refuse };
}

export function isBrokerIdempotency(store: IdempotencyStore): store is BrokerIdempotency {
  return BROKER in store;
}

/**
 * Gathers claims made at about the same time into one message, and remembers what is in hand: to the broker two events of one id
 * in one member's hands look like one whose claim is repeated.
 */
export class BrokerClaims implements MemberClaims {
  readonly #send: (ids: readonly string[], leaseMs: number) => Promise<Claimed>;
  readonly #leaseMs: number;
  readonly #runtime: Pick<Runtime, 'clock' | 'timers'>;
  #pending = new Map<string, Deferred<ClaimResult>[]>();
  #isDue = false;
  /** Claimed, and their outcome not durable; until when the lease is, in monotonic milliseconds. Oldest first. */
  readonly #inHand = new Map<string, number>();
  readonly complete = undefined;

  constructor(
    send: (ids: readonly string[], leaseMs: number) => Promise<Claimed>,
    leaseMs: number,
    runtime: Pick<Runtime, 'clock' | 'timers'>,
  ) {
    this.#send = send;
    this.#leaseMs = leaseMs;
    this.#runtime = runtime;
  }

  claim(id: string): Promise<ClaimResult> {
    if (this.#isInHand(id)) return Promise.resolve({ state: 'busy', untilMs: 0 });
    const result = deferred<ClaimResult>();
    const waiting = this.#pending.get(id);
    if (waiting === undefined) this.#pending.set(id, [result]);
    else waiting.push(result);
    if (!this.#isDue) {
      this.#isDue = true;
      this.#runtime.timers.after(0, () => void this.#sendPending());
    }
    return result.promise;
  }

  /** The broker frees it with the outcome that says so, or when the lease ends. */
  release(id: string): Promise<void> {
    this.#inHand.delete(id);
    return Promise.resolve();
  }

  settled(id: string): void {
    this.#inHand.delete(id);
  }

  #isInHand(id: string): boolean {
    const nowMs = this.#runtime.clock.monotonicMs();
    for (const [other, untilMs] of this.#inHand) {
      if (untilMs > nowMs) break;
      this.#inHand.delete(other);
    }
    return this.#inHand.has(id);
  }

  async #sendPending(): Promise<void> {
    this.#isDue = false;
    const all = [...this.#pending];
    this.#pending = new Map();
    for (let i = 0; i < all.length; i += MAX_CLAIMED) await this.#sendSome(all.slice(i, i + MAX_CLAIMED));
  }

  async #sendSome(claims: readonly (readonly [string, readonly Deferred<ClaimResult>[]])[]): Promise<void> {
    try {
      const { results, error } = await this.#send(
        claims.map(([id]) => id),
        this.#leaseMs,
      );
      if (error !== undefined) throw fromWireError(error);
      for (const [i, [id, waiting]] of claims.entries()) {
        const { state = ClaimState.BUSY, untilMs = 0n } = results[i] ?? {};
        if (state === ClaimState.CLAIMED) {
          this.#inHand.delete(id);
          this.#inHand.set(id, this.#runtime.clock.monotonicMs() + this.#leaseMs);
        }
        for (const [n, result] of waiting.entries()) {
          if (state === ClaimState.DONE) result.resolve({ state: 'done' });
          // Two events of one id at once: one of them is handled, the other waits for what comes of it.
          else if (state === ClaimState.CLAIMED && n === 0) result.resolve({ state: 'claimed', token: id });
          else result.resolve({ state: 'busy', untilMs: Number(untilMs) });
        }
      }
    } catch (error) {
      for (const [, waiting] of claims) for (const result of waiting) result.reject(error as Error);
    }
  }
}
