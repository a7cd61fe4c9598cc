import { describe, expect, it } from 'vitest';
import { DeliveryAccount } from './delivery-account.ts';

/** One group, one key, `published` events, each delivered at the offset of its number. */
function account(published: number, sequences: readonly (number | 'assigned')[]): DeliveryAccount {
  const account = new DeliveryAccount(['billing']);
  for (let sequence = 1; sequence <= published; sequence++) account.publish('repo', sequence);
  account.assigned('billing', 0);
  for (const step of sequences) {
    if (step === 'assigned') account.assigned('billing', 0);
    else account.delivered('billing', { key: 'repo', sequence: step, partition: 0, offset: BigInt(step) });
  }
  return account;
}

function violations(account: DeliveryAccount): number {
  return account.account('billing').violations.get('repo') ?? 0;
}

describe('the order of a key', () => {
  it('is kept when numbers come one after the other', () => {
    const done = account(3, [1, 2, 3]);
    expect(done.account('billing')).toMatchObject({ handled: 3, repeated: 0 });
    expect(violations(done)).toBe(0);
    expect(done.isComplete).toBe(true);
  });

  it('is kept when a key goes back and comes up again after its partition was assigned anew', () => {
    const done = account(4, [1, 2, 3, 'assigned', 2, 3, 4]);
    expect(done.account('billing')).toMatchObject({ handled: 4, repeated: 2 });
    expect(violations(done)).toBe(0);
  });

  it('is violated by a gap, even if it is filled later', () => {
    const done = account(3, [1, 3, 2]);
    expect(violations(done)).toBe(2);
    expect(done.account('billing').handled).toBe(3);
  });

  it('is violated by going back without a new assignment', () => {
    expect(violations(account(3, [1, 2, 2, 3]))).toBe(1);
  });

  it('is violated by going back twice after one assignment', () => {
    expect(violations(account(3, [1, 2, 'assigned', 1, 2, 1, 2, 3]))).toBe(1);
  });

  it('is violated by a repetition that leaves something out', () => {
    expect(violations(account(4, [1, 2, 3, 'assigned', 1, 3, 4]))).toBe(1);
  });
});

it('an event that is never delivered is missing', () => {
  const done = account(3, [1, 2]);
  expect(done.isComplete).toBe(false);
  expect(done.account('billing').handled).toBe(2);
});

it('an event at two places of the log is a duplicate, however often it is delivered from there', () => {
  const done = account(2, [1, 2]);
  expect(done.duplicates).toBe(0);
  for (let i = 0; i < 2; i++) done.delivered('billing', { key: 'repo', sequence: 2, partition: 0, offset: 9n });
  expect(done.duplicates).toBe(1);
});
