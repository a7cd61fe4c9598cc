import { describe, expect, test } from 'vitest';
import { SeededRandom } from './seeded-random.ts';
import { HistoryChecker } from './history-checker.ts';
import type { HistoryReport } from './history-checker.ts';
import { valueOf } from './history-values.ts';
import { VIOLATION_KINDS } from './history-violations.ts';
import type { ViolationKind } from './history-violations.ts';

const P = 'events/0';
const Q = 'events/1';

/** A history of writer 0, called `publisher`, and the groups `drain` and, when asked for, others. */
function newHistory(...others: string[]): HistoryChecker {
  const history = new HistoryChecker(['drain', ...others]);
  history.writer('publisher');
  return history;
}

/** Values 0 to 3, each a call of its own, stored in order in one partition. */
function fourStored(...groups: string[]): HistoryChecker {
  const history = newHistory(...groups);
  for (let offset = 0; offset < 4; offset++) {
    const [value] = history.sending(0);
    history.acknowledged(value as number, P, offset);
  }
  return history;
}

/** Values that are at the offset of their own number. */
function poll(history: HistoryChecker, member: string, values: readonly number[], group = 'drain'): void {
  history.polled(
    group,
    member,
    P,
    values.map((value) => ({ offset: value, value })),
  );
}

/** Writer 0 has a transaction with values 0 and 1 in one partition and 2 in another, all acknowledged. */
function openTransaction(...groups: string[]): HistoryChecker {
  const history = newHistory(...groups);
  history.begin(0);
  history.sending(0, 3);
  history.acknowledged(0, P, 0);
  history.acknowledged(1, P, 1);
  history.acknowledged(2, Q, 0);
  return history;
}

function committed(...groups: string[]): HistoryChecker {
  const history = openTransaction(...groups);
  history.committing(0);
  history.committed(0);
  return history;
}

function readTransaction(history: HistoryChecker, group = 'drain', member = group): void {
  poll(history, member, [0, 1], group);
  history.polled(group, member, Q, [{ offset: 0, value: 2 }]);
}

function kindsOf(report: HistoryReport): ViolationKind[] {
  return [...new Set(report.violations.map(({ kind }) => kind))].sort();
}

describe('a history without a fault', () => {
  test('is found right, with its counts', () => {
    const history = fourStored();
    poll(history, 'a', [0, 1]);
    poll(history, 'a', [2, 3]);
    const report = history.check();
    expect(report.violations).toEqual([]);
    expect(report).toMatchObject({ sent: 4, acknowledged: 4, failed: 0, stored: 4, read: 4, polls: 2, counts: {} });
  });

  test('may hold a value whose acknowledgement was lost', () => {
    const history = fourStored();
    history.sending(0);
    poll(history, 'a', [0, 1, 2, 3, 4]);
    expect(history.check().violations).toEqual([]);
  });

  test('may leave out a value that was neither acknowledged nor stored', () => {
    const history = fourStored();
    history.sending(0);
    poll(history, 'a', [0, 1, 2, 3]);
    expect(history.check().violations).toEqual([]);
  });

  test('may have offsets without a value', () => {
    const history = newHistory();
    history.sending(0, 2);
    history.acknowledged(0, P, 0);
    history.acknowledged(1, P, 2);
    history.polled('drain', 'a', P, [
      { offset: 0, value: 0 },
      { offset: 2, value: 1 },
    ]);
    expect(history.check().violations).toEqual([]);
  });

  test('may repeat events after the partition was given anew', () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2]);
    history.repositioned('a', P);
    poll(history, 'a', [1, 2, 3]);
    expect(history.check().violations).toEqual([]);
  });

  test('may interleave writers as it likes', () => {
    const history = newHistory();
    const other = history.writer('other');
    const [one, two] = history.sending(0, 2) as [number, number];
    const [three, four] = history.sending(other, 2) as [number, number];
    const stored = [three, one, four, two].map((value, offset) => ({ offset, value }));
    history.polled('drain', 'a', P, stored);
    expect(history.check().violations).toEqual([]);
  });

  test('may tell that a value was read before it tells that it was sent', () => {
    const history = newHistory();
    poll(history, 'a', [0, 1]);
    history.sending(0, 2);
    history.acknowledged(0, P, 0);
    expect(history.check().violations).toEqual([]);
  });

  test('has transactions of every end, and readers see the right ones whole', () => {
    const history = committed();
    history.begin(0);
    history.acknowledged(history.sending(0)[0] as number, P, 3);
    history.aborted(0);
    history.begin(0);
    history.acknowledged(history.sending(0)[0] as number, P, 5);
    history.committing(0);
    history.left(0);
    history.begin(0);
    history.sending(0);
    history.committing(0);
    history.begin(0);
    history.acknowledged(history.sending(0)[0] as number, P, 8);
    readTransaction(history);
    // Of the two of unknown end the first was committed, the second not; the last one is open.
    history.polled('drain', 'drain', P, [{ offset: 5, value: 4 }]);
    const report = history.check();
    expect(report.violations).toEqual([]);
    expect(report.transactions).toEqual({ committed: 1, aborted: 1, unknown: 2, left: 1 });
  });

  test('may tell of a read before it tells of the commit, when the clock says otherwise', () => {
    const history = openTransaction();
    history.polled('drain', 'a', Q, [{ offset: 0, value: 2 }], 101);
    history.committing(0, 100);
    history.committed(0);
    poll(history, 'b', [0, 1]);
    expect(history.check().violations).toEqual([]);
  });
});

