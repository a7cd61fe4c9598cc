/**
 * What a group's handlers did, and whether the order of each key was kept.
 *
 * Handlers may be called again after a crash, or when a partition went to another member while the first still had it in hand, and
 * what they did then does not count. So order is judged by what a group would be left with if a later success undid the effect of an
 * earlier one:
 * - Of two events of a key the later one succeeds, at least once, after the first success of the earlier one; unless the
 *   earlier one was given up as a dead letter and the group goes on after dead letters.
 * - No member has two events of one key in hand at the same time while both results count.
 * - Of a parallel topic, no two members have an event in hand at the same time while both results count.
 * - Every event succeeds in the end. No call has a higher attempt than the limit.
 * - An event has succeeded in every group of a lower order before the group is given it.
 */
import { assert } from '@naru/base';

export interface AccountOptions {
  readonly group: string;
  readonly afterDeadLetter: 'continue' | 'park';
  readonly maxAttempts: number;
  /** Of a parallel topic: no two members have an event at a time. */
  readonly isExclusive: boolean;
  /** Groups of a lower order. */
  readonly before: readonly OrderAccount[];
}

export interface CallOfHandler {
  readonly member: string;
  readonly key: string;
  readonly partition: number;
  readonly offset: number;
  readonly attempt: number;
  /** Aborts when the result does not count any more. */
  readonly signal: AbortSignal;
}

interface EventAccount {
  readonly offset: number;
  /** When it succeeded, by count of successes. */
  first: number;
  last: number;
  isGivenUp: boolean;
}

export class OrderAccount {
  readonly #options: AccountOptions;
  /** By partition and key, then by offset. */
  readonly #keys = new Map<string, Map<number, EventAccount>>();
  readonly #inHand = new Map<string, CallOfHandler[]>();
  #successes = 0;
  /** Events that have succeeded. */
  handled = 0;
  calls = 0;
  repeats = 0;
  givenUp = 0;

  constructor(options: AccountOptions) {
    this.#options = options;
  }

  begin(call: CallOfHandler): void {
    const { maxAttempts } = this.#options;
    this.calls += 1;
    assert(call.attempt <= maxAttempts, `${this.#name(call)}: attempt ${call.attempt} of ${maxAttempts}`);
    for (const earlier of this.#options.before) {
      assert(
        earlier.hasSucceeded(call),
        `${this.#name(call)} was given before ${earlier.#options.group} was done with it`,
      );
    }
    const lane = this.#lane(call);
    const others = (this.#inHand.get(lane) ?? []).filter(({ signal }) => !signal.aborted);
    const [other] = others;
    assert(
      other === undefined,
      `${this.#name(call)} is handled by ${call.member} while ${other?.member} handles ${other?.offset} of its key`,
    );
    this.#inHand.set(lane, [...others, call]);
  }

  end(call: CallOfHandler): void {
    const lane = this.#lane(call);
    this.#inHand.set(
      lane,
      (this.#inHand.get(lane) ?? []).filter((one) => one !== call),
    );
  }

  /** The member was killed. */
  gone(member: string): void {
    for (const [lane, calls] of this.#inHand) {
      this.#inHand.set(
        lane,
        calls.filter((call) => call.member !== member),
      );
    }
  }

  succeeded(call: CallOfHandler): void {
    this.#successes += 1;
    const event = this.#event(call);
    if (event.first === 0) this.handled += 1;
    else this.repeats += 1;
    if (event.first === 0) event.first = this.#successes;
    event.last = this.#successes;
  }

  hasSucceeded(call: CallOfHandler): boolean {
    return this.#event(call).first > 0;
  }

  /** @param key as {@link keyName} has it */
  wasGivenUp(key: string, offset: number): boolean {
    return this.#keys.get(key)?.get(offset)?.isGivenUp === true;
  }

  /** The member makes it a dead letter, or tries to. */
  gaveUp(call: CallOfHandler): void {
    this.givenUp += 1;
    this.#event(call).isGivenUp = true;
  }

  /** @param published offsets by partition and key. @throws when anything was out of order or is missing */
  check(published: ReadonlyMap<string, readonly number[]>): void {
    const { group, afterDeadLetter } = this.#options;
    for (const [key, offsets] of published) {
      const events = this.#keys.get(key) ?? new Map<number, EventAccount>();
      for (const [index, offset] of offsets.entries()) {
        const event = events.get(offset);
        assert(event !== undefined && event.first > 0, `${group}: ${key} at ${offset} never succeeded`);
        for (const before of offsets.slice(0, index)) {
          const earlier = events.get(before) as EventAccount;
          if (earlier.isGivenUp && afterDeadLetter === 'continue') continue;
          const isKept = event.last > earlier.first;
          assert(isKept, `${group}: ${key} at ${offset} succeeded before ${before} of its key, and not after it`);
        }
      }
    }
  }

  #event({ partition, key, offset }: CallOfHandler): EventAccount {
    const name = keyName(partition, key);
    const events = this.#keys.get(name) ?? new Map<number, EventAccount>();
    this.#keys.set(name, events);
    const event = events.get(offset) ?? { offset, first: 0, last: 0, isGivenUp: false };
    events.set(offset, event);
    return event;
  }

  #lane({ member, partition, key }: CallOfHandler): string {
    return this.#options.isExclusive ? keyName(partition, key) : `${member} ${keyName(partition, key)}`;
  }

  #name({ partition, key, offset }: CallOfHandler): string {
    return `${this.#options.group}: ${keyName(partition, key)} at ${offset}`;
  }
}

export function keyName(partition: number, key: string): string {
  return `${partition}/${key}`;
}
