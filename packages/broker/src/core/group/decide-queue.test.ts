/** Single rules of queues that the model does not look at: limits, refusals, and what is written. */
import { partitionKey, type TopicId } from '@naru/base';
import { encodeBatch } from '@naru/protocol/batch';
import { describe, expect, it } from 'vitest';
import {
  DEFAULT_GROUP_LIMITS,
  encodeGroupRecord,
  evolveGroup,
  isRefusal,
  type EventCopy,
  type GroupCommand,
  type GroupContext,
  type GroupDecision,
  type GroupLimits,
  type GroupReplies,
  type GroupState,
} from './index.ts';
import { decideGroup } from './decide.ts';
import { topicConfig, type TopicConfigTexts } from '../registry/topic-config.ts';
import { decodeQueueState, encodeQueueState } from '../queue/queue-codec.ts';
import type { RecordSettlement, SettlementKind } from '../queue/queue-commands.ts';
import { countQueue, type QueueState } from '../queue/queue-state.ts';

const JOBS = '00000000-0000-4000-8000-000000000001' as TopicId;
const ORDERS = '00000000-0000-4000-8000-000000000002' as TopicId;
const PARTITION = partitionKey(JOBS, 0);
const DEFAULTS = {
  retentionMs: 1,
  retentionBytes: 1,
  allowKeyReorder: false,
  segmentMs: 1,
  segmentBytes: 1,
  maxBatchBytes: 1,
};

type Without<C> = C extends GroupCommand ? Omit<C, 'groupId'> : never;

class Scenario {
  state: GroupState | undefined;
  nowMs = 1_000;
  readonly #config: TopicConfigTexts;
  readonly #limits: GroupLimits;

  constructor(config: TopicConfigTexts = {}, limits: Partial<GroupLimits> = {}) {
    this.#config = config;
    this.#limits = { ...DEFAULT_GROUP_LIMITS, ...limits };
  }

  get queue(): QueueState {
    const queue = this.state?.queues.get(PARTITION);
    if (queue === undefined) throw new Error('the group has no queue');
    return queue;
  }

