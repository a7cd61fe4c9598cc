import { describe, expect, test } from 'vitest';
import { HistoryChecker, VIOLATION_KINDS } from './history-checker.ts';
import type { HistoryReport, ViolationKind } from './history-checker.ts';

const P = 'events/0';

/** Values 1 to 4, each a call of its own, stored in order in one partition. */
function fourStored(): HistoryChecker {
  const history = new HistoryChecker();
  for (const value of [1, 2, 3, 4]) {
    history.sending('publisher', [value]);
    history.acknowledged(value, P, value - 1);
  }
  return history;
}

function poll(history: HistoryChecker, member: string, values: readonly number[]): void {
  history.polled(
    'drain',
    member,
    P,
    values.map((value) => ({ offset: value - 1, value })),
  );
}

function kindsOf(report: HistoryReport): ViolationKind[] {
  return [...new Set(report.violations.map(({ kind }) => kind))].sort();
}

describe('a history without a fault', () => {
  test('is found right, with its counts', () => {
    const history = fourStored();
    poll(history, 'a', [1, 2]);
    poll(history, 'a', [3, 4]);
    const report = history.check(['drain']);
    expect(report.violations).toEqual([]);
    expect(report).toMatchObject({ sent: 4, acknowledged: 4, failed: 0, stored: 4, polls: 2, counts: {} });
  });

  test('may hold a value whose acknowledgement was lost', () => {
    const history = fourStored();
    history.sending('publisher', [5]);
    poll(history, 'a', [1, 2, 3, 4, 5]);
    expect(history.check(['drain']).violations).toEqual([]);
  });

  test('may leave out a value that was neither acknowledged nor stored', () => {
    const history = fourStored();
    history.sending('publisher', [5]);
    poll(history, 'a', [1, 2, 3, 4]);
    expect(history.check(['drain']).violations).toEqual([]);
  });

  test('may have offsets without a value', () => {
    const history = new HistoryChecker();
    history.sending('publisher', [1, 2]);
    history.acknowledged(1, P, 0);
    history.acknowledged(2, P, 2);
    history.polled('drain', 'a', P, [
      { offset: 0, value: 1 },
      { offset: 2, value: 2 },
    ]);
    expect(history.check(['drain']).violations).toEqual([]);
  });

  test('may repeat events after the partition was given anew', () => {
    const history = fourStored();
    poll(history, 'a', [1, 2, 3]);
    history.repositioned('a', P);
    poll(history, 'a', [2, 3, 4]);
    expect(history.check(['drain']).violations).toEqual([]);
  });

  test('may interleave publishers as it likes', () => {
    const history = new HistoryChecker();
    history.sending('one', [1, 2]);
    history.sending('two', [3, 4]);
    history.polled(
      'drain',
      'a',
      P,
      [3, 1, 4, 2].map((value, offset) => ({ offset, value })),
    );
    expect(history.check(['drain']).violations).toEqual([]);
  });
});

/** For each kind: a history with that fault and no other. */
const planted: Record<ViolationKind, { history: () => HistoryChecker }> = {
  'inconsistent-offsets': {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 2, 3, 4]);
      history.sending('publisher', [5]);
      history.polled('drain', 'b', P, [{ offset: 3, value: 5 }]);
      return history;
    },
  },
  duplicate: {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 2, 3, 4]);
      history.polled('drain', 'a', P, [{ offset: 4, value: 2 }]);
      return history;
    },
  },
  'lost-write': {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1]);
      history.repositioned('a', P);
      poll(history, 'a', [3, 4]);
      return history;
    },
  },
  unseen: {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 2, 3]);
      return history;
    },
  },
  G1a: {
    history: () => {
      const history = fourStored();
      history.sending('publisher', [5]);
      history.failed(5);
      poll(history, 'a', [1, 2, 3, 4, 5]);
      return history;
    },
  },
  phantom: {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 2, 3, 4, 99]);
      return history;
    },
  },
  'int-poll-skip': {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 3, 4]);
      poll(history, 'b', [1, 2, 3, 4]);
      return history;
    },
  },
  'int-nonmonotonic-poll': {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 2, 3, 2, 3, 4]);
      return history;
    },
  },
  'poll-skip': {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1]);
      poll(history, 'a', [3, 4]);
      poll(history, 'b', [1, 2, 3, 4]);
      return history;
    },
  },
  'nonmonotonic-poll': {
    history: () => {
      const history = fourStored();
      poll(history, 'a', [1, 2, 3]);
      poll(history, 'a', [3, 4]);
      return history;
    },
  },
  'int-nonmonotonic-send': {
    history: () => {
      const history = new HistoryChecker();
      history.sending('publisher', [1, 2]);
      history.polled('drain', 'a', P, [
        { offset: 0, value: 2 },
        { offset: 1, value: 1 },
      ]);
      return history;
    },
  },
  'nonmonotonic-send': {
    history: () => {
      const history = new HistoryChecker();
      history.sending('publisher', [1]);
      history.sending('publisher', [2]);
      history.polled('drain', 'a', P, [
        { offset: 0, value: 2 },
        { offset: 1, value: 1 },
      ]);
      return history;
    },
  },
};

describe('a planted fault', () => {
  test.each(VIOLATION_KINDS)('%s is found, and nothing else', (kind) => {
    const report = planted[kind].history().check(['drain']);
    expect(kindsOf(report)).toEqual([kind]);
    expect(report.counts[kind]).toBe(1);
  });

  test('is told for the group that missed the value', () => {
    const history = fourStored();
    poll(history, 'a', [1, 2, 3, 4]);
    history.polled(
      'audit',
      'b',
      P,
      [1, 2, 4].map((value) => ({ offset: value - 1, value })),
    );
    const report = history.check(['drain', 'audit']);
    expect(report.counts).toEqual({ unseen: 1, 'int-poll-skip': 1 });
    expect(report.violations.map(({ message }) => message).join()).toContain('was not read by audit');
  });

  test('is told once, however many read it', () => {
    const history = fourStored();
    poll(history, 'a', [1, 2, 3, 4]);
    for (const member of ['a', 'b', 'c']) history.polled('drain', member, P, [{ offset: 4, value: 2 }]);
    expect(history.check(['drain']).counts).toMatchObject({ duplicate: 1 });
  });

  test('is counted beyond the examples', () => {
    const history = new HistoryChecker({ maxExamples: 2 });
    for (let value = 0; value < 5; value++) {
      history.sending('publisher', [value]);
      history.acknowledged(value, P, value);
    }
    const report = history.check(['drain']);
    expect(report.counts).toEqual({ unseen: 5 });
    expect(report.violations).toHaveLength(2);
  });
});

test('a history beyond its limit is refused', () => {
  const history = new HistoryChecker({ maxValues: 1 });
  history.sending('publisher', [1]);
  expect(() => history.sending('publisher', [2])).toThrow('at most 1 values');
});

test('a value that is sent twice is a mistake of the test', () => {
  const history = new HistoryChecker();
  expect(() => history.sending('publisher', [1, 1])).toThrow('sent once');
});
