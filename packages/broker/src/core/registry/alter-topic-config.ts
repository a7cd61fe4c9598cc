/**
 * Changes of a topic's settings as Kafka's tools state them: operations on single ones, or the whole set.
 * What settings there are and what they may be is topic-config.ts's.
 */
import { refuse, type Refusal } from '@naru/protocol';
import { kafkaTopicSetting, kafkaTopicSettings } from './kafka-topic-settings.ts';
import {
  changeTopicConfig,
  describeTopicConfig,
  type TopicConfigDefaults,
  type TopicConfigTexts,
} from './topic-config.ts';

export interface ConfigOperation {
  readonly name: string;
  /** `append` and `subtract` are for lists. */
  readonly operation: 'set' | 'delete' | 'append' | 'subtract';
  /** Ignored by `delete`. */
  readonly text: string;
}

const LISTS: ReadonlySet<string> = new Set([
  'cleanup.policy',
  'acknowledged.groups',
  ...kafkaTopicSettings().flatMap(([name, { type }]) => (type === 'list' ? [name] : [])),
]);

/**
 * The settings after some operations; each name at most once.
 *
 * @returns a refusal with INVALID_CONFIG that names the setting and what was wrong
 */
export function alterTopicConfig(
  before: TopicConfigTexts,
  operations: readonly ConfigOperation[],
  defaults: TopicConfigDefaults,
): { readonly config: TopicConfigTexts } | Refusal {
  const unset: string[] = [];
  const set: [string, string][] = [];
  for (const { name, operation, text } of operations) {
    if (operation === 'delete') {
      unset.push(name);
    } else if (operation === 'set') {
      set.push([name, text]);
    } else if (LISTS.has(name)) {
      const present = items(valueInForce(name, before, defaults));
      const given = items(text);
      const after =
        operation === 'append' ? [...new Set([...present, ...given])] : present.filter((item) => !given.includes(item));
      set.push([name, after.join(',')]);
    } else {
      return refuse('INVALID_CONFIG', `${name} is no list: nothing can be added to it or taken out of it`);
    }
  }
  return changeTopicConfig(before, Object.fromEntries(set), unset);
}

function valueInForce(name: string, texts: TopicConfigTexts, defaults: TopicConfigDefaults): string {
  const entry = describeTopicConfig(texts, defaults).find((candidate) => candidate.name === name);
  return entry?.value ?? kafkaTopicSetting(name)?.defaultText ?? '';
}

function items(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '');
}
