import { decodeRecords } from '@naru/protocol/batch';
import { describe, expect, test } from 'vitest';
import { join } from './group-scenario.ts';
import type { DeadLetterFilter } from './dead-letters.ts';
import { HeldScenario, idOf, outcome } from './held-scenario.ts';

/** `offset=value` of the copies that were written, a cross for the end of one. */
function copies(group: HeldScenario): string[] {
  return group.copies.map(({ value }) => {
    if (value === null) return '×';
    const [record] = decodeRecords(value);
    return `${record?.offset}=${new TextDecoder().decode(record?.value ?? new Uint8Array())}`;
  });
}

describe('an event that is held', () => {
  test('is copied, finished and waiting in one decision, and its key is blocked', () => {
    const group = HeldScenario.joined();
    group.nowMs = 5_000;
    const failed = { attempts: 3, nextAttemptMs: 9_000, reason: 'x', error: 'y', firstFailureMs: 1, lastFailureMs: 2 };
    expect(group.commit(2, [outcome(1, 'held', 'a', failed)])).toBe('ok');
    expect(copies(group)).toEqual(['1=1']);
    expect(group.events?.get(1)).toEqual({
      state: 'waiting',
      keyId: idOf('a'),
      copyOffset: 0,
      attempts: 3,
      notBeforeMs: 9_000,
      reason: 'x',
      error: 'y',
      firstFailureMs: 1,
      lastFailureMs: 2,
      atMs: 5_000,
      redrives: 0,
      sizeBytes: group.copies[0]?.value?.length,
    });
    expect(group.blockedKeys()).toEqual(['a']);
    expect(group.deliverable()).toEqual([]);
    group.nowMs = 9_000;
    expect(group.deliverable()).toEqual([1]);
  });

  test('comes before those of its key that were held after it, and one at a time', () => {
    const group = HeldScenario.joined();
    group.commit(6, [...[5, 1, 3].map((offset) => outcome(offset, 'held', 'a')), outcome(2, 'held', 'b')]);
    expect(group.deliverable()).toEqual([1, 2]);
    expect(group.deliverable([1])).toEqual([2]);
    group.commit(6, [outcome(1, 'processed')]);
    expect(group.deliverable()).toEqual([2, 3]);
    group.commit(6, [outcome(3, 'skipped'), outcome(5, 'failed')]);
    expect(group.heldTexts).toEqual(['2:waiting', '5:waiting']);
    group.commit(6, [outcome(5, 'processed')]);
    expect(group.blockedKeys()).toEqual(['b']);
  });

  test('without a key waits for nobody, and nobody for it', () => {
    const group = HeldScenario.joined();
    group.commit(3, [
      outcome(0, 'held', null),
      outcome(1, 'held', null, { nextAttemptMs: 9_000 }),
      outcome(2, 'held', null),
    ]);
    expect(group.deliverable()).toEqual([0, 2]);
    expect(group.deliverable([0])).toEqual([2]);
    expect(group.blockedKeys()).toEqual([]);
  });

  test('keeps its place when it fails again, and its copy', () => {
    const group = HeldScenario.joined();
    group.commit(2, [outcome(0, 'held', 'a', { firstFailureMs: 7 }), outcome(1, 'held', 'a')]);
    expect(
      group.commit(2, [outcome(0, 'held', undefined, { attempts: 4, nextAttemptMs: 9_000, firstFailureMs: 8 })]),
    ).toBe('ok');
    expect(group.events?.get(0)).toMatchObject({ attempts: 4, notBeforeMs: 9_000, firstFailureMs: 7, copyOffset: 0 });
    expect(copies(group)).toEqual(['0=0', '1=1']);
    expect(group.deliverable()).toEqual([]);
    // Read by somebody who found its key blocked.
    expect(group.commit(2, [outcome(0, 'held', 'a')])).toBe('ok');
    expect(group.events?.get(0)).toMatchObject({ attempts: 4 });
  });

  test('is forgotten with its copy when it is done', () => {
    const group = HeldScenario.joined();
    group.commit(1, [outcome(0, 'held', 'a')]);
    group.commit(1, [outcome(0, 'processed')]);
    expect(group.events).toBeUndefined();
    expect(copies(group)).toEqual(['0=0', '×']);
    expect(group.copies[0]?.key).toEqual(group.copies[1]?.key);
  });

  test('dropped by a lower commit is read again; dead letters stay', () => {
    const group = HeldScenario.joined();
    group.commit(
      6,
      [0, 2, 4].map((offset) => outcome(offset, 'held', 'a')),
    );
    group.commit(6, [outcome(5, 'dead-lettered', 'b')]);
    group.commit(2, []);
    expect(group.heldTexts).toEqual(['0:waiting', '5:dead']);
    expect(copies(group).filter((text) => text === '×')).toHaveLength(2);
    group.commit(6, [outcome(2, 'held', 'a')]);
    expect(group.commit(1, [], [[2, 3]])).toBe('ok');
    expect(group.heldTexts).toEqual(['0:waiting', '2:waiting', '5:dead']);
    expect(group.commit(0, [])).toBe('ok');
    expect(group.heldTexts).toEqual(['5:dead']);
  });

  test('stays finished when a commit leaves it out without going back', () => {
    const group = HeldScenario.joined();
    group.commit(1, [outcome(3, 'held', 'a'), outcome(6, 'held', 'b')], [[3, 7]]);
    expect(group.commit(2, [], [])).toBe('ok');
    expect(group.heldTexts).toEqual(['3:waiting', '6:waiting']);
    const committed = group.state?.offsets.get(group.partition);
    expect([committed?.offset, committed?.finished]).toEqual([
      2,
      [
        [3, 4],
        [6, 7],
      ],
    ]);
  });

  test('is dropped by a reset, and everything is with the group', () => {
    const group = HeldScenario.joined();
    group.commit(6, [outcome(1, 'held', 'a'), outcome(4, 'held', 'a'), outcome(5, 'dead-lettered', 'b')]);
    group.decide({ type: 'leave', memberId: 'A', memberEpoch: -1 });
    group.reply({ type: 'reset-offsets', offsets: [{ partition: group.partition, offset: 3 }] });
    expect(group.heldTexts).toEqual(['1:waiting', '5:dead']);
    group.reply({ type: 'delete-group' });
    expect(group.state).toBeUndefined();
    expect(copies(group).filter((text) => text === '×')).toHaveLength(3);
  });

  test('is refused beyond the limits, with everything else of its partition', () => {
    const group = HeldScenario.joined({ maxHeldEvents: 2 });
    expect(group.commit(2, [outcome(0, 'held', 'a'), outcome(1, 'dead-lettered', 'b')])).toBe('ok');
    expect(group.commit(4, [outcome(2, 'held', 'a'), outcome(0, 'processed')])).toBe('ok');
    expect(group.commit(5, [outcome(4, 'dead-lettered', 'a')])).toBe('HELD_LIMIT_REACHED');
    expect(group.state?.offsets.get(group.partition)?.offset).toBe(4);
    // What is held already may still change.
    expect(group.commit(5, [outcome(2, 'dead-lettered')])).toBe('ok');
    const bytes = HeldScenario.joined({ maxHeldBytes: 100 });
    expect(bytes.commit(2, [outcome(0, 'held', 'a'), outcome(1, 'held', 'a')])).toBe('HELD_LIMIT_REACHED');
    expect(bytes.commit(1, [outcome(0, 'held', 'a')])).toBe('ok');
  });

  test('must be finished by its commit, and there', () => {
    const group = HeldScenario.joined({ maxOutcomes: 2 });
    expect(group.commit(2, [outcome(2, 'held', 'a')])).toBe('INVALID_REQUEST');
    expect(group.commit(2, [outcome(2, 'held', 'a')], [[3, 4]])).toBe('INVALID_REQUEST');
    expect(group.commit(2, [outcome(1, 'held')])).toBe('INVALID_REQUEST');
    expect(group.commit(2, [outcome(1, 'held', 'a'), outcome(1, 'held', 'a')])).toBe('INVALID_REQUEST');
    expect(
      group.commit(
        3,
        [0, 1, 2].map((offset) => outcome(offset, 'processed')),
      ),
    ).toBe('INVALID_REQUEST');
    expect(group.commit(3, [outcome(1, 'held', undefined, { copy: null })])).toBe('ok');
    expect(group.events).toBeUndefined();
    // A reader that does not count ranges.
    expect(group.commit(3, [outcome(5, 'held', 'a')], null)).toBe('ok');
    expect(group.state?.offsets.get(group.partition)?.finished).toEqual([[5, 6]]);
  });

  test('is refused while the group has Kafka members, and from who lost the partition', () => {
    const group = HeldScenario.joined();
    const epoch = group.epoch('A');
    group.reply(join('B'));
    group.reply({ type: 'heartbeat', memberId: 'A', memberEpoch: epoch, owned: [group.partition] });
    const offsets = [
      { partition: group.key('orders/1'), offset: 1, finished: [], metadata: '', leaderEpoch: -1, endOffset: 9 },
    ];
    const outcomes = [outcome(0, 'held', 'a')];
    const { results } = group.reply({
      type: 'commit',
      memberId: 'A',
      memberEpoch: group.epoch('A'),
      offsets: offsets.map((offset) => ({ ...offset, outcomes })),
    });
    expect(results.map(({ refusal }) => refusal?.code)).toEqual(['STALE_MEMBER_EPOCH']);
    expect(group.copies).toEqual([]);
  });
});

