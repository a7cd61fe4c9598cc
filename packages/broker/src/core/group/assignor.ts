/**
 * Computes who should hold which partition: the broker-side assignor, sticky and balanced.
 *
 * Guarantees: every partition of a topic that somebody subscribes to goes to exactly one of its subscribers; the result
 * is a function of the input alone, whatever its order. Within {@link MAX_BALANCE_WORK}: no partition, nor chain of
 * partitions, can move so that the loads of two members come closer, and when all members subscribe to the same topics
 * no assignment of that balance moves fewer partitions. Each topic is spread too, as far as that costs no more moves.
 *
 * Works in three steps. Partitions whose topics have the same subscribers form a class and are interchangeable, so
 * (1) only the number of partitions of each class is counted out to the members, first as it is, the free ones to whom
 * has least; (2) loads are levelled along shortest chains of members that can hand partitions on; (3) the counts
 * become partitions, where everybody keeps what it has up to its count.
 */
import { partitionKey, splitPartitionKey } from '@naru/base';
import type { PartitionKey, TopicId } from '@naru/base';

/** Steps through class members in all that levelling takes at most; beyond it the result is complete but less even. */
export const MAX_BALANCE_WORK = 20_000_000;

export interface AssignorMember {
  readonly memberId: string;
  readonly topicIds: readonly TopicId[];
  /** What it should hold so far. What no longer exists or is no longer subscribed to is passed over. */
  readonly current: readonly PartitionKey[];
}

interface Topic {
  readonly topicId: TopicId;
  readonly classIndex: number;
  /** Owner by partition: index of the member, or NOBODY. */
  readonly owners: Int32Array;
}

/** Topics with the same subscribers. */
interface TopicClass {
  /** Indexes of members, ascending. */
  readonly subscribers: readonly number[];
  /** Partitions of the class by member: as they are, and as they are to become. */
  readonly current: Int32Array;
  readonly wanted: Int32Array;
  free: number;
}

const NOBODY = -1;

/**
 * @param partitionCounts of every topic that exists; other topics are passed over
 * @returns partitions in order, for each member
 */
export function assignPartitions(
  members: readonly AssignorMember[],
  partitionCounts: ReadonlyMap<TopicId, number>,
): Map<string, PartitionKey[]> {
  const sorted = [...members].sort((a, b) => (a.memberId < b.memberId ? -1 : 1));
  const { topics, classes } = classify(sorted, partitionCounts);
  takeCurrent(sorted, topics, classes);
  const loads = new Int32Array(sorted.length);
  for (const { current } of classes) current.forEach((count, member) => (loads[member]! += count));
  countOutFree(classes, loads);
  level(classes, loads);
  handOver(topics, classes, sorted.length);
  const result = new Map(sorted.map(({ memberId }) => [memberId, [] as PartitionKey[]]));
  const lists = [...result.values()];
  for (const { topicId, owners } of topics.values()) {
    owners.forEach((owner, partition) => lists[owner]!.push(partitionKey(topicId, partition)));
  }
  return result;
}

/** Topics in the order of their ids, and their classes. */
function classify(
  members: readonly AssignorMember[],
  partitionCounts: ReadonlyMap<TopicId, number>,
): { topics: Map<TopicId, Topic>; classes: TopicClass[] } {
  const subscribersOf = new Map<TopicId, number[]>();
  members.forEach(({ topicIds }, member) => {
    for (const topicId of new Set(topicIds)) {
      const subscribers = subscribersOf.get(topicId);
      if (subscribers === undefined) subscribersOf.set(topicId, [member]);
      else subscribers.push(member);
    }
  });
  const topics = new Map<TopicId, Topic>();
  const classes: TopicClass[] = [];
  const classIndexes = new Map<string, number>();
  for (const topicId of [...subscribersOf.keys()].sort()) {
    const count = partitionCounts.get(topicId);
    if (count === undefined) continue;
    const subscribers = subscribersOf.get(topicId)!;
    const signature = subscribers.join();
    let classIndex = classIndexes.get(signature);
    if (classIndex === undefined) {
      classIndex = classes.length;
      classIndexes.set(signature, classIndex);
      const [current, wanted] = [new Int32Array(members.length), new Int32Array(members.length)];
      classes.push({ subscribers, current, wanted, free: 0 });
    }
    classes[classIndex]!.free += count;
    topics.set(topicId, { topicId, classIndex, owners: new Int32Array(count).fill(NOBODY) });
  }
  return { topics, classes };
}

function takeCurrent(members: readonly AssignorMember[], topics: Map<TopicId, Topic>, classes: TopicClass[]): void {
  members.forEach(({ topicIds, current }, member) => {
    const subscribed = new Set(topicIds);
    for (const key of current) {
      const { topicId, partition } = splitPartitionKey(key);
      const topic = topics.get(topicId);
      if (topic === undefined || !subscribed.has(topicId) || topic.owners[partition] !== NOBODY) continue;
      topic.owners[partition] = member;
      const itsClass = classes[topic.classIndex]!;
      itsClass.free -= 1;
      itsClass.current[member]! += 1;
      itsClass.wanted[member]! += 1;
    }
  });
}

/** Those with the fewest takers first, since they have the least choice. */
function countOutFree(classes: readonly TopicClass[], loads: Int32Array): void {
  for (const { subscribers, wanted, free } of classes.toSorted((a, b) => a.subscribers.length - b.subscribers.length)) {
    for (let i = 0; i < free; i++) {
      let least = subscribers[0]!;
      for (const member of subscribers) if (loads[member]! < loads[least]!) least = member;
      wanted[least]! += 1;
      loads[least]! += 1;
    }
  }
}

