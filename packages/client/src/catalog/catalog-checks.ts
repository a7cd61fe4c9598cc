/** What the fields of one event have to do with each other. What events of a topic or group share is catalog-topics.ts's and -groups.ts's. */
import type { SettingsPath } from '@naru/protocol/settings-node';
import type { CatalogFiles } from './catalog-files.ts';
import type { CatalogProblems } from './catalog-problems.ts';
import type { CatalogFileEvent } from './catalog-schema.ts';
import { checkTopicName, isInternalTopicName } from '@naru/protocol';

/** Settings of topics that have a field of their own. */
const OWN_FIELDS: Readonly<Record<string, string>> = {
  'retention.ms': 'retention.time',
  'retention.bytes': 'retention.size',
  'cleanup.policy': 'retention.policy',
  groups: 'groups',
};
/** What the setting `groups` of a topic is written with. */
const GROUP_SEPARATORS = /[:,=]/;

type Tell = (path: SettingsPath, message: string) => void;

export function checkEvents(
  entries: readonly (readonly [string, CatalogFileEvent])[],
  files: CatalogFiles,
  problems: CatalogProblems,
): void {
  for (const [name, event] of entries) {
    const tell: Tell = (path, message) => {
      const whole = ['events', name, ...path];
      problems.add(`${files.place(whole)}: ${whole.join('.')}: ${message}`);
    };
    checkTopic(name, event, tell);
    checkFormat(event, tell);
    checkGroups(event, tell);
  }
}

function checkTopic(name: string, event: CatalogFileEvent, tell: Tell): void {
  const refusal = event.topic === undefined ? checkTopicName(name) : null;
  if (refusal !== null) tell([], `the event's name is no topic's: ${refusal.message}; say which with "topic"`);
  const topic = event.topic ?? name;
  if (isInternalTopicName(topic)) tell(['topic'], `topics that begin with "__" are the broker's own`);
  for (const setting of Object.keys(event.settings ?? {})) {
    const field = OWN_FIELDS[setting];
    if (field !== undefined) tell(['settings', setting], `is what the field ${field} says`);
  }
  const policies = [event.retention?.policy ?? []].flat();
  if (policies.includes('compact') && event.key === undefined)
    tell(['retention', 'policy'], 'compact keeps the newest event of each key, and this event has no "key"');
  if (new Set(policies).size < policies.length) tell(['retention', 'policy'], 'one policy is there twice');
}

function checkFormat(event: CatalogFileEvent, tell: Tell): void {
  const { format, schema, message, references, registry, subject, key } = event;
  const hasSchema = format === 'json' || format === 'avro' || format === 'protobuf';
  if (schema === undefined && (format === 'avro' || format === 'protobuf'))
    tell(['format'], `${format} needs a "schema"`);
  if (schema !== undefined && !hasSchema) tell(['schema'], `format ${format} has no schema`);
  if (key !== undefined && !hasSchema)
    tell(['key'], `a value of format ${format} has nothing that a pointer could point to`);
  if (message !== undefined && format !== 'protobuf')
    tell(['message'], `only format protobuf has messages, not ${format}`);
  if (schema?.includes('#') === true && format !== 'json')
    tell(['schema'], `only a JSON Schema has parts: "#" in ${schema}`);
  if (schema === undefined && Object.keys(references).length > 0)
    tell(['references'], 'there is no "schema" that could refer to them');
  if (registry && schema === undefined) tell(['registry'], 'there is no "schema" to register');
  if (registry && Object.keys(references).length > 0)
    tell(['references'], 'schemas in the registry are registered without references; put everything into one file');
  if (subject !== undefined && !registry) tell(['subject'], 'only events with "registry: true" have a subject');
}

function checkGroups(event: CatalogFileEvent, tell: Tell): void {
  for (const [name, group] of Object.entries(event.groups)) {
    if (GROUP_SEPARATORS.test(name))
      tell(['groups', name], 'a group that is declared for a topic has no ":", "," or "=" in its name');
    if (group.guarantee === 'at-most-once' && group.retry !== undefined)
      tell(['groups', name, 'retry'], 'with guarantee at-most-once nothing is tried again');
  }
}
