/**
 * What handlers of a group published in transactions with the offsets of their events, as readers of committed events see it: of
 * every event one output, and those of a key in the order of their events, but for events that were given up once in a group that
 * goes on after dead letters.
 */
import { assert } from '@naru/base';
import { keyName, type OrderAccount } from './order-account.ts';

/** The value of an output: which event it is of. */
export interface OutputOf {
  readonly partition: number;
  readonly key: string;
  readonly offset: number;
}

/**
 * @param outputs by partition of their topic, in their order
 * @param published offsets of events by partition and key
 * @throws when one is missing, there twice, or out of order
 */
export function checkOutputs(
  group: string,
  outputs: readonly OutputOf[],
  published: ReadonlyMap<string, readonly number[]>,
  account: OrderAccount,
): void {
  const byKey = new Map<string, number[]>();
  for (const { partition, key, offset } of outputs) {
    const name = keyName(partition, key);
    byKey.set(name, [...(byKey.get(name) ?? []), offset]);
  }
  for (const [name, offsets] of published) {
    const stored = byKey.get(name) ?? [];
    const sorted = stored.toSorted((a, b) => a - b);
    assert(
      sorted.join() === offsets.join(),
      `${group}: of ${name} at ${offsets.join()} there are outputs of ${sorted.join()}`,
    );
    const inOrder = stored.filter((offset) => !account.wasGivenUp(name, offset));
    const isKept = inOrder.every((offset, i) => i === 0 || offset > (inOrder[i - 1] as number));
    assert(isKept, `${group}: outputs of ${name} are in the order ${stored.join()}`);
  }
}