describe('a dead letter', () => {
  test('blocks its key where it parks, until it is redriven and handled; what was held behind follows', () => {
    const group = HeldScenario.joined();
    group.parks = true;
    group.commit(1, [outcome(0, 'dead-lettered', 'a', { reason: 'rejected' })]);
    expect(group.blockedKeys()).toEqual(['a']);
    group.commit(3, [outcome(1, 'held', 'a'), outcome(2, 'held', 'a')]);
    expect(group.deliverable()).toEqual([]);
    expect(group.events?.waitingBehind(0)).toBe(2);
    group.reply(redrive());
    expect(group.events?.get(0)).toMatchObject({ state: 'waiting', attempts: 0, redrives: 1, reason: 'rejected' });
    expect(group.deliverable()).toEqual([0]);
    group.commit(3, [outcome(0, 'dead-lettered')]);
    expect(group.deliverable()).toEqual([]);
    group.reply({ ...redrive(), type: 'purge-dead-letters' });
    expect(group.deliverable()).toEqual([1]);
  });

  test('lets others of its key go on where it continues, and blocks it while it is given again', () => {
    const group = HeldScenario.joined();
    group.commit(3, [outcome(0, 'dead-lettered', 'a'), outcome(2, 'dead-lettered', 'a')]);
    expect(group.blockedKeys()).toEqual([]);
    group.reply(redrive());
    expect(group.deliverable()).toEqual([0]);
    expect(group.blockedKeys()).toEqual(['a']);
    group.commit(3, [outcome(0, 'processed')]);
    expect(group.deliverable()).toEqual([2]);
  });

  test('is there once, however often it is reported', () => {
    const group = HeldScenario.joined();
    group.commit(1, [outcome(0, 'dead-lettered', 'a', { attempts: 5 })]);
    group.commit(1, [outcome(0, 'dead-lettered', 'a', { attempts: 6 })]);
    group.commit(1, [outcome(0, 'processed')]);
    expect(group.heldTexts).toEqual(['0:dead 5']);
    expect(group.copies).toHaveLength(1);
  });
});

