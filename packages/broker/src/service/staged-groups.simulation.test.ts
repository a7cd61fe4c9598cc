/**
 * Three orders of groups under seeded chance: slow keys, dead letters, redrives, members that come, leave and lose their connection,
 * commits at any time. Checked with every event that is handled: every group of a lower order has finished it, durably, and in this
 * group every earlier event of its key was handled before.
 */
import { splitPartitionKey } from '@naru/base';
import { ClonedShardClient, SeededRandom, VirtualClock } from '@naru/testkit';
import { expect, it } from 'vitest';
import { MemoryLogStore } from '../log/memory/memory-log-store.ts';
import type { ShardClient } from '../runtime/commands.ts';
import { finished, turns } from '../runtime/settling.ts';
import { failedOutcome, StagedScenario, type StagedMember } from './staged-scenario.ts';

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const STEPS = 400;
const PARTITIONS = 2;
const KEYS = ['red', 'green', 'blue', 'white', 'black'];
const ORDERS: Readonly<Record<string, number>> = { low: 1, side: 1, middle: 5, high: 9 };
const GROUPS = 'low,side,middle:order=5,high:order=9';

class Simulation {
  readonly trace: string[] = [];
  readonly #random: SeededRandom;
  readonly #clock = new VirtualClock();
  readonly #keys: string[][] = Array.from({ length: PARTITIONS }, () => []);
  /** By group: what was handled at least once, as `partition/offset`. */
  readonly #handled = new Map<string, Set<string>>();
  readonly #members = new Map<string, StagedMember[]>();
  #scenario!: StagedScenario;
  #nextMember = 1;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    for (const group of Object.keys(ORDERS)) {
      this.#handled.set(group, new Set());
      this.#members.set(group, []);
    }
  }

  async run(): Promise<void> {
    const through = (shard: ShardClient): ShardClient => new ClonedShardClient(shard).client;
    const options = {
      store: new MemoryLogStore(),
      time: this.#clock,
      groups: GROUPS,
      partitionCount: PARTITIONS,
      through,
    };
    this.#scenario = await finished(StagedScenario.start(options), this.#clock);
    for (let step = 0; step < STEPS; step++) await this.#step();
    await this.#drain();
    await finished(this.#scenario.stop(), this.#clock);
  }

  #chance(outOf: number): number {
    return this.#random.integer(outOf);
  }

  #pick<T>(items: readonly T[]): T | undefined {
    return items.length === 0 ? undefined : items[this.#chance(items.length)];
  }

  async #step(): Promise<void> {
    const group = this.#pick(Object.keys(ORDERS)) as string;
    const members = this.#members.get(group) as StagedMember[];
    const what = this.#chance(20);
    if (what < 4) await this.#publish();
    else if (what < 5 && members.length < 3) await this.#join(group);
    else if (what === 6 && this.#chance(3) === 0) await this.#leave(members);
    else if (what === 7 && this.#chance(3) === 0) await this.#reconnect(members);
    else if (what < 15) this.#handle(this.#pick(members));
    else await this.#pick(members)?.commit();
    for (const all of this.#members.values()) for (const member of all) member.session.heartbeat();
    if (this.#chance(3) === 0) await turns(this.#chance(12));
  }

  async #publish(): Promise<void> {
    const partition = this.#chance(PARTITIONS);
    const keys = Array.from({ length: 1 + this.#chance(6) }, () => this.#pick(KEYS) as string);
    (this.#keys[partition] as string[]).push(...keys);
    await this.#scenario.publish(keys, partition, this.#chance(2) === 0 ? 'none' : 'gzip');
    this.trace.push(`publish ${partition} ${keys.join()}`);
  }

  async #join(group: string): Promise<void> {
    const member = await finished(this.#scenario.join(group, `${group}-${this.#nextMember++}`), this.#clock);
    (this.#members.get(group) as StagedMember[]).push(member);
    this.trace.push(`join ${group}`);
  }

  async #leave(members: StagedMember[]): Promise<void> {
    const member = members.shift();
    if (member === undefined) return;
    if (this.#chance(2) === 0) await member.commit();
    await member.session.leave();
    this.trace.push(`leave ${member.groupId}`);
  }

  async #reconnect(members: StagedMember[]): Promise<void> {
    const member = members.shift();
    if (member === undefined) return;
    const { memberEpoch } = member.session;
    member.session.disconnected();
    members.push(await finished(this.#scenario.rejoin(member, memberEpoch), this.#clock));
    this.trace.push(`reconnect ${member.groupId}`);
  }

  /** The first of a random lane. */
  #handle(member: StagedMember | undefined): void {
    const lane = member === undefined ? undefined : this.#pick([...member.lanes.values()]);
    const handled = lane === undefined ? null : (member?.handleLane(lane) ?? null);
    if (member === undefined || handled === null) return;
    const { offset, partition } = handled;
    const { partition: index } = splitPartitionKey(partition);
    const keys = this.#keys[index] as string[];
    const done = this.#handled.get(member.groupId) as Set<string>;
    for (let earlier = 0; earlier < offset; earlier++) {
      if (keys[earlier] !== keys[offset]) continue;
      if (!done.has(`${index}/${earlier}`))
        throw new Error(`${member.groupId} handles ${index}/${offset} before ${earlier} of its key`);
    }
    for (const [group, order] of Object.entries(ORDERS)) {
      if (order >= (ORDERS[member.groupId] as number)) continue;
      const before = this.#handled.get(group) as Set<string>;
      if (!before.has(`${index}/${offset}`))
        throw new Error(`${member.groupId} handles ${index}/${offset} before ${group}`);
    }
    done.add(`${index}/${offset}`);
    this.trace.push(`${member.groupId} ${index}/${offset}`);
  }

  /** Everybody handles and commits until nothing comes any more: then every group has handled everything. */
  async #drain(): Promise<void> {
    for (const group of Object.keys(ORDERS)) if (this.#members.get(group)?.length === 0) await this.#join(group);
    for (let quiet = 0; quiet < 6;) {
      const before = this.trace.length;
      for (const members of this.#members.values()) {
        for (const member of members) {
          if (member.ended !== null) throw new Error(`a session ended`, { cause: member.ended });
          for (let left = member.lanes.size * 50; left > 0 && member.lanes.size > 0; left--) this.#handle(member);
          await member.commit();
          member.session.heartbeat();
        }
        await turns(15);
      }
      this.#clock.advance(1_000);
      quiet = this.trace.length === before ? quiet + 1 : 0;
    }
    const all = this.#keys.flatMap((keys, index) => keys.map((_, offset) => `${index}/${offset}`)).sort();
    for (const [group, done] of this.#handled) {
      const missing = all.filter((place) => !done.has(place));
      if (missing.length > 0) throw new Error(`${group} never got ${missing.join()}`);
    }
  }
}

it.each(SEEDS)(
  'gives every group every event in the order of its key, after the groups below it: seed %i',
  async (seed) => {
    const simulation = new Simulation(seed);
    await simulation.run();
    expect(simulation.trace.length).toBeGreaterThan(STEPS / 4);
  },
);

it('does the same with the same seed', async () => {
  const [one, two] = [new Simulation(11), new Simulation(11)];
  await one.run();
  await two.run();
  expect(two.trace).toEqual(one.trace);
});

it('keeps order behind dead letters that are redriven at any time', async () => {
  const random = new SeededRandom(21);
  const clock = new VirtualClock();
  const options = { store: new MemoryLogStore(), time: clock, groups: GROUPS };
  const scenario = await finished(StagedScenario.start(options), clock);
  const keys = Array.from({ length: 60 }, () => KEYS[random.integer(KEYS.length)] as string);
  await scenario.publish(keys);
  const dead = new Set(keys.flatMap((_, offset) => (random.integer(6) === 0 ? [offset] : [])));
  await scenario.commitFor('side', keys.length);
  await scenario.commitFor(
    'low',
    keys.length,
    [],
    [...dead].map((offset) => failedOutcome(offset, keys[offset] as string, 'dead-lettered')),
  );
  const middle = await finished(scenario.join('middle', 'm'), clock);
  const seen: number[] = [];
  const look = async (): Promise<void> => {
    await turns(40);
    for (const came of middle.came.splice(0)) seen.push(Number(came.replace('late ', '')));
    for (const [at, offset] of seen.entries()) {
      expect(dead.has(offset)).toBe(false);
      const before = seen.slice(0, at);
      for (let earlier = 0; earlier < offset; earlier++)
        if (keys[earlier] === keys[offset]) expect(before).toContain(earlier);
    }
  };
  await look();
  while (dead.size > 0) {
    const offset = [...dead][random.integer(dead.size)] as number;
    await scenario.redrive('low', offset);
    await look();
    await scenario.commitFor(
      'low',
      keys.length,
      [],
      [{ ...failedOutcome(offset, keys[offset] as string, 'held'), kind: 'processed' }],
    );
    dead.delete(offset);
    await look();
  }
  expect(seen.toSorted((a, b) => a - b)).toEqual(keys.map((_, offset) => offset));
  await finished(scenario.stop(), clock);
});
