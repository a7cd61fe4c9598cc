/** Copies of held events and what names them are in different partitions: a crash may come between any two appends. */
import { VirtualClock } from '@naru/testkit';
import { decodeRecords } from '@naru/protocol/batch';
import { expect, test } from 'vitest';
import { outcome } from '../core/group/held-scenario.ts';
import { decodeGroupRecord, evolveGroups, type EventOutcome, type GroupState } from '../core/group/index.ts';
import type { AppendEntry, LogStore } from '../log/log-store.ts';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import { HELD_LOG_TOPIC, LEDGER_TOPIC } from './internal-topics.ts';
import { finished } from './settling.ts';
import { GROUP_LOG, keyOf, ORDERS, sampleTopic, ShardScenario } from './shard-scenario.ts';

const HELD_LOG = sampleTopic(HELD_LOG_TOPIC, 2);

/** A store that takes batches one by one, and remembers them. */
function oneByOne(entries: AppendEntry[]): LogStore {
  const inner = new MemoryLogStore();
  return new Proxy(inner, {
    get: (target, name: keyof LogStore) => {
      if (name === 'maxAppendBytes') return 1;
      const value: unknown = target[name];
      if (name !== 'append') return typeof value === 'function' ? value.bind(target) : value;
      return (added: readonly AppendEntry[]) => {
        entries.push(...added.map((entry) => ({ ...entry, records: entry.records.slice() })));
        return target.append(added);
      };
    },
  });
}

/** Held events whose copy is not there, or is said to be needed no more. */
function withoutCopy(entries: readonly AppendEntry[]): number[] {
  const groups = new Map<string, GroupState>();
  const newest = new Map<string, { offset: number; isCopy: boolean }>();
  for (const { partition, records } of entries) {
    for (const { key, value, offset } of decodeRecords(records)) {
      if (partition.startsWith(GROUP_LOG.id)) evolveGroups(groups, decodeGroupRecord(key as Uint8Array, value));
      if (!partition.startsWith(HELD_LOG.id)) continue;
      newest.set(Buffer.from(key as Uint8Array).toString('hex'), { offset, isCopy: value !== null });
    }
  }
  const copies = new Set([...newest.values()].flatMap(({ offset, isCopy }) => (isCopy ? [offset] : [])));
  const held = [...(groups.get('payment')?.held.get(keyOf(0)) ?? [])];
  return held.flatMap(([offset, { copyOffset }]) => (copies.has(copyOffset) ? [] : [offset]));
}

test('whatever of a commit is durable after a crash, each held event has its copy and compaction leaves it', async () => {
  const clock = new VirtualClock();
  const entries: AppendEntry[] = [];
  const topics = [GROUP_LOG, HELD_LOG, sampleTopic(LEDGER_TOPIC, 2), ORDERS];
  const shard = await finished(ShardScenario.start({ store: oneByOne(entries), time: clock, topics }), clock);
  await finished(shard.append(0, ['a', 'b', 'c', 'd']), clock);
  const { memberEpoch } = await finished(shard.join('A'), clock);
  const commit = async (offset: number, outcomes: EventOutcome[]): Promise<void> => {
    const one = { partition: keyOf(0), offset, finished: [], metadata: '', leaderEpoch: -1, endOffset: null, outcomes };
    const command = { type: 'commit', groupId: 'payment', memberId: 'A', memberEpoch, offsets: [one] } as const;
    const { results } = await finished(shard.group(command), clock);
    expect(results.map(({ refusal }) => refusal)).toEqual([null]);
  };
  await commit(3, [outcome(0, 'held', 'k'), outcome(1, 'held', 'k'), outcome(2, 'dead-lettered', 'k')]);
  await commit(4, [outcome(0, 'processed'), outcome(3, 'held', 'k')]);
  await commit(4, [outcome(1, 'skipped'), outcome(3, 'processed')]);
  await finished(shard.shard.close(), clock);
  const missing = entries.map((_, index) => withoutCopy(entries.slice(0, index + 1)));
  expect(missing.flat()).toEqual([]);
  expect(entries.length).toBeGreaterThan(8);
});