/**
 * Takes one partition at a time off the member with the most, along a chain of members that can hand on partitions, to
 * the least loaded one in reach, while that has at least two fewer. Ends, as each time the sum of the squares shrinks.
 */
function level(classes: readonly TopicClass[], loads: Int32Array): void {
  const classesOf: number[][] = Array.from(loads, () => []);
  classes.forEach(({ subscribers }, index) => subscribers.forEach((member) => classesOf[member]!.push(index)));
  const search = new ChainSearch(classes, classesOf, loads);
  for (let improved = true; improved;) {
    improved = false;
    const settled = new Uint8Array(loads.length);
    for (let most = mostLoaded(loads, settled); most !== NOBODY; most = mostLoaded(loads, settled)) {
      if (search.work > MAX_BALANCE_WORK) return;
      if (search.improve(most)) improved = true;
      else settled[most] = 1;
    }
  }
}

function mostLoaded(loads: Int32Array, settled: Uint8Array): number {
  let most = NOBODY;
  for (let member = 0; member < loads.length; member++) {
    if (settled[member] === 0 && (most === NOBODY || loads[member]! > loads[most]!)) most = member;
  }
  return most;
}

class ChainSearch {
  work = 0;
  readonly #classes: readonly TopicClass[];
  readonly #classesOf: readonly (readonly number[])[];
  readonly #loads: Int32Array;

  constructor(classes: readonly TopicClass[], classesOf: readonly (readonly number[])[], loads: Int32Array) {
    this.#classes = classes;
    this.#classesOf = classesOf;
    this.#loads = loads;
  }

  /** True when a partition of `start` has moved. */
  improve(start: number): boolean {
    const loads = this.#loads;
    let lowest = loads[start]!;
    for (const load of loads) if (load < lowest) lowest = load;
    if (loads[start]! - lowest < 2) return false;
    const { least, giver, viaClass } = this.#search(start, lowest);
    if (loads[start]! - loads[least]! < 2) return false;
    for (let taker = least; taker !== start; taker = giver[taker]!) {
      const { wanted } = this.#classes[viaClass[taker]!]!;
      wanted[taker]! += 1;
      wanted[giver[taker]!]! -= 1;
    }
    loads[start]! -= 1;
    loads[least]! += 1;
    return true;
  }

  /** Breadth first: the nearest of the least loaded in reach, and how to get there. Stops at one with `lowest`. */
  #search(start: number, lowest: number): { least: number; giver: Int32Array; viaClass: Int32Array } {
    const loads = this.#loads;
    const giver = new Int32Array(loads.length).fill(NOBODY);
    const viaClass = new Int32Array(loads.length);
    const classSeen = new Uint8Array(this.#classes.length);
    const queue = [start];
    let least = start;
    for (let head = 0; head < queue.length; head++) {
      const member = queue[head]!;
      for (const index of this.#classesOf[member]!) {
        const { subscribers, wanted } = this.#classes[index]!;
        this.work += 1;
        if (classSeen[index] === 1 || wanted[member] === 0) continue;
        classSeen[index] = 1;
        this.work += subscribers.length;
        for (const next of subscribers) {
          if (next === start || giver[next] !== NOBODY) continue;
          giver[next] = member;
          viaClass[next] = index;
          queue.push(next);
          if (loads[next]! < loads[least]!) least = next;
          if (loads[least] === lowest) return { least, giver, viaClass };
        }
      }
    }
    return { least, giver, viaClass };
  }
}

/** Turns counts into partitions: who has too many gives up of the topics it has most of, who has too few takes. */
function handOver(topics: ReadonlyMap<TopicId, Topic>, classes: readonly TopicClass[], memberCount: number): void {
  classes.forEach(({ subscribers, current, wanted }, classIndex) => {
    const own = [...topics.values()].filter((topic) => topic.classIndex === classIndex);
    for (const member of subscribers) giveUp(own, member, current[member]! - wanted[member]!);
    const need = wanted.map((count, member) => Math.max(0, count - current[member]!));
    for (const { owners } of own) {
      if (!owners.includes(NOBODY)) continue;
      const held = new Int32Array(memberCount);
      for (const owner of owners) if (owner !== NOBODY) held[owner]! += 1;
      owners.forEach((owner, partition) => {
        if (owner !== NOBODY) return;
        const taker = pickTaker(subscribers, need, held);
        owners[partition] = taker;
        need[taker]! -= 1;
        held[taker]! += 1;
      });
    }
  });
}

/** `count` times, the highest partition of the topic that the member has most of. */
function giveUp(topics: readonly Topic[], member: number, count: number): void {
  if (count <= 0) return;
  const held = topics.map(({ owners }) => owners.reduce((sum, owner) => sum + (owner === member ? 1 : 0), 0));
  for (let i = 0; i < count; i++) {
    let most = 0;
    held.forEach((number, topic) => {
      if (number > held[most]!) most = topic;
    });
    const { owners } = topics[most]!;
    owners[owners.lastIndexOf(member)] = NOBODY;
    held[most]! -= 1;
  }
}

/** Of those who still need some: who has the fewest of this topic, then who needs the most, then the first. */
function pickTaker(subscribers: readonly number[], need: Int32Array, held: Int32Array): number {
  let best = NOBODY;
  for (const member of subscribers) {
    if (need[member] === 0) continue;
    if (
      best === NOBODY ||
      held[member]! < held[best]! ||
      (held[member] === held[best] && need[member]! > need[best]!)
    ) {
      best = member;
    }
  }
  return best;
}
