/**
 * A group on a table, for tests: gives commands to the machine, applies the records, keeps the timers that are set, and
 * writes records as lines that a person can compare. Holds topics and time, both set by the test.
 */
import { assert, partitionKey, splitPartitionKey } from '@naru/base';
import type { PartitionKey, TopicId } from '@naru/base';
import type { ErrorCode } from '@naru/protocol';
import type { ClassicRound } from './classic-round.ts';
import { DEFAULT_GROUP_LIMITS } from './commands.ts';
import type { GroupCommand, GroupContext, GroupDecision, GroupLimits, GroupReplies, JoinCommand } from './commands.ts';
import { decideGroup, isRefusal } from './decide.ts';
import { evolveGroup } from './group-state.ts';
import type { GroupRecord, GroupState, OffsetRange } from './group-state.ts';
import type { ParkedAnswer } from './kafka-commands.ts';

export const GROUP_ID = 'payment';

type Without<C> = C extends GroupCommand ? Omit<C, 'groupId'> : never;

export class GroupScenario {
  readonly records: GroupRecord[] = [];
  /** Delay by key, of the timers that are set. */
  readonly timers = new Map<string, number>();
  readonly limits: GroupLimits;
  /** Answers to requests that waited, as they came. */
  readonly answers: ParkedAnswer[] = [];
  state: GroupState | undefined;
  round: ClassicRound | null = null;
  nowMs = 1_000;
  /** Whether the group needs events withheld. */
  refusesKafkaMembers = false;
  readonly #topics = new Map<string, { topicId: TopicId; partitionCount: number }>();
  #topicsMade = 0;

  constructor(topics: Readonly<Record<string, number>> = {}, limits: Partial<GroupLimits> = {}) {
    this.limits = { ...DEFAULT_GROUP_LIMITS, ...limits };
    for (const [name, partitionCount] of Object.entries(topics)) this.setTopic(name, partitionCount);
  }

  /** Makes a topic or changes its number of partitions; 0 deletes it, and a topic made again has another id. */
  setTopic(name: string, partitionCount: number): void {
    if (partitionCount === 0) {
      this.#topics.delete(name);
      return;
    }
    const topicId = this.#topics.get(name)?.topicId ?? this.#newTopicId();
    this.#topics.set(name, { topicId, partitionCount });
  }

  partitionCount(name: string): number {
    return this.#topics.get(name)?.partitionCount ?? 0;
  }

  /** `orders/3` as a key. */
  key(text: string): PartitionKey {
    const slash = text.lastIndexOf('/');
    const topic = this.#topics.get(text.slice(0, slash));
    assert(topic !== undefined, `the scenario has no topic for ${text}`);
    return partitionKey(topic.topicId, Number(text.slice(slash + 1)));
  }

  keys(...texts: string[]): PartitionKey[] {
    return texts.map((text) => this.key(text));
  }

  /** Partitions as `orders/3`; those of a deleted topic as `deleted/3`. */
  names(keys: Iterable<PartitionKey>): string[] {
    return [...keys].map((key) => {
      const { topicId, partition } = splitPartitionKey(key);
      return `${this.context.topicName(topicId) ?? 'deleted'}/${partition}`;
    });
  }

