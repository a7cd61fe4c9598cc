/** How a transaction has ended from which its producer was fenced before it was told. */
import { describe, expect, it } from 'vitest';
import { over, setUp } from '../testing/transaction-world.ts';
import type { World } from '../testing/transaction-world.ts';

/** An operator's abort, as often as that. */
function fence({ broker }: World, times: number): void {
  for (const id of broker.ids.keys()) for (let i = 0; i < times; i++) broker.abortOpen(id);
}

function publishOne(world: World, meanwhile: () => void) {
  let runs = 0;
  return over(
    world,
    world.naru.transaction(async (tx) => {
      runs += 1;
      await tx.publish('bills', runs);
      if (runs === 1) meanwhile();
      return runs;
    }),
  );
}

describe('a transaction whose producer was fenced', () => {
  it('runs again under an id of its own, whatever operators did', async () => {
    const world = setUp({ transaction: {} });
    const { value, error } = await publishOne(world, () => fence(world, 3));
    expect(error).toBeUndefined();
    expect(value).toBe(2);
    expect(world.broker.committed('bills')).toEqual([2]);
  });

  it('is not said to be committed when that may be the one before it', async () => {
    const world = setUp({ transaction: {}, deliveryTimeoutMs: '5s' });
    const { broker, naru } = world;
    await over(
      world,
      naru.transaction((tx) => tx.publish('bills', 1)),
    );
    let isOver = false;
    broker.delayMs = () => 10; // the answer to the commit, which goes behind the batch, is under way when the stream breaks
    broker.fault = () => (isOver ? null : 'swallow');
    const second = over(
      world,
      naru.transaction((tx) => void tx.publish('bills', 2)),
    );
    await world.time.until(() => broker.received.length > 1);
    isOver = true;
    fence(world, 2);
    broker.breakStream();
    const { error } = await second;
    const isCommitted = broker.committed('bills').includes(2);
    expect(isCommitted).toBe(error === undefined);
  });

  it('runs again under a configured id when it was aborted by the broker, and fails when the id was taken', async () => {
    const aborted = setUp();
    expect(await publishOne(aborted, () => fence(aborted, 1))).toEqual({ value: 2, isOver: true });
    const taken = setUp();
    const { error } = await publishOne(taken, () => taken.broker.init('shop-0', 60_000));
    expect(error).toMatchObject({ name: 'TransactionFencedError', code: 'PRODUCER_FENCED' });
    expect(taken.broker.committed('bills')).toEqual([]);
  });
});
