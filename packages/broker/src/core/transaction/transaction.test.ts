import { NaruError } from '@naru/protocol';
import { describe, expect, it } from 'vitest';
import { decodeTransactionRecord, encodeTransactionRecord } from './transaction-record-codec.ts';
import { TransactionScript } from './transaction-script.ts';
import { MAX_PRODUCER_EPOCH, type TransactionState } from './transaction-state.ts';

function expectScript(script: TransactionScript, text: string): void {
  expect(script.run(text)).toBe(text.trim());
}

describe('flow 2', () => {
  it('has an epoch for every transaction, so that nothing late touches another one', () => {
    expectScript(
      new TransactionScript(2),
      `
init
  7/0; empty 7/0
write o/0 as 7/0
  ok; timer 60000; ongoing 7/0, o/0
write o/1 as 7/0
  ok; ongoing 7/0, o/0 o/1
write o/0 as 7/0
  ok
keep g as 7/0
  ok; ongoing 7/0, o/0 o/1 g
commit as 7/0
  7/1; commits o/0 o/1 g with 7/1; no timer; committed 7/1
# repeated: as the first time, and never the other way
commit as 7/0
  7/1
abort as 7/0
  INVALID_TXN_STATE
write o/0 as 7/0
  INVALID_PRODUCER_EPOCH
keep g as 7/0
  PRODUCER_FENCED
write o/2 as 7/1
  ok; timer 60000; ongoing 7/1, o/2
# a delayed end of the one before
commit as 7/0
  PRODUCER_FENCED
abort as 7/0
  PRODUCER_FENCED
abort as 7/1
  7/2; aborts o/2 with 7/2; no timer; aborted 7/2
abort as 7/1
  7/2
commit as 7/1
  INVALID_TXN_STATE
commit as 7/0
  PRODUCER_FENCED
`,
    );
  });

  it('ends what has not begun, and with it the epoch', () => {
    expectScript(
      new TransactionScript(2),
      `
init
  7/0; empty 7/0
commit as 7/0
  7/1; committed 7/1
abort as 7/1
  7/2; aborted 7/2
# a batch that was on its way begins nothing
write o/0 as 7/1
  INVALID_PRODUCER_EPOCH
abort as 7/1
  7/2
`,
    );
  });

  it('knows who has the id', () => {
    expectScript(
      new TransactionScript(2),
      `
write o/0 as 7/0
  INVALID_PRODUCER_ID_MAPPING
commit as 7/0
  INVALID_PRODUCER_ID_MAPPING
operator-abort
  TRANSACTIONAL_ID_NOT_FOUND
init
  7/0; empty 7/0
write o/0 as 8/0
  INVALID_PRODUCER_ID_MAPPING
commit as 8/0
  INVALID_PRODUCER_ID_MAPPING
commit as 7/1
  PRODUCER_FENCED
`,
    );
  });
});

describe('flow 1', () => {
  it('announces what it writes to, and keeps its epoch', () => {
    expectScript(
      new TransactionScript(1),
      `
init
  7/0; empty 7/0
write o/0 as 7/0
  INVALID_TXN_STATE
keep g as 7/0
  INVALID_TXN_STATE
commit as 7/0
  INVALID_TXN_STATE
add o/0 o/9 as 7/0
  UNKNOWN_TOPIC_OR_PARTITION
add o/0 o/1 as 7/0
  ok; timer 60000; ongoing 7/0, o/0 o/1
add o/1 as 7/0
  ok
add-group g as 7/0
  ok; ongoing 7/0, o/0 o/1 g
write o/0 as 7/0
  ok
write o/2 as 7/0
  INVALID_TXN_STATE
keep g as 7/0
  ok
keep h as 7/0
  INVALID_TXN_STATE
add o/2 as 7/1
  PRODUCER_FENCED
commit as 7/0
  7/0; commits o/0 o/1 g with 7/0; no timer; committed 7/0
commit as 7/0
  7/0
abort as 7/0
  INVALID_TXN_STATE
write o/0 as 7/0
  INVALID_TXN_STATE
add-group g as 7/0
  ok; timer 60000; ongoing 7/0, g
abort as 7/0
  7/0; aborts g with 7/0; no timer; aborted 7/0
abort as 7/0
  7/0
commit as 7/0
  INVALID_TXN_STATE
`,
    );
  });
});

describe('an init', () => {
  it('aborts what is open and fences who had the id', () => {
    expectScript(
      new TransactionScript(2),
      `
init
  7/0; empty 7/0
write o/0 as 7/0
  ok; timer 60000; ongoing 7/0, o/0
init
  7/1; aborts o/0 with 7/1; no timer; empty 7/1
commit as 7/0
  PRODUCER_FENCED
abort as 7/0
  PRODUCER_FENCED
write o/0 as 7/0
  INVALID_PRODUCER_EPOCH
`,
    );
  });

  it('of a producer that goes on is for who has the id; repeated, it is answered again (KIP-360)', () => {
    expectScript(
      new TransactionScript(1),
      `
init expecting 5/3
  7/0; empty 7/0
add o/0 as 7/0
  ok; timer 60000; ongoing 7/0, o/0
init expecting 7/0
  7/1; aborts o/0 with 7/1; no timer; empty 7/1
init expecting 7/0
  7/1
init expecting 6/0
  PRODUCER_FENCED
init
  7/2; empty 7/2
init expecting 7/0
  PRODUCER_FENCED
# else it would share the identity of who came after it
init expecting 7/1
  PRODUCER_FENCED
init expecting 7/2
  7/3; empty 7/3
init expecting 7/2
  7/3
add o/0 as 7/3
  ok; timer 60000; ongoing 7/3, o/0
# somebody uses what the answer said
init expecting 7/2
  PRODUCER_FENCED
`,
    );
  });

  it('checks its id and its time-out', () => {
    const script = new TransactionScript(2, { maxIds: 1 });
    const init = { type: 'init', timeoutMs: 0, expected: null, freshProducerId: 7 } as const;
    expect(script.decide({ ...init, transactionalId: '' })).toBe('INVALID_TRANSACTIONAL_ID');
    expect(script.decide({ ...init, transactionalId: 'é'.repeat(125) })).toBe('INVALID_TRANSACTIONAL_ID');
    expect(script.decide({ ...init, transactionalId: 'a', timeoutMs: -1 })).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect(script.decide({ ...init, transactionalId: 'a', timeoutMs: 900_001 })).toBe('INVALID_TRANSACTION_TIMEOUT');
    expect(script.decide({ ...init, transactionalId: 'é'.repeat(124), timeoutMs: 900_000 })).toBe('7/0; empty 7/0');
    expect(script.decide({ ...init, transactionalId: 'b' })).toBe('TOO_MANY_TRANSACTIONS');
  });
});