  get context(): GroupContext {
    return {
      topics: (name) => this.#topics.get(name),
      topicNames: () => this.#topics.keys(),
      topicName: (topicId) => [...this.#topics].find(([, topic]) => topic.topicId === topicId)?.[0],
      refusesKafkaMembers: () => this.refusesKafkaMembers,
      limits: this.limits,
    };
  }

  /** Decides, applies, and answers the whole decision. */
  decide<C extends Without<GroupCommand>>(command: C): GroupDecision<GroupReplies[C['type']]> {
    const whole = { groupId: GROUP_ID, ...command } as unknown as GroupCommand;
    const decision = decideGroup(this.state, whole, this.context, this.nowMs, this.round);
    if (decision.round !== undefined) this.round = decision.round;
    this.answers.push(...(decision.answers ?? []));
    for (const record of decision.records) this.state = evolveGroup(this.state, record);
    this.records.push(...decision.records);
    for (const { key, delayMs } of decision.timers) {
      if (delayMs === null) this.timers.delete(key);
      else this.timers.set(key, delayMs);
    }
    return decision as GroupDecision<GroupReplies[C['type']]>;
  }

  /** As {@link decide}, for a command that is not refused: its reply. */
  reply<C extends Without<GroupCommand>>(command: C): GroupReplies[C['type']] {
    const { reply } = this.decide(command);
    assert(!isRefusal(reply), `refused: ${JSON.stringify(reply)}`);
    return reply;
  }

  /** As {@link decide}, for a command that is refused: the code. A refusal leaves no trace. */
  refusal(command: Without<GroupCommand>): ErrorCode {
    const { reply, records, timers } = this.decide(command);
    assert(isRefusal(reply), `not refused: ${JSON.stringify(reply)}`);
    assert(records.length === 0 && timers.length === 0, 'a refusal has neither records nor timers');
    return reply.code;
  }

  /** As {@link decide}: what it recorded, as lines. */
  lines(command: Without<GroupCommand>): string[] {
    return this.decide(command).records.map((record) => this.line(record));
  }

  /** What the member holds: `orders/0 orders/1 − orders/2` with what it is to give up after the dash. */
  held(memberId: string): string {
    const member = this.state?.members.get(memberId);
    if (member === undefined) return 'gone';
    const assigned = this.names(member.assigned.keys());
    return [...assigned, ...(member.revoking.size > 0 ? ['−', ...this.names(member.revoking.keys())] : [])].join(' ');
  }

  epoch(memberId: string): number {
    const member = this.state?.members.get(memberId);
    assert(member !== undefined, `no member ${memberId}`);
    return member.memberEpoch;
  }

  line(record: GroupRecord): string {
    if (record.kind === 'group') {
      return record.value === null ? 'group deleted' : `group epoch ${record.value.groupEpoch}`;
    }
    if (record.kind === 'offset') {
      const [name] = this.names([record.partition]);
      if (record.value === null) return `offset ${name} deleted`;
      const { offset, finished } = record.value;
      return `offset ${name} = ${[offset, ...finished.map(([from, to]) => `[${from},${to})`)].join(' ')}`;
    }
    if (record.kind !== 'member')
      return `${record.kind} ${record.value === null ? 'deleted' : JSON.stringify(record.value)}`;
    if (record.value === null) return `${record.memberId} removed`;
    const { memberEpoch, joinEpoch, assigned, revoking, target } = record.value;
    const held = [...assigned].map(([key, epoch]) => `${this.names([key])[0]}@${epoch}`);
    const leaving = [...revoking].map(([key, epoch]) => `${this.names([key])[0]}@${epoch}`);
    const parts = [
      `${record.memberId} epoch ${memberEpoch} since ${joinEpoch}`,
      `holds ${held.join(' ') || 'nothing'}`,
    ];
    if (leaving.length > 0) parts.push(`gives up ${leaving.join(' ')}`);
    return [...parts, `target ${this.names(target).join(' ') || 'nothing'}`].join(', ');
  }

  #newTopicId(): TopicId {
    this.#topicsMade += 1;
    return `00000000-0000-4000-8000-${String(this.#topicsMade).padStart(12, '0')}` as TopicId;
  }
}

/** A join of a plain member to `orders`, with the broker's defaults. */
export function join(memberId: string, changes: Partial<JoinCommand> = {}): Omit<JoinCommand, 'groupId'> {
  return {
    type: 'join',
    memberId,
    memberEpoch: 0,
    instanceId: null,
    topics: ['orders'],
    clientId: 'test',
    clientHost: '127.0.0.1',
    sessionTimeoutMs: 0,
    rebalanceTimeoutMs: 0,
    maxPollIntervalMs: 0,
    owned: null,
    ...changes,
  };
}

/** One offset of a commit, to a partition that ends at 100. */
export function commitOf(
  partition: PartitionKey,
  offset: number,
  finished: readonly OffsetRange[] | null = [],
): {
  partition: PartitionKey;
  offset: number;
  finished: readonly OffsetRange[] | null;
  metadata: string;
  leaderEpoch: number;
  endOffset: number;
} {
  return { partition, offset, finished, metadata: '', leaderEpoch: -1, endOffset: 100 };
}
