/**
 * The groups that are declared for a topic, as the setting `groups` names them.
 *
 * ```
 * groups = group *( "," group )         group = name *( ":" option "=" value )
 * option = order (1 to 100, default 1) | after-dead-letter (continue, park) | on-dead-letter (withhold, release)
 * ```
 */
import { checkGroupId } from '@naru/protocol';

export interface TopicGroup {
  readonly name: string;
  /** A group gets an event only after every group of a lower order has finished it. */
  readonly order: number;
  /** What a dead letter does to later events of its key in this group. */
  readonly afterDeadLetter: 'continue' | 'park';
  /** What a dead letter of a group of a lower order does to the event, and those of its key after it, in this group. */
  readonly onDeadLetter: 'withhold' | 'release';
}

export const MAX_TOPIC_GROUPS = 100;
const MAX_ORDER = 100;

/** @returns in the order of the text; or what is wrong with it */
export function parseTopicGroups(text: string): readonly TopicGroup[] | { readonly wrong: string } {
  const groups = new Map<string, TopicGroup>();
  for (const part of text.split(',')) {
    if (part.trim() === '') continue;
    const group = parseGroup(part.trim());
    if ('wrong' in group) return group;
    if (groups.has(group.name)) return { wrong: `group ${JSON.stringify(group.name)} is there twice` };
    groups.set(group.name, group);
  }
  if (groups.size > MAX_TOPIC_GROUPS)
    return { wrong: `expected at most ${MAX_TOPIC_GROUPS} groups, got ${groups.size}` };
  return [...groups.values()];
}

/** The groups of a topic's settings. What a later version wrote and this one cannot read declares nobody. */
export function declaredGroups(config: Readonly<Record<string, string>>): readonly TopicGroup[] {
  const text = Object.hasOwn(config, 'groups') ? (config['groups'] as string) : '';
  const groups = parseTopicGroups(text);
  return 'wrong' in groups ? [] : groups;
}

/** The canonical text: options in one order, without those that say what holds anyway. */
export function topicGroupsText(groups: readonly TopicGroup[]): string {
  return groups
    .map(({ name, order, afterDeadLetter, onDeadLetter }) => {
      const options = order === 1 ? [] : [`order=${order}`];
      if (afterDeadLetter !== 'continue') options.push(`after-dead-letter=${afterDeadLetter}`);
      if (onDeadLetter !== 'withhold') options.push(`on-dead-letter=${onDeadLetter}`);
      return [name, ...options].join(':');
    })
    .join(',');
}

function parseGroup(text: string): TopicGroup | { readonly wrong: string } {
  const [name = '', ...options] = text.split(':').map((part) => part.trim());
  const refusal = checkGroupId(name);
  if (refusal !== null) return { wrong: refusal.message };
  let group: TopicGroup = { name, order: 1, afterDeadLetter: 'continue', onDeadLetter: 'withhold' };
  for (const option of options) {
    const parsed = parseOption(option);
    if ('wrong' in parsed) return { wrong: `group ${JSON.stringify(name)}: ${parsed.wrong}` };
    group = { ...group, ...parsed };
  }
  return group;
}

function parseOption(text: string): Partial<TopicGroup> | { readonly wrong: string } {
  const [option, value, ...rest] = text.split('=').map((part) => part.trim());
  const got = `got ${JSON.stringify(text)}`;
  if (rest.length > 0 || value === undefined) return { wrong: `expected option=value, ${got}` };
  switch (option) {
    case 'order': {
      const order = Number(value);
      if (Number.isInteger(order) && order >= 1 && order <= MAX_ORDER && value !== '') return { order };
      return { wrong: `order: expected a whole number from 1 to ${MAX_ORDER}, got ${JSON.stringify(value)}` };
    }
    case 'after-dead-letter':
      if (value === 'continue' || value === 'park') return { afterDeadLetter: value };
      return { wrong: `after-dead-letter: expected continue or park, got ${JSON.stringify(value)}` };
    case 'on-dead-letter':
      if (value === 'withhold' || value === 'release') return { onDeadLetter: value };
      return { wrong: `on-dead-letter: expected withhold or release, got ${JSON.stringify(value)}` };
    default:
      return { wrong: `expected order, after-dead-letter or on-dead-letter, ${got}` };
  }
}
