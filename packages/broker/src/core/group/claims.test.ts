import { isDeepStrictEqual } from 'node:util';
import { assert } from '@naru/base';
import { describe, expect, test } from 'vitest';
import { SeededRandom } from '@naru/testkit';
import type { ClaimResult } from './commands.ts';
import { commitOf, GroupScenario, join } from './group-scenario.ts';
import { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
import { evolveGroup, groupRecords, type GroupState } from './group-state.ts';
import { outcome } from './ledger-scenario.ts';
import { DEFAULT_LEASE_MS } from './decide-claims.ts';

const DAY_MS = 86_400_000;

/** An id of 16 characters that ends with the name. */
function idOf(name: string | number): string {
  return String(name).padStart(16, '.');
}

class Claims extends GroupScenario {
  #next = 0;

  claim(memberId: string, names: readonly (string | number)[], leaseMs = 0): ClaimResult[] {
    const memberEpoch = this.epoch(memberId);
    const { results } = this.reply({ type: 'claim', memberId, memberEpoch, ids: names.map(idOf), leaseMs });
    return [...results];
  }

  states(memberId: string, ...names: (string | number)[]): string[] {
    return this.claim(memberId, names).map(({ state }) => state);
  }

  /** Commits an outcome for each name, as the holder of the topic's partition. */
  settle(
    memberId: string,
    kind: 'processed' | 'skipped' | 'held' | 'dead-lettered' | 'failed',
    ...names: (string | number)[]
  ) {
    const outcomes = names.map((name, index) => outcome(this.#next + index, kind, { idempotencyId: idOf(name) }));
    const commit = { ...commitOf(this.key('orders/0'), this.#next + names.length), outcomes, finished: [] };
    this.#next += names.length;
    const offsets = [{ ...commit, endOffset: 1_000_000 }];
    return this.decide({ type: 'commit', memberId, memberEpoch: this.epoch(memberId), offsets });
  }

  /** From the records alone, as a restart has it. */
  restart(): void {
    let state: GroupState | undefined;
    for (const record of this.state === undefined ? [] : groupRecords(this.state)) {
      const { key, value } = encodeGroupRecord(record);
      state = evolveGroup(state, decodeGroupRecord(key, value));
    }
    assert(isDeepStrictEqual(state, this.state), 'a restart finds the same state');
    this.state = state;
  }
}

function twoMembers(limits: ConstructorParameters<typeof GroupScenario>[1] = {}): Claims {
  const group = new Claims({ orders: 1, payments: 1 }, limits);
  group.reply(join('a'));
  group.reply(join('b', { topics: ['payments'] }));
  return group;
}

describe('a claim', () => {
  test('is one member’s until its lease ends, and its own again whenever it asks', () => {
    const group = twoMembers();
    expect(group.claim('a', ['x', 'y'])).toEqual([
      { state: 'claimed', untilMs: group.nowMs + DEFAULT_LEASE_MS },
      { state: 'claimed', untilMs: group.nowMs + DEFAULT_LEASE_MS },
    ]);
    expect(group.claim('b', ['x', 'z'])).toEqual([
      { state: 'busy', untilMs: group.nowMs + DEFAULT_LEASE_MS },
      { state: 'claimed', untilMs: group.nowMs + DEFAULT_LEASE_MS },
    ]);
    group.nowMs += DEFAULT_LEASE_MS - 1;
    expect(group.states('b', 'x')).toEqual(['busy']);
    expect(group.states('a', 'y')).toEqual(['claimed']);
    group.nowMs += 1;
    expect(group.states('b', 'x', 'y')).toEqual(['claimed', 'busy']);
  });

  test('is not freed by the failure of who had it before its lease ran out', () => {
    const group = twoMembers();
    group.claim('a', ['x']);
    group.nowMs += DEFAULT_LEASE_MS;
    expect(group.states('b', 'x')).toEqual(['claimed']);
    group.settle('a', 'dead-lettered', 'x');
    expect(group.states('a', 'x'), 'the other one is at it').toEqual(['busy']);
  });

  test('that names an id twice gets it once', () => {
    expect(twoMembers().states('a', 'x', 'x')).toEqual(['claimed', 'busy']);
  });

  test('ends with its member', () => {
    const group = twoMembers();
    group.claim('a', ['x']);
    group.reply({ type: 'leave', memberId: 'a', memberEpoch: -1 });
    expect(group.states('b', 'x')).toEqual(['claimed']);
  });

  test.each(['processed', 'skipped'] as const)('of what was %s is done, with the commit', (kind) => {
    const group = twoMembers();
    group.claim('a', ['x', 'y']);
    const { records } = group.settle('a', kind, 'x');
    expect(records.map((record) => record.kind)).toEqual(['offset', 'claimed-ids']);
    expect(group.states('b', 'x', 'y')).toEqual(['done', 'busy']);
    expect(group.states('a', 'x', 'y')).toEqual(['done', 'claimed']);
  });

  test.each(['held', 'dead-lettered'] as const)('of what was %s is free for whoever gets it next', (kind) => {
    const group = twoMembers();
    group.claim('a', ['x', 'y']);
    group.settle('a', kind, 'x');
    expect(group.states('b', 'x', 'y')).toEqual(['claimed', 'busy']);
  });

  test('of what failed and is tried again by the member stays', () => {
    const group = twoMembers();
    group.claim('a', ['x']);
    group.settle('a', 'failed', 'x');
    expect(group.states('b', 'x')).toEqual(['busy']);
  });

  test('a refused commit leaves claims as they are', () => {
    const group = twoMembers();
    group.claim('b', ['x']);
    expect(group.settle('b', 'processed', 'x').reply).toMatchObject({
      results: [{ refusal: { code: 'STALE_MEMBER_EPOCH' } }],
    });
    expect(group.states('a', 'x')).toEqual(['busy']);
  });

  test('is refused for who is no member, for too many ids, and beyond the group’s limit', () => {
    const group = twoMembers({ maxIdsPerClaim: 2, maxActiveClaims: 3 });
    const claim = { type: 'claim', memberId: 'a', memberEpoch: group.epoch('a'), leaseMs: 0 } as const;
    expect(group.refusal({ ...claim, memberId: 'c', ids: [idOf('x')] })).toBe('UNKNOWN_MEMBER_ID');
    expect(group.refusal({ ...claim, ids: ['x', 'y', 'z'].map(idOf) })).toBe('INVALID_REQUEST');
    group.claim('a', ['v', 'w']);
    expect(group.refusal({ ...claim, ids: ['x', 'y'].map(idOf) })).toBe('OVERLOADED');
  });
});

describe('what is done', () => {
  test('is known through restarts for the window, and then forgotten', () => {
    const group = twoMembers();
    group.claim('a', ['x']);
    group.settle('a', 'processed', 'x');
    group.restart();
    group.nowMs += DAY_MS - 1;
    expect(group.states('b', 'x')).toEqual(['done']);
    group.nowMs += 1;
    group.claim('b', ['other']);
    expect(group.states('b', 'x')).toEqual(['claimed']);
  });

  test('is written a few times in all, and in few buckets, however many commits there are', () => {
    const group = twoMembers();
    let writtenIds = 0;
    const [commits, each] = [2_000, 5];
    for (let commit = 0; commit < commits; commit++) {
      group.nowMs += 50;
      const names = Array.from({ length: each }, (_, index) => commit * each + index);
      group.claim('a', names, 10_000);
      for (const record of group.settle('a', 'processed', ...names).records) {
        if (record.kind !== 'claimed-ids' || record.value?.kind !== 'done') continue;
        writtenIds += record.value.ids.length;
      }
    }
    expect(writtenIds).toBeLessThanOrEqual(4 * commits * each);
    expect(group.state?.claimedIds?.doneCount).toBe(commits * each);
    expect(group.state?.claimedIds?.size).toBeLessThan(200);
    group.restart();
    expect(new Set(group.states('b', 0, 4_999, commits * each - 1))).toEqual(new Set(['done']));
  });

  test('goes early, the oldest first, beyond the limit, and the claim says how many', () => {
    const group = twoMembers({ maxDoneIds: 100 });
    for (let commit = 0; commit < 40; commit++) {
      group.nowMs += 1_000;
      group.settle('a', 'processed', ...Array.from({ length: 10 }, (_, index) => commit * 10 + index));
    }
    const claim = { type: 'claim', memberId: 'b', memberEpoch: group.epoch('b'), leaseMs: 0 } as const;
    const { forgotten } = group.reply({ ...claim, ids: [idOf(399), idOf(0)] });
    expect(forgotten).toBeGreaterThanOrEqual(300);
    expect(group.state?.claimedIds?.doneCount).toBeLessThanOrEqual(100);
    expect(group.states('b', 399, 0)).toEqual(['done', 'claimed']);
  });
});

test.each([11, 12, 13])(
  'however members claim, fail, leave and the broker crashes, no id is handled twice (seed %i)',
  (seed) => {
    const random = new SeededRandom(seed);
    const group = twoMembers({ idempotencyWindowMs: DAY_MS });
    const names = Array.from({ length: 40 }, (_, index) => `n${index}`);
    /** Who handles an id now, and until when by its lease; the handler knows of its lease. */
    const handling = new Map<string, { memberId: string; untilMs: number }>();
    const done = new Set<string>();
    const int = (below: number): number => random.integer(below);
    for (let step = 0; step < 1_200; step++) {
      group.nowMs += int(3_000);
      for (const [name, { untilMs }] of handling) if (untilMs <= group.nowMs) handling.delete(name);
      const memberId = random.chance(0.5) ? 'a' : 'b';
      const what = random.float();
      if (what < 0.6) {
        const wanted = [...new Set(Array.from({ length: 1 + int(5) }, () => names[int(names.length)] as string))];
        group.claim(memberId, wanted, 30_000).forEach(({ state, untilMs }, index) => {
          const name = wanted[index] as string;
          const other = handling.get(name);
          if (state === 'done') expect(done, `step ${step}`).toContain(name);
          else expect(done, `step ${step}`).not.toContain(name);
          const isOthers = other !== undefined && other.memberId !== memberId;
          expect([name, state], `step ${step}`).toEqual([
            name,
            done.has(name) ? 'done' : isOthers ? 'busy' : 'claimed',
          ]);
          if (state === 'claimed') handling.set(name, { memberId, untilMs });
        });
      } else if (what < 0.85) {
        // Only the holder of orders/0 commits; the other one's outcomes come through it as well here.
        const own = [...handling]
          .filter(([, by]) => by.memberId === 'a')
          .map(([name]) => name)
          .slice(0, 3);
        const kind = (['processed', 'held', 'dead-lettered', 'failed'] as const)[int(4)] as 'processed';
        if (own.length === 0) continue;
        group.settle('a', kind, ...own);
        for (const name of own) {
          if (kind === 'processed') done.add(name);
          if ((kind as string) !== 'failed') handling.delete(name);
        }
      } else if (what < 0.95) {
        group.restart();
      } else {
        group.reply({ type: 'leave', memberId: 'b', memberEpoch: -1 });
        for (const [name, by] of handling) if (by.memberId === 'b') handling.delete(name);
        group.restart();
        group.reply(join('b', { topics: ['payments'] }));
      }
      if (step % 400 === 399) {
        group.nowMs += 3 * DAY_MS;
        done.clear();
        handling.clear();
        group.claim('a', ['sweep']);
        handling.set('sweep', { memberId: 'a', untilMs: group.nowMs + DEFAULT_LEASE_MS });
      }
    }
    expect(group.state?.claimedIds?.size ?? 0).toBeLessThan(400);
  },
);
