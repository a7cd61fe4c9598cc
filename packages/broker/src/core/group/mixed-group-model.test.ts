/**
 * Random lives of groups whose members come through several doors, against what must always hold: clients that join with
 * the classic protocol (eager or cooperative), with KIP-848's, or are pushed their assignment; that leave, crash, lose
 * answers, are replaced under their instance id; groups that go over from their members' assignment to the broker's; and
 * brokers that start again.
 */
// The model is the body of the tests below, too long to stand inside them.
// oxlint-disable vitest/no-standalone-expect
import type { PartitionKey } from '@naru/base';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { CommitReply, GroupCommand } from './commands.ts';
import { decideGroup, isRefusal } from './decide.ts';
import { timersAfterRecovery } from './decide-membership.ts';
import { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
import { commitOf, GROUP_ID, GroupScenario, join } from './group-scenario.ts';
import { evolveGroup } from './group-state.ts';
import type { GroupState } from './group-state.ts';
import { groupStateName } from './inspect.ts';
import { KafkaClient } from './kafka-clients.ts';
import type { ClientKind } from './kafka-clients.ts';
import type { ClassicJoinReply, ClassicSyncReply, ParkedAnswer } from './kafka-commands.ts';

const SEED = 848;
/** NARU_TEST_LONG=1 makes it many. */
const RUNS = process.env['NARU_TEST_LONG'] === '1' ? 3_000 : 30;
const TOPICS = { a: 4, b: 3 };

type Kind = ClientKind | 'push';

type Step =
  | { do: 'start'; who: number; kind: Kind; topics: string[] }
  | { do: 'act'; who: number; lost: boolean }
  | { do: 'leave' | 'crash' | 'restart-client'; who: number }
  | { do: 'time-out'; index: number }
  | { do: 'restart-broker' | 'commit' };

/** A member that is pushed its assignment: it takes what it is told at once. */
class PushClient {
  readonly memberId: string;
  readonly working = new Set<PartitionKey>();
  readonly #ask: (command: GroupCommand) => unknown;
  readonly #topics: readonly string[];
  epoch = 0;
  state: 'join' | 'in' = 'join';

  constructor(memberId: string, topics: readonly string[], ask: (command: GroupCommand) => unknown) {
    this.memberId = memberId;
    this.#topics = topics;
    this.#ask = ask;
  }

  act(): void {
    const { memberId, epoch } = this;
    const command: GroupCommand =
      this.state === 'join'
        ? { ...join(memberId, { topics: this.#topics }), groupId: GROUP_ID }
        : { type: 'heartbeat', groupId: GROUP_ID, memberId, memberEpoch: epoch, owned: [...this.working] };
    const reply = this.#ask(command) as { memberEpoch: number; assigned: PartitionKey[] };
    this.working.clear();
    this.state = 'join';
    if (isRefusal(reply)) return;
    this.state = 'in';
    this.epoch = reply.memberEpoch;
    // It keeps what it is to release no longer than this step.
    for (const partition of reply.assigned) this.working.add(partition);
  }
}

class Model {
  readonly group = new GroupScenario(TOPICS);
  readonly #clients = new Map<number, KafkaClient | PushClient>();
  /** Who is told when a request that waits is answered, by key. */
  readonly #parked = new Map<string, KafkaClient>();
  #replayed: GroupState | undefined;
  #ids = 0;
  upgrades = 0;
  classicStable = 0;
  commits = 0;

  run(step: Step): void {
    this.#act(step);
    this.#check();
  }

  #act(step: Step): void {
    switch (step.do) {
      case 'start':
        return this.#start(step.who, step.kind, step.topics);
      case 'act': {
        const client = this.#clients.get(step.who);
        if (client instanceof KafkaClient) return this.#actKafka(client, step.lost);
        return client?.act();
      }
      case 'leave':
        return this.#leave(step.who);
      case 'crash':
        this.#clients.delete(step.who);
        return undefined;
      case 'restart-client': {
        const client = this.#clients.get(step.who);
        // A new process under the same instance id: the old one is gone.
        if (client instanceof KafkaClient && client.options.instanceId !== null) {
          this.#startKafka(step.who, client.options.kind, client.options.topics);
        }
        return undefined;
      }
      case 'time-out': {
        const keys = [...this.group.timers.keys()];
        if (keys.length > 0) this.#fire(keys[step.index % keys.length]!);
        return undefined;
      }
      case 'restart-broker':
        return this.#restartBroker();
      case 'commit':
        return this.#commitEverything();
    }
  }

  #start(who: number, kind: Kind, topics: string[]): void {
    if (this.#clients.has(who)) return;
    if (kind === 'push') {
      this.#clients.set(who, new PushClient(this.#newId(), topics, (command) => this.#decide(command)));
      return;
    }
    this.#startKafka(who, kind, topics);
  }

  #startKafka(who: number, kind: ClientKind, topics: readonly string[]): void {
    const partitionsOf = (topic: string): PartitionKey[] =>
      Array.from({ length: this.group.partitionCount(topic) }, (_, index) => this.group.key(`${topic}/${index}`));
    const client: KafkaClient = new KafkaClient({
      kind,
      topics,
      partitionsOf,
      instanceId: who < 3 ? null : `i${who}`,
      newId: () => this.#newId(),
      ask: (command) => {
        const reply = this.#decide(command) as object;
        if ('parked' in reply) this.#parked.set(reply.parked as string, client);
        return reply;
      },
    });
    this.#clients.set(who, client);
  }

  #actKafka(client: KafkaClient, lost: boolean): void {
    client.act(lost);
    if (!lost) return;
    for (const [key, waiting] of this.#parked) if (waiting === client) this.#parked.delete(key);
    client.disconnected();
  }

  #leave(who: number): void {
    const client = this.#clients.get(who);
    this.#clients.delete(who);
    if (client === undefined || client.memberId === '') return;
    const { memberId } = client;
    if (client instanceof PushClient) {
      this.#decide({ type: 'leave', groupId: GROUP_ID, memberId, memberEpoch: -1 });
      return;
    }
    const { kind, instanceId } = client.options;
    if (kind === 'consumer') {
      client.options.ask({
        ...heartbeatOf(client),
        memberEpoch: instanceId === null ? -1 : -2,
        instanceId,
      });
    } else if (instanceId === null) {
      this.#decide({ type: 'classic-leave', groupId: GROUP_ID, members: [{ memberId, instanceId }] });
    }
  }

  #fire(key: string): void {
    this.group.timers.delete(key);
    this.#decide({ type: 'timer', groupId: GROUP_ID, key });
  }

  #restartBroker(): void {
    const { group } = this;
    group.round = null;
    group.timers.clear();
    for (const { key, delayMs } of group.state === undefined ? [] : timersAfterRecovery(group.state)) {
      if (delayMs !== null) group.timers.set(key, delayMs);
    }
    this.#parked.clear();
    for (const client of this.#clients.values()) if (client instanceof KafkaClient) client.disconnected();
  }

  /** Decides twice to see that deciding changes nothing; replays the bytes of what was recorded; hands out answers. */
  #decide(command: GroupCommand): unknown {
    const { group } = this;
    const [before, roundBefore] = [structuredClone(group.state), structuredClone(group.round)];
    const wasClassic = group.state?.classic !== null && (group.state?.members.size ?? 0) > 0;
    const decision = decideGroup(group.state, command, group.context, group.nowMs, group.round);
    expect([group.state, group.round]).toEqual([before, roundBefore]);
    const { round = group.round } = decision;
    expect(group.decide(command)).toEqual(decision);
    expect(group.round).toEqual(round);
    for (const record of decision.records) {
      const { key, value } = encodeGroupRecord(record);
      this.#replayed = evolveGroup(this.#replayed, decodeGroupRecord(key, value));
    }
    expect(this.#replayed).toEqual(group.state);
    if (wasClassic && group.state?.classic === null) this.upgrades += 1;
    this.#fence();
    const asks = 'memberId' in command ? command.memberId : '';
    const joined = roundBefore?.barrier?.waiting ?? new Set<string>();
    if (group.state?.classic != null && group.state.groupEpoch > (before?.groupEpoch ?? 0)) {
      // A static member that did not join in time keeps its place, but had to stop by then (`max.poll.interval.ms`).
      for (const { memberId, working } of this.#clients.values()) {
        if (memberId !== asks && !joined.has(memberId)) working.clear();
      }
    }
    for (const answer of decision.answers ?? []) this.#answer(answer);
    return decision.reply;
  }

  #answer({ key, reply }: ParkedAnswer): void {
    const client = this.#parked.get(key);
    this.#parked.delete(key);
    if (client === undefined || ![...this.#clients.values()].includes(client)) return;
    if (key.startsWith('join/')) client.joined(reply as ClassicJoinReply);
    else client.synced(reply as ClassicSyncReply);
  }

  /** A client that was removed stops before its partitions go to others: that is what its time-outs are for. */
  #fence(): void {
    for (const client of this.#clients.values()) {
      if (client.memberId !== '' && !(this.group.state?.members.has(client.memberId) ?? false)) client.working.clear();
    }
  }

  #newId(): string {
    this.#ids += 1;
    return `m${String(this.#ids).padStart(3, '0')}`;
  }

  #check(): void {
    const workers = new Map<PartitionKey, string>();
    for (const { memberId, working } of this.#clients.values()) {
      for (const partition of working) {
        expect(workers.get(partition), `${partition} is worked on by ${memberId} too`).toBeUndefined();
        workers.set(partition, memberId);
      }
    }
    const { state, round, timers } = this.group;
    if (state === undefined) return;
    if (state.classic !== null) {
      if (groupStateName(state, round) === 'stable') this.classicStable += 1;
      this.#checkWaits();
      return;
    }
    if (state.members.size > 0) expect(round).toBeNull();
    const holders = new Map<PartitionKey, string>();
    for (const member of state.members.values()) {
      for (const partition of [...member.assigned.keys(), ...member.revoking.keys()]) {
        expect(holders.get(partition), `${partition} of ${member.memberId}`).toBeUndefined();
        holders.set(partition, member.memberId);
      }
      expect(timers.has(`session/${member.memberId}`)).toBe(true);
    }
    for (const [partition, memberId] of workers) {
      expect(holders.get(partition), `${memberId} works on ${partition}`).toBe(memberId);
    }
  }

  /** Everybody who waits is waited for by a timer; everybody else is heard of, or its session ends. */
  #checkWaits(): void {
    const { state, round, timers } = this.group;
    if (groupStateName(state!, round) === 'preparing-rebalance') expect(timers.has('barrier/')).toBe(true);
    if ((round?.unsynced.size ?? 0) > 0 && round!.barrier === null) expect(timers.has('sync/')).toBe(true);
    for (const memberId of state!.members.keys()) {
      const waits = (round?.barrier?.waiting.has(memberId) ?? false) || (round?.syncing.has(memberId) ?? false);
      if (!waits) expect(timers.has(`session/${memberId}`), `${memberId} is heard of`).toBe(true);
    }
  }

  /** Whoever works on something can commit for it, unless its group is between two generations. */
  #commitEverything(): void {
    for (const { memberId, epoch, working, state: doing } of this.#clients.values()) {
      if (doing !== 'in' && doing !== 'join') continue;
      const classic = this.group.state?.classic ?? null;
      if (classic !== null && this.group.state!.groupEpoch !== this.group.state!.assignmentEpoch) continue;
      for (const partition of working) {
        const offsets = [commitOf(partition, 1)];
        const reply = this.#decide({ type: 'commit', groupId: GROUP_ID, memberId, memberEpoch: epoch, offsets });
        expect(reply).toHaveProperty('results');
        expect((reply as CommitReply).results[0]!.refusal, `commit of ${memberId} for ${partition}`).toBeNull();
        this.commits += 1;
      }
    }
  }

  /** Members of crashed clients time out, the others go on until nothing changes. */
  settle(): void {
    for (let round = 0; round < 24; round++) {
      const present = new Set([...this.#clients.values()].map(({ memberId }) => memberId));
      // A barrier that falls while somebody is about to join throws it out: it falls when all wait.
      // (Who has no id may be one that the group does not take.)
      const allWait = this.clients.every(({ state, memberId }) => state.startsWith('wait') || memberId === '');
      for (const key of new Map(this.group.timers).keys()) {
        if (!this.group.timers.has(key)) continue;
        const memberId = key.slice(key.indexOf('/') + 1);
        const isDue = key === 'barrier/' && allWait;
        if (isDue || (key.startsWith('session/') && !present.has(memberId))) this.#fire(key);
      }
      for (const who of new Map(this.#clients).keys()) this.run({ do: 'act', who, lost: false });
    }
  }

  get clients(): readonly (KafkaClient | PushClient)[] {
    return [...this.#clients.values()];
  }
}

function heartbeatOf({ memberId, options }: KafkaClient) {
  return {
    type: 'kafka-heartbeat' as const,
    groupId: GROUP_ID,
    memberId,
    newMemberId: 'unused',
    instanceId: options.instanceId,
    rebalanceTimeoutMs: null,
    topics: null,
    topicPattern: null,
    serverAssignor: null,
    owned: null,
    clientId: 'test',
    clientHost: '127.0.0.1',
  };
}

const who = fc.nat(4);
const subscriptions = fc.subarray(Object.keys(TOPICS), { minLength: 1 });

function steps(kinds: readonly Kind[]): fc.Arbitrary<Step> {
  return fc.oneof(
    {
      weight: 4,
      arbitrary: fc.record({
        do: fc.constant('start' as const),
        who,
        kind: fc.constantFrom(...kinds),
        topics: subscriptions,
      }),
    },
    {
      weight: 20,
      arbitrary: fc.record({
        do: fc.constant('act' as const),
        who,
        lost: fc.integer({ min: 0, max: 9 }).map((number) => number === 0),
      }),
    },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constantFrom('leave' as const, 'crash' as const, 'restart-client' as const),
        who,
      }),
    },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('time-out' as const), index: fc.nat(20) }) },
    { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('restart-broker' as const, 'commit' as const) }) },
  );
}

