/**
 * Random lives of a group against what must always hold: joins, resumptions, leaves, crashes, releases, topics that come,
 * grow and go, and commits, also late ones of former holders.
 */
// The model is the body of the one test below, too long to stand inside it.
// oxlint-disable vitest/no-standalone-expect
import type { PartitionKey } from '@naru/base';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { CommitReply, GroupCommand } from './commands.ts';
import { decideGroup, isRefusal } from './decide.ts';
import { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
import { commitOf, GROUP_ID, GroupScenario, join } from './group-scenario.ts';
import { evolveGroup, LEFT_STATIC_EPOCH } from './group-state.ts';
import type { GroupState, MemberState } from './group-state.ts';
import { groupStateName } from './inspect.ts';

const SEED = 1_251;
/** NARU_TEST_LONG=1 makes it many. */
const RUNS = process.env['NARU_TEST_LONG'] === '1' ? 2_000 : 150;
const NAMES = ['a', 'b', 'c'];

type Step =
  | { do: 'join'; who: number; topics: string[] }
  | { do: 'go-on' | 'leave' | 'leave-for-a-while'; who: number }
  | { do: 'commit'; age: number }
  | { do: 'heartbeat'; who: number; release: 'all' | 'some' | 'none' }
  | { do: 'resubscribe'; who: number; topics: string[] }
  | { do: 'time-out'; who: number; kind: 'session' | 'revoke' | 'poll' }
  | { do: 'topic'; name: string; count: number };

/** A process that takes part: what it was told, which is what it really works on. */
interface Client {
  memberId: string;
  epoch: number;
  held: Set<PartitionKey>;
}

/** The right to commit, as a member had it at some time. */
interface Grant {
  memberId: string;
  epoch: number;
  partition: PartitionKey;
  holding: number;
}

class Model {
  readonly group = new GroupScenario({ a: 3, b: 2 });
  readonly #clients = new Map<number, Client>();
  readonly #grants: Grant[] = [];
  /** Counts up whenever a partition changes hands, or its holder begins a new life. */
  readonly #holdings = new Map<PartitionKey, { holder: string; count: number }>();
  #replayed: GroupState | undefined;
  #incarnations = 0;

  run(step: Step): void {
    const before = new Map(this.group.state?.members);
    const epochBefore = this.group.state?.groupEpoch ?? 0;
    this.#act(step);
    this.#noteHoldings();
    this.#check(before, epochBefore);
  }

  #act(step: Step): void {
    if (step.do === 'topic') {
      // Partitions are never taken away from a topic.
      const present = this.group.partitionCount(step.name);
      this.group.setTopic(step.name, step.count === 0 ? 0 : Math.max(present, step.count));
      this.#decide({ type: 'topics-changed', groupId: GROUP_ID });
      return;
    }
    if (step.do === 'commit') {
      const grant = this.#grants.at(-1 - step.age);
      if (grant !== undefined) this.#commit(grant);
      return;
    }
    if (step.do === 'join') {
      this.#join(step.who, step.topics);
      return;
    }
    const client = this.#clients.get(step.who);
    if (client === undefined) return;
    const { memberId, epoch, held } = client;
    const member = this.group.state?.members.get(memberId);
    switch (step.do) {
      case 'go-on':
        this.#tell(step.who, {
          ...join(memberId, { ...identity(step.who), topics: [...(member?.topics ?? ['a'])] }),
          groupId: GROUP_ID,
          memberEpoch: epoch,
          owned: [...held],
        });
        break;
      case 'heartbeat':
        this.#heartbeat(step.who, client, step.release);
        break;
      case 'resubscribe':
        this.#tell(step.who, {
          type: 'heartbeat',
          groupId: GROUP_ID,
          memberId,
          memberEpoch: epoch,
          owned: [...held],
          topics: step.topics,
        });
        break;
      case 'leave':
        this.#decide({ type: 'leave', groupId: GROUP_ID, memberId, memberEpoch: -1 });
        this.#clients.delete(step.who);
        break;
      case 'leave-for-a-while':
        if (identity(step.who).instanceId === null) return;
        this.#decide({ type: 'leave', groupId: GROUP_ID, memberId, memberEpoch: -2 });
        this.#clients.delete(step.who);
        break;
      case 'time-out':
        if (this.group.timers.has(`${step.kind}/${memberId}`)) {
          this.#decide({ type: 'timer', groupId: GROUP_ID, key: `${step.kind}/${memberId}` });
          this.#clients.delete(step.who);
        }
        break;
    }
  }

  #join(who: number, topics: string[]): void {
    const { instanceId } = identity(who);
    // A static member is a new process with a new id, or the one that is still there under the same id.
    const memberId =
      instanceId === null ? `m${who}` : (this.#clients.get(who)?.memberId ?? `m${who}-${++this.#incarnations}`);
    this.#clients.set(who, { memberId, epoch: 0, held: new Set() });
    this.#tell(who, { ...join(memberId, { instanceId, topics }), groupId: GROUP_ID });
  }

  #heartbeat(who: number, { memberId, epoch, held }: Client, release: 'all' | 'some' | 'none'): void {
    const revoking = [...(this.group.state?.members.get(memberId)?.revoking.keys() ?? [])];
    if (release === 'none') revoking.length = 0;
    else if (release === 'some') revoking.splice(1);
    for (const partition of revoking) held.delete(partition);
    this.#tell(who, { type: 'heartbeat', groupId: GROUP_ID, memberId, memberEpoch: epoch, owned: [...held] });
  }

  /** Asks, and lets the client work on what it is told; one that is refused stops. */
  #tell(who: number, command: Extract<GroupCommand, { type: 'join' | 'heartbeat' }>): void {
    const revoking = [...(this.group.state?.members.get(command.memberId)?.revoking.keys() ?? [])];
    const reply = this.#decide(command) as ReturnType<typeof decideGroup<typeof command>>['reply'];
    if (isRefusal(reply)) {
      this.#clients.delete(who);
      return;
    }
    // What it released may be granted to it again in the same step, which is another holding.
    for (const partition of revoking) if (command.owned?.includes(partition) === false) this.#noteFree(partition);
    const held = new Set([...reply.assigned, ...reply.revoking]);
    const epoch = reply.memberEpoch;
    this.#clients.set(who, { memberId: command.memberId, epoch, held });
    for (const partition of held) {
      const holding = this.#holding(partition, this.group.state!.members.get(command.memberId)!);
      this.#grants.push({ memberId: command.memberId, epoch, partition, holding });
    }
  }

  /** Decides twice to see that deciding changes nothing, then applies; replays what was recorded from its bytes. */
  #decide(command: GroupCommand): unknown {
    const { group } = this;
    const before = structuredClone(group.state);
    const decision = decideGroup(group.state, command, group.context, group.nowMs);
    expect(group.state).toEqual(before);
    expect(group.decide(command)).toEqual(decision);
    for (const record of decision.records) {
      const { key, value } = encodeGroupRecord(record);
      this.#replayed = evolveGroup(this.#replayed, decodeGroupRecord(key, value));
    }
    expect(this.#replayed).toEqual(group.state);
    return decision.reply;
  }

  #holding(partition: PartitionKey, { memberId, joinEpoch }: MemberState): number {
    const holder = `${memberId} since ${joinEpoch}`;
    const known = this.#holdings.get(partition);
    if (known?.holder === holder) return known.count;
    const count = (known?.count ?? 0) + 1;
    this.#holdings.set(partition, { holder, count });
    return count;
  }

  #noteHoldings(): void {
    const free = new Set(this.#holdings.keys());
    for (const member of this.group.state?.members.values() ?? []) {
      for (const partition of [...member.assigned.keys(), ...member.revoking.keys()]) {
        this.#holding(partition, member);
        free.delete(partition);
      }
    }
    for (const partition of free) this.#noteFree(partition);
  }

  #noteFree(partition: PartitionKey): void {
    const known = this.#holdings.get(partition);
    if (known !== undefined && known.holder !== '')
      this.#holdings.set(partition, { holder: '', count: known.count + 1 });
  }

  #check(before: ReadonlyMap<string, MemberState>, epochBefore: number): void {
    const { state, timers } = this.group;
    if (state === undefined) return;
    expect(state.groupEpoch).toBeGreaterThanOrEqual(epochBefore);
    const holders = new Map<PartitionKey, string>();
    const expectedTimers = new Set<string>();
    for (const member of state.members.values()) {
      const { memberId, memberEpoch, joinEpoch, assigned, revoking } = member;
      for (const partition of [...assigned.keys(), ...revoking.keys()]) {
        expect(holders.get(partition), `${partition} of ${memberId}`).toBeUndefined();
        holders.set(partition, memberId);
      }
      expect(memberEpoch).toBeLessThanOrEqual(state.assignmentEpoch);
      const earlier = before.get(memberId);
      if (earlier?.joinEpoch === joinEpoch && memberEpoch !== LEFT_STATIC_EPOCH) {
        expect(memberEpoch).toBeGreaterThanOrEqual(earlier.memberEpoch);
      }
      expectedTimers.add(`session/${memberId}`);
      if (memberEpoch !== LEFT_STATIC_EPOCH) expectedTimers.add(`poll/${memberId}`);
      if (revoking.size > 0) expectedTimers.add(`revoke/${memberId}`);
    }
    expect(new Set(timers.keys())).toEqual(expectedTimers);
    const workers = new Map<PartitionKey, string>();
    for (const { memberId, held } of this.#clients.values()) {
      for (const partition of held) {
        expect(workers.get(partition), `${partition} is worked on by ${memberId} too`).toBeUndefined();
        workers.set(partition, memberId);
      }
    }
  }

  /** A right to commit is taken while it lasts, and refused from then on. */
  #commit({ memberId, epoch, partition, holding }: Grant): boolean {
    const away = this.group.state?.members.get(memberId)?.memberEpoch === LEFT_STATIC_EPOCH;
    const lasts = this.#holdings.get(partition)!.count === holding && !away;
    const offsets = [commitOf(partition, 1)];
    const reply = this.#decide({ type: 'commit', groupId: GROUP_ID, memberId, memberEpoch: epoch, offsets });
    const taken = !isRefusal(reply as object) && (reply as CommitReply).results[0]!.refusal === null;
    expect(taken, `commit of ${memberId} at epoch ${epoch} for ${partition}`).toBe(lasts);
    return taken;
  }

  commitWithEveryGrant(): { taken: number; refused: number } {
    const taken = this.#grants.filter((grant) => this.#commit(grant)).length;
    return { taken, refused: this.#grants.length - taken };
  }

  /** Everybody that is still there releases what it is asked to, until nothing changes any more. */
  settle(): void {
    // Copies: members and clients change on the way.
    const members = [...(this.group.state?.members.values() ?? [])];
    for (const { memberId, memberEpoch } of members) {
      const present = [...this.#clients.values()].some((client) => client.memberId === memberId);
      if (memberEpoch === LEFT_STATIC_EPOCH || !present)
        this.#decide({ type: 'timer', groupId: GROUP_ID, key: `session/${memberId}` });
    }
    const clients = [...this.#clients.keys()];
    for (let round = 0; round < 2; round++) {
      for (const who of clients) this.run({ do: 'heartbeat', who, release: 'all' });
    }
  }
}

/** Members 3 and 4 are static. */
function identity(who: number): { instanceId: string | null } {
  return { instanceId: who < 3 ? null : `i${who}` };
}

const who = fc.nat(4);
const subscriptions = fc.subarray(NAMES, { minLength: 1 });
const steps: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('join' as const), who, topics: subscriptions }) },
  {
    weight: 8,
    arbitrary: fc.record({
      do: fc.constant('heartbeat' as const),
      who,
      release: fc.constantFrom('all' as const, 'some' as const, 'none' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('resubscribe' as const), who, topics: subscriptions }) },
  {
    weight: 4,
    arbitrary: fc.record({
      do: fc.constantFrom('go-on' as const, 'leave' as const, 'leave-for-a-while' as const),
      who,
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('commit' as const), age: fc.nat(20) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('time-out' as const),
      who,
      kind: fc.constantFrom('session' as const, 'revoke' as const, 'poll' as const),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({ do: fc.constant('topic' as const), name: fc.constantFrom(...NAMES), count: fc.nat(5) }),
  },
);

test('no life of a group breaks its rules, and each settles in a complete assignment', () => {
  const seen = { taken: 0, refused: 0, settled: 0 };
  fc.assert(
    fc.property(fc.array(steps, { minLength: 1, maxLength: 40, size: 'max' }), (life) => {
      const model = new Model();
      for (const step of life) model.run(step);
      const counts = model.commitWithEveryGrant();
      seen.taken += counts.taken;
      seen.refused += counts.refused;
      model.settle();
      const { state } = model.group;
      if (state === undefined || state.members.size === 0) return;
      seen.settled += 1;
      expect(groupStateName(state)).toBe('stable');
      const members = [...state.members.values()];
      const assigned = members.flatMap((member) => model.group.names(member.assigned.keys()));
      const subscribed = new Set(members.flatMap((member) => member.topics));
      const all = [...subscribed].flatMap((name) =>
        Array.from({ length: model.group.partitionCount(name) }, (_, partition) => `${name}/${partition}`),
      );
      expect(assigned.toSorted()).toEqual(all.toSorted());
      if (new Set(members.map((member) => member.topics.join())).size === 1) {
        const loads = members.map((member) => member.assigned.size);
        expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(1);
      }
    }),
    { seed: SEED, numRuns: RUNS },
  );
  // The lives were worth living.
  expect(seen.taken).toBeGreaterThan(RUNS);
  expect(seen.refused).toBeGreaterThan(RUNS);
  expect(seen.settled).toBeGreaterThan(RUNS / 2);
});