describe('redriving', () => {
  test('goes page by page over what was there when it began, and repeats nothing', () => {
    const group = HeldScenario.joined();
    group.commit(
      9,
      Array.from({ length: 9 }, (_, offset) => outcome(offset, 'dead-lettered', `k${offset % 2}`)),
    );
    const untilMs = group.nowMs;
    const page = group.reply({ ...redrive(), limit: 4, untilMs });
    expect(page.letters.map(({ offset }) => offset)).toEqual([0, 1, 2, 3]);
    group.nowMs += 1;
    group.commit(9, [outcome(0, 'dead-lettered')]);
    group.commit(10, [outcome(9, 'dead-lettered', 'k0')]);
    const rest = group.reply({ ...redrive(), limit: 100, untilMs, cursor: page.next });
    expect(rest.letters.map(({ offset }) => offset)).toEqual([4, 5, 6, 7, 8]);
    expect(rest.next).toBeNull();
    expect(group.heldTexts.filter((text) => text.endsWith('dead'))).toEqual(['0:dead', '9:dead']);
  });

  test('finds by key, reason, time, topic and place, and says what is missing', () => {
    const group = HeldScenario.joined();
    group.commit(1, [outcome(0, 'dead-lettered', 'a', { reason: 'x' })]);
    group.nowMs += 10;
    group.commit(3, [
      outcome(1, 'dead-lettered', 'b', { reason: 'x' }),
      outcome(2, 'dead-lettered', 'a', { reason: 'y' }),
    ]);
    const found = (filter: Partial<DeadLetterFilter>): number[] => {
      const { letters } = group.reply({ ...redrive(filter), dryRun: true });
      return letters.map(({ offset }) => offset);
    };
    expect(found({ keyId: idOf('a') })).toEqual([0, 2]);
    expect(found({ reason: 'x' })).toEqual([0, 1]);
    expect(found({ sinceMs: group.nowMs })).toEqual([1, 2]);
    expect(found({ beforeMs: group.nowMs })).toEqual([0]);
    expect(found({ topicId: '00000000-0000-4000-8000-000000000009' as never })).toEqual([]);
    const places = [2, 7].map((offset) => ({ partition: group.partition, offset }));
    const { letters, missing } = group.reply({ ...redrive({ places }) });
    expect(letters.map(({ offset }) => offset)).toEqual([2]);
    expect(missing.map(({ place, refusal }) => [place.offset, refusal.code])).toEqual([[7, 'DEAD_LETTER_NOT_FOUND']]);
    expect(group.heldTexts).toEqual(['0:dead', '1:dead', '2:waiting']);
  });
});

function redrive(filter: Partial<DeadLetterFilter> = {}) {
  const nothing: DeadLetterFilter = {
    places: null,
    topicId: null,
    keyId: null,
    reason: null,
    sinceMs: null,
    beforeMs: null,
  };
  return {
    type: 'redrive' as const,
    filter: { ...nothing, ...filter },
    limit: 1_000,
    cursor: null,
    untilMs: 1_000_000,
    dryRun: false,
  };
}
