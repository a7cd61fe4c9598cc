import { VirtualClock } from '@naru/testkit';
import { expect, test } from 'vitest';
import type { GroupState } from '../core/group/index.ts';
import { HeldPartition } from '../core/held/index.ts';
import { HeldWatches } from './held-watches.ts';
import { keyOf } from './shard-scenario.ts';

test('while nothing of what is due fits beside what the member has, nobody looks again and again', () => {
  const clock = new VirtualClock();
  const held = new HeldPartition();
  const event = { state: 'waiting', copyOffset: 0, attempts: 1, reason: '', error: '', redrives: 0 } as const;
  const times = { notBeforeMs: 1, firstFailureMs: 1, lastFailureMs: 1, atMs: 1 };
  for (let offset = 0; offset < 10; offset++) {
    held.set(offset, { ...event, ...times, keyId: `k${offset}`, sizeBytes: 600 });
  }
  let looks = 0;
  const state = { held: new Map([[keyOf(0), held]]) } as unknown as GroupState;
  const groups = {
    state: () => {
      looks += 1;
      return state;
    },
    cycleOf: () => 0,
  };
  const watches = new HeldWatches({ groups, topicConfig: () => undefined, clock, timers: clock });
  const [news] = watches.blockedKeys('payment', [keyOf(0)]);
  looks = 0;
  let isAnswered = false;
  const partitions = [{ partition: keyOf(0), known: news?.version ?? null, given: [0] }];
  const room = { maxEvents: 5, maxBytes: 400, hasNothing: false };
  watches.watch(
    { type: 'watch-held', watchId: 1, groupId: 'payment', partitions, ...room, maxWaitMs: 60_000 },
    () => (isAnswered = true),
  );
  clock.advance(10_000);
  expect([looks, isAnswered]).toEqual([1, false]);
  clock.advance(60_000);
  expect(isAnswered).toBe(true);
});
