import { create, toBinary } from '@bufbuild/protobuf';
import { splitPartitionKey } from '@naru/base';
import { LedgerValueSchema } from '@naru/protocol/group-records';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { commitOf, join } from './group-scenario.ts';
import { evolveGroup, groupRecords, type GroupState, type OffsetRange } from './group-state.ts';
import { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
import { decodeLedgerRecord, encodeLedgerRecord } from '../ledger/ledger-codec.ts';
import { MAX_LEDGER_MARKS } from '../ledger/ledger-marks.ts';
import { LedgerScenario, outcome } from './ledger-scenario.ts';
import { newlyFinished } from '../ledger/newly-finished.ts';

function scenario(): LedgerScenario {
  return new LedgerScenario({ orders: 3 });
}

describe('what a commit adds to the ledger', () => {
  test('a thousand events that went well are one small record, and no other record of the group', () => {
    const group = scenario();
    group.commit('orders/0', 1_000);
    const decision = group.commit('orders/0', 2_000);
    expect(decision.records.map(({ kind }) => kind)).toEqual(['offset']);
    expect(group.ledger).toHaveLength(2);
    const { key, value } = group.ledger[1] as { key: Uint8Array; value: Uint8Array };
    expect(key.length + value.length).toBeLessThan(50);
    expect(decodeLedgerRecord(value)).toEqual({ memberId: '', finished: [[1_000, 2_000]], entries: [] });
  });

  test('several partitions of a commit are one append', () => {
    const group = scenario();
    group.reply(join('a'));
    const offsets = group.keys('orders/0', 'orders/1', 'orders/2').map((key) => commitOf(key, 10));
    const { appends } = group.decide({ type: 'commit', memberId: 'a', memberEpoch: group.epoch('a'), offsets });
    expect(appends?.map(({ log, records }) => [log, records.length])).toEqual([['ledger', 3]]);
    expect(group.lookUp('orders/2', 9)).toEqual(['processed by a at 1000']);
  });

  test('only what is newly finished is told, and a commit that changes nothing tells nothing', () => {
    const group = scenario();
    group.commit('orders/0', 10, [[20, 30]]);
    group.nowMs = 2_000;
    group.commit('orders/0', 25, [[40, 41]]);
    group.nowMs = 3_000;
    group.commit('orders/0', 25, [[40, 41]]);
    expect(group.ledger).toHaveLength(2);
    expect(group.lookUp('orders/0', 15)).toEqual(['processed at 2000']);
    expect(group.lookUp('orders/0', 25)).toEqual(['processed at 1000']);
    expect(group.lookUp('orders/0', 31)).toEqual([]);
  });

  test('a refused partition adds nothing', () => {
    const group = scenario();
    group.commit('orders/0', -1);
    expect(group.ledger).toEqual([]);
  });

  test('what lies before the place where the member began was nobody’s', () => {
    const group = scenario();
    const commit = { ...commitOf(group.key('orders/0'), 60), beganAt: 50 };
    group.decide({ type: 'commit', memberId: '', memberEpoch: 0, offsets: [commit] });
    expect(group.lookUp('orders/0', 49)).toEqual([]);
    expect(group.lookUp('orders/0', 50)).toEqual(['processed at 1000']);
  });

  test('failures, dead letters, what came of them, and notes are told event by event', () => {
    const group = scenario();
    group.commit('orders/0', 0, [], [outcome(3, 'failed')]);
    group.nowMs = 2_000;
    group.commit('orders/0', 10, [], [outcome(3, 'dead-lettered'), outcome(4, 'processed', { note: 'charged' })]);
    group.nowMs = 3_000;
    const filter = { places: null, topicId: null, keyId: null, reason: null, sinceMs: null, beforeMs: null };
    const letters = { filter, limit: 10, cursor: null, dryRun: false };
    group.decide({ type: 'redrive', ...letters });
    group.nowMs = 4_000;
    group.commit('orders/0', 10, [], [outcome(3, 'dead-lettered')]);
    group.nowMs = 5_000;
    group.decide({ type: 'purge-dead-letters', ...letters });
    const history = ['failed at 1000', 'dead-lettered at 2000', 'redriven at 3000', 'dead-lettered at 4000'];
    expect(group.lookUp('orders/0', 3)).toEqual([...history, 'purged at 5000']);
    expect(group.lookUp('orders/0', 4)).toEqual(['processed (charged) at 2000']);
    expect(group.lookUp('orders/0', 5)).toEqual(['processed at 2000']);
  });

  test('a thousand long errors become records of a bounded size, and each event is told once', () => {
    const group = scenario();
    const error = 'x'.repeat(2_000);
    const outcomes = Array.from({ length: 1_000 }, (_, index) => outcome(2 * index, 'failed', { error }));
    group.commit('orders/0', 2_000, [], outcomes);
    expect(group.ledger.length).toBeGreaterThan(1);
    for (const { value } of group.ledger) expect(value?.length).toBeLessThan(256 * 1024);
    for (let offset = 0; offset < 2_000; offset += 131) {
      const what = offset % 2 === 0 ? 'failed' : 'processed';
      expect(group.lookUp('orders/0', offset)).toEqual([`${what} at 1000`]);
    }
  });

  test('without a ledger nothing is added', () => {
    const group = scenario();
    group.isUsed = false;
    const { appends = [], records } = group.commit('orders/0', 10);
    expect([appends, records.filter(({ kind }) => kind === 'ledger')]).toEqual([[], []]);
  });

  test('a deleted group, and a deleted topic, leave no marks', () => {
    const group = scenario();
    group.commit('orders/0', 10);
    const { topicId } = splitPartitionKey(group.key('orders/0'));
    group.decide({ type: 'delete-offsets-of-topic', topicId });
    expect([...(group.state?.ledgers ?? [])]).toEqual([]);
    group.commit('orders/1', 10);
    group.decide({ type: 'delete-group' });
    expect(group.state).toBeUndefined();
  });
});

describe('marks', () => {
  test('a look-up reads a small part of a long ledger, and marks are written seldom', () => {
    const group = scenario();
    let written = 0;
    const commits = 20_000;
    for (let index = 1; index <= commits; index++) {
      group.nowMs += 10;
      const { records } = group.commit('orders/0', index * 500);
      written += records.filter(({ kind }) => kind === 'ledger').length;
    }
    expect(group.state?.ledgers.get(group.key('orders/0'))?.marks.length).toBeLessThanOrEqual(MAX_LEDGER_MARKS);
    expect(written).toBeLessThan(commits / 50);
    for (const offset of [0, 4_999_999, 9_999_999]) {
      expect(group.lookUp('orders/0', offset)).toHaveLength(1);
      expect(group.readBy('orders/0', offset)).toBeLessThan(commits / 10);
    }
  });

  test('those of what retention has deleted are forgotten', () => {
    const group = scenario();
    group.keepMs = 60_000;
    for (let index = 1; index <= 200; index++) {
      group.nowMs += 10_000;
      group.commit('orders/0', index * 100_000);
    }
    const marks = group.state?.ledgers.get(group.key('orders/0'))?.marks ?? [];
    expect(marks.length).toBeLessThan(12);
  });
});

const step = fc.oneof(
  // Reads on, with gaps, which may be closed later.
  fc.record({
    do: fc.constant('finish' as const),
    partition: fc.nat(1),
    by: fc.nat(12_000),
    gaps: fc.array(fc.nat(6_000), { maxLength: 6 }),
  }),
  // Tells of single events, also of ones that were finished long ago.
  fc.record({
    do: fc.constant('tell' as const),
    partition: fc.nat(1),
    back: fc.array(fc.nat(60_000), { minLength: 1, maxLength: 4 }),
  }),
  fc.record({ do: fc.constant('back' as const), partition: fc.nat(1), to: fc.double({ min: 0, max: 1, noNaN: true }) }),
);

test('a look-up by marks finds what the whole ledger says, through failures, resets and replay', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), (steps) => {
      const group = scenario();
      const ends = [0, 0];
      const interesting: [string, number][] = [];
      for (const one of steps) {
        group.nowMs += 1_000;
        const name = `orders/${one.partition}`;
        const end = ends[one.partition] as number;
        if (one.do === 'finish') {
          const finished: OffsetRange[] = [];
          let at = end + one.by;
          for (const gap of one.gaps) {
            const from = at + 1 + (gap % 7);
            finished.push([from, from + gap + 1]);
            at = from + gap + 1;
          }
          group.commit(name, end + one.by, finished);
          ends[one.partition] = end + one.by;
          interesting.push(
            [name, end],
            [name, end + one.by - 1],
            [name, end + one.by],
            ...finished.map(([from]): [string, number] => [name, from]),
          );
        } else if (one.do === 'tell') {
          const offsets = [...new Set(one.back.map((back) => Math.max(0, end + 3_000 - back)))];
          group.commit(
            name,
            end,
            [],
            offsets.map((offset) => outcome(offset, 'failed')),
          );
          interesting.push(...offsets.map((offset): [string, number] => [name, offset]));
        } else {
          const to = Math.floor(end * one.to);
          group.decide({ type: 'reset-offsets', offsets: [{ partition: group.key(name), offset: to }] });
          ends[one.partition] = to;
        }
      }
      for (const [name, offset] of interesting.filter(([, at]) => at >= 0)) {
        expect(group.lookUp(name, offset)).toEqual(group.lookUpEverywhere(name, offset));
      }
      let replayed: GroupState | undefined;
      for (const record of group.state === undefined ? [] : groupRecords(group.state)) {
        const { key, value } = encodeGroupRecord(record);
        replayed = evolveGroup(replayed, decodeGroupRecord(key, value));
      }
      expect(replayed).toEqual(group.state);
    }),
    { seed: 501, numRuns: 150 },
  );
});