  decide<C extends Without<GroupCommand>>(command: C): GroupDecision<GroupReplies[C['type']]> {
    const context: GroupContext = {
      topics: (name) => {
        if (name === 'jobs') return { topicId: JOBS, partitionCount: 1, isParallel: true };
        return name === 'orders' ? { topicId: ORDERS, partitionCount: 1 } : undefined;
      },
      topicNames: () => ['jobs', 'orders'],
      topicName: (topicId) => (topicId === JOBS ? 'jobs' : 'orders'),
      topicConfig: () => topicConfig(this.#config, DEFAULTS),
      limits: this.#limits,
    };
    const whole = { groupId: 'work', ...command } as unknown as GroupCommand;
    const decision = decideGroup(this.state, whole, context, this.nowMs);
    for (const record of decision.records) this.state = evolveGroup(this.state, record);
    return decision as GroupDecision<GroupReplies[C['type']]>;
  }

  code(command: Without<GroupCommand>): string | null {
    const { reply } = this.decide(command);
    return isRefusal(reply) ? reply.code : null;
  }

  join(memberId: string, topics = ['jobs']): void {
    const times = { sessionTimeoutMs: 0, rebalanceTimeoutMs: 0, maxPollIntervalMs: 0 };
    const member = { memberEpoch: 0, instanceId: null, clientId: '', clientHost: '', owned: null };
    this.decide({ type: 'join', memberId, topics, ...times, ...member });
  }

  acquire(memberId: string, end: number, maxRecords = 100_000): string {
    const memberEpoch = this.state?.members.get(memberId)?.memberEpoch ?? 0;
    const base = { memberId, memberEpoch };
    this.decide({ type: 'queue-open', ...base, partitions: [{ partition: PARTITION, startOffset: 0 }] });
    const seen = [{ from: 0, to: end, gaps: [] }];
    const reading = { partition: PARTITION, logStartOffset: 0, endOffset: end, seen, heldSeen: [] };
    const { reply } = this.decide({ type: 'queue-acquire', ...base, maxRecords, sharers: 1, partitions: [reading] });
    if (isRefusal(reply)) return reply.code;
    const ranges = reply.partitions[0]?.ranges ?? [];
    return ranges.map(({ from, to, deliveryCount }) => `${from}–${to}×${deliveryCount}`).join(' ');
  }

  settle(
    memberId: string,
    settled: readonly (readonly [kind: SettlementKind, from: number, to: number, delayMs?: number])[],
    copies?: ReadonlyMap<number, EventCopy>,
  ): string {
    const records = settled.map(([kind, from, to, delayMs = 0]): RecordSettlement => {
      return { from, to, kind, delayMs, reason: '', error: '', note: '', durationMs: 0, idempotencyId: '' };
    });
    const partitions = [{ partition: PARTITION, records, ...(copies === undefined ? {} : { copies }) }];
    const { reply } = this.decide({ type: 'queue-settle', memberId, partitions });
    if (isRefusal(reply)) return reply.code;
    return reply.refused.map(({ from, to, refusal }) => `${from}–${to} ${refusal.code}`).join(' ');
  }

  /** `state from–to` of each run. */
  runs(): string {
    return this.queue.runs.map(({ state, from, to }) => `${state} ${from}–${to}`).join(', ');
  }
}

describe('A renewal', () => {
  it('gives way to the last word on a record in the same message', () => {
    const group = new Scenario();
    group.join('a');
    group.acquire('a', 6);
    const lost = group.settle('a', [
      ['renew', 0, 6],
      ['accept', 1, 2],
      ['return', 3, 5],
    ]);
    expect(lost).toBe('');
    expect(group.runs()).toBe('acquired 0–1, finished 1–2, acquired 2–3, available 3–5, acquired 5–6');
  });
});

describe('Giving records out', () => {
  it('is refused to who is no member, does not subscribe, or asks for an ordered topic', () => {
    const group = new Scenario();
    group.join('a');
    group.join('b', ['orders']);
    expect(group.acquire('a', 2)).toBe('0–2×1');
    expect(group.acquire('x', 2)).toBe('UNKNOWN_MEMBER_ID');
    expect(group.acquire('b', 2)).toBe('NOT_ASSIGNED');
    const partitions = [{ partition: partitionKey(ORDERS, 0), startOffset: 0 }];
    const { memberEpoch } = group.state?.members.get('b') ?? { memberEpoch: 0 };
    expect(group.code({ type: 'queue-open', memberId: 'b', memberEpoch, partitions })).toBe('INVALID_REQUEST');
  });

  it('stops at what the topic allows to be out, and at as many unfinished ones as the state can name', () => {
    const group = new Scenario({ 'delivery.max.in.flight': '3', 'delivery.limit': '1000' });
    group.join('a');
    expect(group.acquire('a', 10_000)).toBe('0–3×1');
    expect(group.acquire('a', 10_000)).toBe('');
    // Those that fail wait for their time, and others are given meanwhile; but not without end.
    let given = 3;
    for (; given < 5_000; given += 3) {
      group.settle('a', [['fail', given - 3, given, 60_000]]);
      if (group.acquire('a', 10_000) === '') break;
    }
    expect(countQueue(group.queue).available).toBeLessThanOrEqual(4_000);
    expect(countQueue(group.queue).available).toBeGreaterThan(3_990);
    group.nowMs += 60_000;
    expect(group.acquire('a', 10_000)).toBe('0–3×2');
  });

  it('begins where the first member of the group said', () => {
    const group = new Scenario();
    group.join('a');
    const memberEpoch = group.state?.members.get('a')?.memberEpoch ?? 0;
    const open = (startOffset: number): unknown =>
      group.decide({
        type: 'queue-open',
        memberId: 'a',
        memberEpoch,
        partitions: [{ partition: PARTITION, startOffset }],
      }).reply;
    expect(open(5)).toEqual({ startOffsets: [5] });
    expect(open(9)).toEqual({ startOffsets: [5] });
  });
});

describe('Settling', () => {
  it('refuses only what the member does not have', () => {
    const group = new Scenario();
    group.join('a');
    group.join('b');
    group.acquire('a', 2);
    group.acquire('b', 4);
    expect(group.settle('a', [['accept', 0, 10]])).toBe('4–10 RECORD_LOCK_LOST 2–4 RECORD_LOCK_LOST');
    expect(group.settle('a', [['accept', 0, 1]])).toBe('0–1 RECORD_LOCK_LOST');
    expect(group.runs()).toBe('acquired 2–4');
  });

  it('takes the first word on what is named twice', () => {
    const group = new Scenario();
    group.join('a');
    group.acquire('a', 4);
    expect(
      group.settle('a', [
        ['accept', 0, 2],
        ['return', 1, 3],
      ]),
    ).toBe('');
    expect(group.runs()).toBe('available 2–3, acquired 3–4');
  });

  it('makes no dead letters beyond the limit of held events: the rest is done, and they stay with the member', () => {
    const group = new Scenario({}, { maxHeldEvents: 1 });
    group.join('a');
    group.acquire('a', 4);
    const copy = { keyId: '', batch: encodeBatch([{ key: null, value: null, timestampMs: 1 }]) };
    const copies = new Map([0, 1, 2].map((offset) => [offset, copy] as const));
    const refused = group.settle(
      'a',
      [
        ['reject', 0, 2],
        ['accept', 2, 3],
      ],
      copies,
    );
    expect(refused).toBe('0–2 HELD_LIMIT_REACHED');
    expect(group.runs()).toBe('acquired 0–2, finished 2–3, acquired 3–4');
    expect(group.settle('a', [['reject', 0, 1]], copies)).toBe('');
    expect(group.state?.held.get(PARTITION)?.get(0)).toMatchObject({ state: 'dead', attempts: 1 });
  });

  it('writes a value of at most 64 KiB, whatever happens to single records', () => {
    const group = new Scenario({ 'delivery.limit': '1000' });
    group.join('a');
    for (let from = 0; from < 8_000; from += 2_000) {
      group.acquire('a', from + 2_000);
      group.settle(
        'a',
        Array.from({ length: 2_000 }, (_, index) => {
          const offset = from + index;
          return offset % 2 === 0 ? ['accept', offset, offset + 1] : ['fail', offset, offset + 1, 60_000 + offset];
        }),
      );
    }
    expect(group.queue.runs.length).toBeGreaterThan(6_000);
    const { value } = encodeGroupRecord({ kind: 'queue', groupId: 'work', partition: PARTITION, value: group.queue });
    expect(value?.length).toBeLessThan(64 * 1024);
    expect(decodeQueueState(encodeQueueState(group.queue))).toEqual(group.queue);
  });
});

describe('A parallel topic', () => {
  it('has no offsets to commit', () => {
    const group = new Scenario();
    group.join('a');
    const offset = { partition: PARTITION, offset: 1, finished: [], metadata: '', leaderEpoch: -1, endOffset: 10 };
    const memberEpoch = group.state?.members.get('a')?.memberEpoch ?? 0;
    const { reply } = group.decide({ type: 'commit', memberId: 'a', memberEpoch, offsets: [offset] });
    expect(reply).toMatchObject({ results: [{ refusal: { code: 'INVALID_REQUEST' } }] });
  });

  it('is not for members that speak Kafka’s group protocols, by its name; a pattern passes it over', () => {
    const group = new Scenario();
    const heartbeat = {
      type: 'kafka-heartbeat',
      memberId: 'k',
      newMemberId: 'k',
      memberEpoch: 0,
      instanceId: null,
      rebalanceTimeoutMs: 1_000,
      topics: ['jobs'],
      topicPattern: null,
      serverAssignor: null,
      owned: [],
      clientId: '',
      clientHost: '',
    } as const;
    expect(group.code(heartbeat)).toBe('INCONSISTENT_GROUP_PROTOCOL');
    const classic = {
      type: 'classic-join',
      memberId: '',
      newMemberId: 'c',
      requiresMemberId: false,
      canSkipAssignment: false,
      instanceId: null,
      protocolType: 'consumer',
      protocols: [{ name: 'range', metadata: new Uint8Array() }],
      subscription: { topics: ['orders', 'jobs'], owned: [] },
      sessionTimeoutMs: 10_000,
      rebalanceTimeoutMs: 10_000,
      clientId: '',
      clientHost: '',
    } as const;
    expect(group.code(classic)).toBe('INCONSISTENT_GROUP_PROTOCOL');
    expect(group.code({ ...heartbeat, topics: [], topicPattern: '.*' })).toBeNull();
    expect([...(group.state?.members.get('k')?.assigned.keys() ?? [])]).toEqual([partitionKey(ORDERS, 0)]);
  });

  it('takes its queues with it when it or its group is deleted', () => {
    const group = new Scenario();
    group.join('a');
    group.acquire('a', 2);
    group.decide({ type: 'delete-offsets-of-topic', topicId: JOBS });
    expect(group.state?.queues.size).toBe(0);
    group.acquire('a', 2);
    group.decide({ type: 'leave', memberId: 'a', memberEpoch: -1 });
    group.decide({ type: 'delete-group' });
    expect(group.state).toBeUndefined();
  });
});
