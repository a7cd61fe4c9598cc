/**
 * Claims of events by their ids, so that each is handled once: of a task's events, all of them or none.
 *
 * Does not decide what is done with events that are claimed, or with those that somebody else has.
 */
import { createHash } from 'node:crypto';
import { MAX_ID_BYTES } from '../idempotency/broker-idempotency.ts';
import type { MemberClaims } from '../idempotency/idempotency-store.ts';
import type { Runtime } from '../runtime.ts';
import type { NaruEvent } from './event.ts';
import { messageOf } from './handler-call.ts';
import type { Task } from './task.ts';

/** How long to wait for a store of ids, or another holder of one, before asking again; milliseconds. */
const MIN_BUSY_MS = 100;
const MAX_BUSY_MS = 1_000;

/** A token for each id, empty for one that somebody else has handled. */
export interface ClaimedIds {
  readonly ids: readonly string[];
  readonly tokens: readonly string[];
}

export class EventClaims {
  readonly #runtime: Runtime;
  readonly #claims: MemberClaims;
  readonly #leaseMs: number;

  constructor(runtime: Runtime, claims: MemberClaims, leaseMs: number) {
    this.#runtime = runtime;
    this.#claims = claims;
    this.#leaseMs = leaseMs;
  }

  /** What became of an event with this id is durable. */
  settled(id: string): void {
    this.#claims.settled?.(id);
  }

  /** Claims the task's events, unless they still are; or says after how many milliseconds it is worth asking again. */
  async claim(task: Task): Promise<ClaimedIds | number> {
    const ids = task.events.map(claimId);
    const { clock } = this.#runtime;
    if (task.claimed.length > 0 && task.claimedUntilMs - clock.monotonicMs() < this.#leaseMs / 2) {
      // Attempts and the waits between them may take longer than the lease: what somebody else has by now is theirs.
      await this.release({ ids, tokens: task.claimed });
      task.claimed = [];
    }
    if (task.claimed.length === 0) {
      const untilMs = clock.monotonicMs() + this.#leaseMs;
      const claimed = await this.#claimAll(ids);
      if (typeof claimed === 'number') return claimed;
      task.claimed = claimed;
      task.claimedUntilMs = untilMs;
    }
    const tokens = task.claimed;
    if (this.#claims.complete === undefined) task.idempotencyIds = ids.map((id, i) => (tokens[i] === '' ? '' : id));
    return { ids, tokens };
  }

  /** They were handled. */
  async complete({ ids, tokens }: ClaimedIds): Promise<void> {
    const { complete } = this.#claims;
    if (complete === undefined) return; // with the commit
    const done = tokens.flatMap((token, i) => (token === '' ? [] : [complete(ids[i] as string, token)]));
    await Promise.all(done).catch((error: unknown) => {
      const fields = { error: messageOf(error) };
      this.#runtime.logger.warn(fields, 'handled events were not remembered: duplicates may be handled again');
    });
  }

  /** They were not. */
  async release({ ids, tokens }: ClaimedIds): Promise<void> {
    for (const [i, token] of tokens.entries()) {
      // What is not released is free when its lease ends.
      if (token !== '') await this.#claims.release(ids[i] as string, token).catch(() => {});
    }
  }

  async #claimAll(ids: readonly string[]): Promise<string[] | number> {
    let waitMs: number | null = null;
    // Of two events of one id in a batch the first is handled, and the other a duplicate of it.
    const seen = new Set<string>();
    const claimOnce = async (id: string): Promise<string> => {
      if (seen.has(id)) return '';
      seen.add(id);
      try {
        const result = await this.#claims.claim(id);
        if (result.state === 'busy') {
          waitMs = Math.min(MAX_BUSY_MS, Math.max(MIN_BUSY_MS, result.untilMs - this.#runtime.clock.nowMs()));
        }
        return result.state === 'claimed' ? result.token : '';
      } catch (error) {
        this.#runtime.logger.warn({ error: messageOf(error) }, 'event ids could not be claimed; trying again');
        waitMs = MAX_BUSY_MS;
        return '';
      }
    };
    const tokens = await Promise.all(ids.map(claimOnce));
    if (waitMs === null) return tokens;
    await this.release({ ids, tokens });
    return waitMs;
  }
}

/** The event's own id; a digest in place of one that is longer than the broker takes, its request id in place of an empty one. */
function claimId({ id, requestId }: NaruEvent): string {
  if (id === '') return requestId;
  if (Buffer.byteLength(id) <= MAX_ID_BYTES) return id;
  return `sha256:${createHash('sha256').update(id).digest('hex')}`;
}
