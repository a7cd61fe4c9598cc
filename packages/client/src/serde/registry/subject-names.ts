/** Under which subject a schema is registered, as Confluent's serializers name them. */
import { SerializationError } from '../serialization-error.ts';

/**
 * - `topic`: `<topic>-value`, one type of event a topic. The default.
 * - `record`: the record's or message's full name, whatever the topic.
 * - `topic-record`: `<topic>-<full name>`, several types in a topic.
 */
export type SubjectStrategy = 'topic' | 'record' | 'topic-record';
export type SubjectName = SubjectStrategy | ((topic: string, recordName: string | undefined) => string);

/** @throws SerializationError when the strategy needs a name that the schema does not have */
export function subjectName(name: SubjectName, topic: string, recordName: string | undefined, format: string): string {
  if (typeof name === 'function') return name(topic, recordName);
  if (name === 'topic') return `${topic}-value`;
  if (recordName === undefined || recordName === '') {
    const what = format === 'json' ? 'its JSON Schema has no title' : 'its schema has no name';
    throw SerializationError.at(format, '', `the subject cannot be named by ${name}: ${what}`);
  }
  return name === 'record' ? recordName : `${topic}-${recordName}`;
}
