/** Whether groups can be declared as a topic's settings say, seen from what the groups are now. */
import { refuse, type Refusal } from '@naru/protocol';
import type { TopicConfigTexts } from '../core/registry/topic-config.ts';
import { declaredGroups } from '../core/registry/topic-groups.ts';
import type { TopicMetadata } from '../core/registry/topic-registry.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { withholds } from '../runtime/declared-groups.ts';

/**
 * A group that is declared with an order above the first, or parking keys, takes no Kafka members from then on. Those that it has
 * cannot be told why they go, so that the declaration is refused until they are stopped.
 *
 * @param before the topic's settings until now; none of a new one
 * @returns INVALID_CONFIG with what is in the way
 */
export async function checkDeclaredGroups(
  shard: ShardClient,
  before: TopicConfigTexts,
  { type, config }: Pick<TopicMetadata, 'type' | 'config'>,
): Promise<Refusal | null> {
  const groups = declaredGroups(config);
  const staged = groups.find(({ order }) => order > 1);
  if (type === 'parallel' && staged !== undefined) {
    const message = `groups: ${JSON.stringify(staged.name)} has order ${staged.order}, and a parallel topic has no order to wait in`;
    return refuse('INVALID_CONFIG', message);
  }
  const known = new Set(
    declaredGroups(before)
      .filter(withholds)
      .map(({ name }) => name),
  );
  for (const group of groups) {
    if (!withholds(group) || known.has(group.name)) continue;
    const found = await shard.submit({ type: 'describe-group', groupId: group.name });
    const members = isRefusal(found) ? [] : found.members.filter(({ protocol }) => protocol !== 'push');
    if (members.length === 0) continue;
    const why = group.order > 1 ? `order ${group.order}` : 'after-dead-letter=park';
    return refuse(
      'INVALID_CONFIG',
      `groups: ${why} needs events withheld from ${JSON.stringify(group.name)}, which Kafka's protocol cannot do, and the group has ` +
        `${members.length} members that speak it: stop them first`,
    );
  }
  return null;
}