describe('a time-out or an operator', () => {
  it('aborts and fences: the producer has to begin anew', () => {
    expectScript(
      new TransactionScript(2),
      `
init
  7/0; empty 7/0
write o/0 as 7/0
  ok; timer 60000; ongoing 7/0, o/0
time-out
  aborted; aborts o/0 with 7/1; no timer; aborted 7/1
time-out
  nothing was open
abort as 7/0
  PRODUCER_FENCED
init expecting 7/0
  PRODUCER_FENCED
init
  7/2; empty 7/2
operator-abort
  nothing was open; empty 7/3
write o/0 as 7/2
  INVALID_PRODUCER_EPOCH
`,
    );
  });
});

describe('when the epochs of a producer id are used up', () => {
  function atLastEpoch(flow: 1 | 2): TransactionScript {
    const script = new TransactionScript(flow);
    script.run('init');
    const state = script.states.get('a') as TransactionState;
    script.states.set('a', { ...state, producerEpoch: MAX_PRODUCER_EPOCH });
    script.freshProducerId = 8;
    return script;
  }

  it('the end gives another id, and is known again by the old one', () => {
    expectScript(
      atLastEpoch(2),
      `
write o/0 as 7/32766
  ok; timer 60000; ongoing 7/32766, o/0
commit as 7/32766
  8/0; commits o/0 with 7/32767; no timer; committed 8/0
commit as 7/32766
  8/0
write o/0 as 7/32766
  INVALID_PRODUCER_ID_MAPPING
`,
    );
  });

  it('so does an init, which aborts with the epoch that is nobody’s', () => {
    expectScript(
      atLastEpoch(1),
      `
add o/0 as 7/32766
  ok; timer 60000; ongoing 7/32766, o/0
init expecting 7/32766
  8/0; aborts o/0 with 7/32767; no timer; empty 8/0
init expecting 7/32766
  8/0
`,
    );
  });

  it('a time-out leaves the id to nobody until the next init, which gives another one', () => {
    expectScript(
      atLastEpoch(2),
      `
write o/0 as 7/32766
  ok; timer 60000; ongoing 7/32766, o/0
time-out
  aborted; aborts o/0 with 7/32767; no timer; aborted 7/32767
operator-abort
  nothing was open; aborted 7/32767
write o/0 as 7/32767
  INVALID_PRODUCER_EPOCH
commit as 7/32767
  PRODUCER_FENCED
add o/0 as 7/32767
  PRODUCER_FENCED
init
  8/0; empty 8/0
`,
    );
  });
});

it('what takes part is limited', () => {
  const limited = { maxPartitions: 2, maxGroups: 1 };
  expectScript(
    new TransactionScript(2, limited),
    `
init
  7/0; empty 7/0
write o/0 as 7/0
  ok; timer 60000; ongoing 7/0, o/0
write o/1 as 7/0
  ok; ongoing 7/0, o/0 o/1
write o/2 as 7/0
  TRANSACTION_TOO_LARGE
keep g as 7/0
  ok; ongoing 7/0, o/0 o/1 g
keep h as 7/0
  TRANSACTION_TOO_LARGE
`,
  );
  expectScript(
    new TransactionScript(1, limited),
    `
init
  7/0; empty 7/0
add o/0 o/1 o/2 as 7/0
  TRANSACTION_TOO_LARGE
`,
  );
});

it('an id is forgotten when it was not used for long, but never with a transaction open', () => {
  const script = new TransactionScript(2, { idExpiryMs: 5_000 });
  script.run('init\nwrite o/0 as 7/0');
  script.nowMs += 5_000;
  expectScript(
    script,
    'expire\n  ok\ncommit as 7/0\n  7/1; commits o/0 with 7/1; no timer; committed 7/1\nexpire\n  ok',
  );
  script.nowMs += 5_000;
  expectScript(script, 'expire\n  ok; forgotten\nexpire\n  ok');
});

it('a record that cannot be read is damage', () => {
  const value = encodeTransactionRecord({ transactionalId: 'a', value: null });
  expect(value).toEqual({ key: new TextEncoder().encode('a'), value: null });
  for (const broken of [new Uint8Array(), new Uint8Array([255, 1]), new Uint8Array([0x30, 9])]) {
    expect(() => decodeTransactionRecord(value.key, broken)).toThrow(NaruError);
  }
  expect(() => decodeTransactionRecord(new Uint8Array([0xff]), null)).toThrow(/cannot be read/);
});