/** For each kind: a history with that fault and no other. */
const planted: Record<ViolationKind, () => HistoryChecker> = {
  'inconsistent-offsets': () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2, 3]);
    history.sending(0);
    history.polled('drain', 'b', P, [{ offset: 3, value: 4 }]);
    return history;
  },
  duplicate: () => {
    const history = fourStored();
    const other = history.writer('other');
    const [value] = history.sending(other) as [number];
    poll(history, 'a', [0, 1, 2, 3]);
    history.polled('drain', 'a', P, [
      { offset: 4, value },
      { offset: 5, value },
    ]);
    return history;
  },
  'lost-write': () => {
    const history = fourStored();
    poll(history, 'a', [0]);
    history.repositioned('a', P);
    poll(history, 'a', [2, 3]);
    return history;
  },
  unseen: () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2]);
    return history;
  },
  G1a: () => {
    const history = fourStored();
    history.failed(history.sending(0)[0] as number);
    poll(history, 'a', [0, 1, 2, 3, 4]);
    return history;
  },
  'precommitted-read': () => {
    const history = openTransaction();
    poll(history, 'drain', [0]);
    history.committing(0);
    history.committed(0);
    poll(history, 'drain', [1]);
    history.polled('drain', 'drain', Q, [{ offset: 0, value: 2 }]);
    return history;
  },
  'torn-transaction': () => {
    const history = committed();
    poll(history, 'drain', [0, 1]);
    return history;
  },
  phantom: () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2, 3, 99]);
    return history;
  },
  'int-poll-skip': () => {
    const history = fourStored();
    poll(history, 'a', [0, 2, 3]);
    poll(history, 'b', [0, 1, 2, 3]);
    return history;
  },
  'int-nonmonotonic-poll': () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2, 1, 2, 3]);
    return history;
  },
  'poll-skip': () => {
    const history = fourStored();
    poll(history, 'a', [0]);
    poll(history, 'a', [2, 3]);
    poll(history, 'b', [0, 1, 2, 3]);
    return history;
  },
  'nonmonotonic-poll': () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2]);
    poll(history, 'a', [2, 3]);
    return history;
  },
  'int-nonmonotonic-send': () => {
    const history = newHistory();
    const values = history.sending(0, 2).toReversed();
    history.polled(
      'drain',
      'a',
      P,
      values.map((value, offset) => ({ offset, value })),
    );
    return history;
  },
  'nonmonotonic-send': () => {
    const history = newHistory();
    const values = [...history.sending(0), ...history.sending(0)].toReversed();
    history.polled(
      'drain',
      'a',
      P,
      values.map((value, offset) => ({ offset, value })),
    );
    return history;
  },
};

describe('a planted fault', () => {
  test.each(VIOLATION_KINDS)('%s is found, and nothing else', (kind) => {
    const report = planted[kind]().check();
    expect(kindsOf(report)).toEqual([kind]);
    expect(report.counts[kind]).toBe(1);
  });

  test('is told for the group that missed the value', () => {
    const history = fourStored('audit');
    poll(history, 'a', [0, 1, 2, 3]);
    poll(history, 'b', [0, 1, 3], 'audit');
    const report = history.check();
    expect(report.counts).toEqual({ unseen: 1, 'int-poll-skip': 1 });
    expect(report.violations.map(({ message }) => message).join()).toContain('was not read by audit');
  });

  test('is told once, however many read it', () => {
    const history = fourStored();
    poll(history, 'a', [0, 1, 2, 3]);
    for (const member of ['a', 'b', 'c']) history.polled('drain', member, P, [{ offset: 4, value: 3 }]);
    expect(history.check().counts).toMatchObject({ duplicate: 1 });
  });

  test('is counted beyond the examples', () => {
    const history = new HistoryChecker(['drain'], { maxExamples: 2 });
    const writer = history.writer('publisher');
    for (let offset = 0; offset < 5; offset++) {
      history.acknowledged(history.sending(writer)[0] as number, P, offset);
    }
    const report = history.check();
    expect(report.counts).toEqual({ unseen: 5 });
    expect(report.violations).toHaveLength(2);
  });
});