test('a record without entries is what the library would write', () => {
  const ranges = fc
    .array(fc.tuple(fc.maxSafeNat(), fc.integer({ min: 1, max: 2 ** 45 })), { maxLength: 5 })
    .map((pairs) => {
      let at = 0;
      return pairs.map(([gap, length]): OffsetRange => {
        const from = at + (gap % 2 ** 48);
        at = from + length;
        return [from, at];
      });
    });
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 200 }), ranges, (memberId, finished) => {
      const finishedDeltas = finished.flatMap(([from, to], index) => [
        BigInt(from - (finished[index - 1]?.[1] ?? 0)),
        BigInt(to - from),
      ]);
      const message = create(LedgerValueSchema, { memberId, finishedDeltas });
      const bytes = encodeLedgerRecord({ memberId, finished, entries: [] });
      expect(Buffer.from(bytes)).toEqual(Buffer.from(toBinary(LedgerValueSchema, message)));
      expect(decodeLedgerRecord(bytes)).toEqual({ memberId, finished, entries: [] });
    }),
    { seed: 503 },
  );
});

test('the difference of two positions is what one by one would find', () => {
  const ranges = fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 5 })), { maxLength: 8 });
  const position = fc.tuple(fc.nat(20), ranges).map(([offset, deltas]) => {
    const finished: OffsetRange[] = [];
    let at = offset;
    for (const [gap, length] of deltas) {
      finished.push([at + gap, at + gap + length]);
      at += gap + length;
    }
    return { offset, finished };
  });
  const covers = ({ offset, finished }: { offset: number; finished: readonly OffsetRange[] }, at: number): boolean =>
    at < offset || finished.some(([from, to]) => at >= from && at < to);
  fc.assert(
    fc.property(position, position, (before, after) => {
      const found = newlyFinished(before, after, 0);
      for (let at = 0; at < 130; at++) {
        const isNew = covers(after, at) && !covers(before, at);
        expect(found.filter(([from, to]) => at >= from && at < to).length).toBe(isNew ? 1 : 0);
      }
    }),
    { seed: 502 },
  );
});