function live(kinds: readonly Kind[]): { commits: number; settled: number; upgrades: number; classicStable: number } {
  const seen = { commits: 0, settled: 0, upgrades: 0, classicStable: 0 };
  fc.assert(
    fc.property(fc.array(steps(kinds), { minLength: 1, maxLength: 60, size: 'max' }), (life) => {
      const model = new Model();
      for (const step of life) model.run(step);
      model.settle();
      model.run({ do: 'commit' });
      seen.commits += model.commits;
      seen.upgrades += model.upgrades;
      seen.classicStable += model.classicStable;
      const { state, round } = model.group;
      if (state === undefined || state.members.size === 0) return;
      seen.settled += 1;
      expect(groupStateName(state, round)).toBe('stable');
      const members = [...state.members.values()];
      const subscribed = new Set(members.flatMap(({ topics }) => topics));
      const all = [...subscribed].flatMap((name) =>
        Array.from({ length: model.group.partitionCount(name) }, (_, index) => `${name}/${index}`),
      );
      const worked = model.clients.flatMap(({ working }) => model.group.names(working));
      expect(worked.toSorted()).toEqual(all.toSorted());
    }),
    { seed: SEED, numRuns: RUNS },
  );
  return seen;
}

test('members of every kind share a group: nothing is worked on twice, and in the end everything is', () => {
  const seen = live(['eager', 'consumer', 'push', 'cooperative']);
  expect(seen.commits).toBeGreaterThan(RUNS);
  expect(seen.settled).toBeGreaterThan(RUNS / 2);
  expect(seen.upgrades).toBeGreaterThan(RUNS / 20);
});

test.each(['eager', 'cooperative'] as const)('%s members assign among themselves', (kind) => {
  const seen = live([kind]);
  expect(seen.classicStable).toBeGreaterThan(RUNS);
  expect(seen.settled).toBeGreaterThan(RUNS / 2);
});

test.each(['eager', 'cooperative'] as const)('%s members join one that is pushed its assignment', (kind) => {
  const seen = live([kind, 'push']);
  expect(seen.commits).toBeGreaterThan(RUNS);
  expect(seen.settled).toBeGreaterThan(RUNS / 2);
});