describe('of transactions', () => {
  test('a read of an aborted one is G1a', () => {
    const history = openTransaction();
    history.aborted(0);
    poll(history, 'a', [0]);
    expect(history.check().counts).toEqual({ G1a: 1 });
  });

  test('a read of one that was aborted after its commit was asked for is G1a', () => {
    const history = openTransaction();
    history.committing(0);
    readTransaction(history);
    history.aborted(0);
    expect(history.check().counts).toEqual({ G1a: 3 });
  });

  test('a read of one whose commit nobody asked for is precommitted-read', () => {
    const history = openTransaction();
    readTransaction(history);
    history.begin(0);
    expect(history.check().counts).toEqual({ 'precommitted-read': 1 });
  });

  test('one that is committed and read by nobody is lost', () => {
    expect(committed().check().counts).toEqual({ 'lost-write': 1 });
  });

  test('one that a group has not read is unseen by it', () => {
    const history = committed('audit');
    readTransaction(history, 'audit');
    expect(history.check().counts).toEqual({ unseen: 1 });
  });

  test('one of unknown end is torn when a group has a part of it', () => {
    const history = openTransaction();
    history.committing(0);
    history.left(0);
    poll(history, 'drain', [0, 1]);
    expect(history.check().counts).toEqual({ 'torn-transaction': 1 });
  });

  test('one of unknown end that some have and others have not is unseen by those', () => {
    const history = openTransaction('audit');
    history.committing(0);
    history.left(0);
    readTransaction(history, 'audit');
    expect(history.check().counts).toEqual({ unseen: 1 });
  });

  test('a value that a member left out although it was committed is a skip', () => {
    const history = newHistory();
    history.begin(0);
    history.sending(0, 3);
    history.committing(0);
    history.committed(0);
    poll(history, 'a', [0, 2]);
    poll(history, 'b', [0, 1, 2]);
    expect(history.check().counts).toEqual({ 'int-poll-skip': 1 });
  });
});

test('a history beyond its limit is refused', () => {
  const history = new HistoryChecker(['drain'], { maxValues: 1 });
  const writer = history.writer('publisher');
  history.sending(writer);
  expect(() => history.sending(writer)).toThrow('at most 1 values');
});

describe('what is judged and as it should be is collapsed', () => {
  const TRANSACTIONS = 4_000;
  const SIZE = 10;

  /** Transactions in turns of commit, abort and unknown, over two partitions, read by two groups as they come. */
  function longHistory(): { history: HistoryChecker; places: Map<number, [string, number]> } {
    const history = newHistory('audit');
    const random = new SeededRandom(7);
    const ends = new Map([P, Q].map((name) => [name, 0]));
    const places = new Map<number, [string, number]>();
    for (let i = 0; i < TRANSACTIONS; i++) {
      const isStored = i % 3 !== 1;
      history.begin(0);
      const read = new Map<string, { offset: number; value: number }[]>();
      for (const value of history.sending(0, SIZE)) {
        const partition = random.pick([P, Q]);
        const offset = ends.get(partition) ?? 0;
        ends.set(partition, offset + 1);
        history.acknowledged(value, partition, offset);
        if (!isStored) continue;
        places.set(value, [partition, offset]);
        const events = read.get(partition) ?? [];
        read.set(partition, [...events, { offset, value }]);
      }
      if (isStored) history.committing(0);
      if (i % 3 === 0) history.committed(0);
      if (i % 3 === 1) history.aborted(0);
      if (i % 3 === 2) history.left(0);
      for (const [partition, events] of read) {
        for (const group of ['drain', 'audit']) history.polled(group, group, partition, events);
        // Its marker.
        ends.set(partition, (ends.get(partition) ?? 0) + 1);
      }
    }
    return { history, places };
  }

  test('and a healthy history stays healthy', () => {
    const { history } = longHistory();
    const report = history.check();
    expect(report.violations).toEqual([]);
    expect(report.read).toBe(2 * Math.ceil(TRANSACTIONS / 3) * SIZE - SIZE);
    expect(report.maxLiveOffsets).toBeLessThan((TRANSACTIONS * SIZE) / 1.5);
  });

  test('and may be read again by who is given the partition', () => {
    const { history, places } = longHistory();
    const first = [...places].filter(([, [partition]]) => partition === P).slice(0, 500);
    history.polled(
      'drain',
      'late',
      P,
      first.map(([value, [, offset]]) => ({ offset, value })),
    );
    expect(history.check().violations).toEqual([]);
  });

  test.each<[ViolationKind, (history: HistoryChecker, places: Map<number, [string, number]>) => void]>([
    ['inconsistent-offsets', (history) => history.polled('drain', 'late', P, [{ offset: 0, value: 29 }])],
    ['duplicate', (history) => history.polled('drain', 'late', 'events/2', [{ offset: 0, value: 0 }])],
    ['G1a', (history, places) => history.polled('drain', 'late', ...firstAborted(places))],
  ])('and %s is found in it', (kind, fault) => {
    const { history, places } = longHistory();
    fault(history, places);
    expect(Object.keys(history.check().counts)).toContain(kind);
  });

  /** The second transaction's first value, just behind the first transaction in its partition. */
  function firstAborted(places: Map<number, [string, number]>): [string, { offset: number; value: number }[]] {
    const last = [...places].filter(([value, [partition]]) => value < SIZE && partition === P).at(-1);
    return [P, [{ offset: (last?.[1][1] ?? 0) + 2, value: valueOf(0, SIZE) }]];
  }
});
