/**
 * Which groups topics declare, for those who ask often: by topic, and whether a group needs events withheld somewhere.
 *
 * Owns nothing of its own: it is what the registry says, read again after {@link DeclaredGroups.forget}.
 */
import type { TopicId } from '@naru/base';
import { gateOf, type Gate, type GroupState } from '../core/group/index.ts';
import { declaredGroups, type TopicGroup } from '../core/registry/topic-groups.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';

export class DeclaredGroups {
  readonly #topics: () => Iterable<TopicMetadata>;
  /** Those that declare some; null until somebody asks. */
  #known: ReadonlyMap<TopicId, readonly TopicGroup[]> | null = null;

  constructor(topics: () => Iterable<TopicMetadata>) {
    this.#topics = topics;
  }

  /** Topics changed. */
  forget(): void {
    this.#known = null;
  }

  /** What the group waits for on the topic; null for nobody. */
  gateOf(groupId: string, topicId: TopicId): Gate | null {
    const groups = this.#declared().get(topicId);
    return groups === undefined ? null : gateOf(groups, groupId);
  }

  /** Whether some topic declares the group so that events must be withheld from it: see {@link withholds}. */
  withholds(groupId: string): boolean {
    for (const groups of this.#declared().values()) {
      if (groups.some((group) => group.name === groupId && withholds(group))) return true;
    }
    return false;
  }

  #declared(): ReadonlyMap<TopicId, readonly TopicGroup[]> {
    if (this.#known !== null) return this.#known;
    const known = new Map<TopicId, readonly TopicGroup[]>();
    for (const { id, config, state } of this.#topics()) {
      const groups = state === 'active' ? declaredGroups(config) : [];
      if (groups.length > 0) known.set(id, groups);
    }
    this.#known = known;
    return known;
  }
}

/** Of an order above the first, or parking keys: what Kafka's protocol cannot do, whose fetch does not name a group. */
export function withholds({ order, afterDeadLetter }: TopicGroup): boolean {
  return order > 1 || afterDeadLetter === 'park';
}

/** Whether events are, or may come to be, withheld from the group: for that its members must not be Kafka's. */
export function needsWithholding(groupId: string, declared: DeclaredGroups, state: GroupState | undefined): boolean {
  if (declared.withholds(groupId)) return true;
  // What waits is given by the broker, and later events of its key after it.
  for (const events of state?.held.values() ?? []) if (events.waitingCount > 0) return true;
  return false;
}
