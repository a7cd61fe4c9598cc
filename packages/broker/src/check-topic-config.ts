/** Settings of a topic, looked at without a broker. */
import { NaruError } from '@naru/protocol';
import { changeTopicConfig, type TopicConfigTexts } from './core/registry/topic-config.ts';

/** @throws NaruError INVALID_CONFIG for settings that a topic cannot be created with */
export function checkTopicConfig(config: TopicConfigTexts): void {
  const result = changeTopicConfig({}, config);
  if ('code' in result) throw NaruError.from(result);
}
