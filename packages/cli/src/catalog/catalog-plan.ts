/**
 * What would have to change in the broker for it to be as the catalog says. Pure: from the catalog and what the broker has.
 *
 * A topic of the catalog is the catalog's: settings that it has and the catalog does not go back to the broker's defaults. Other
 * topics are not looked at, and nothing is ever deleted.
 */
import type { Catalog, CatalogTopic, Topic, TopicConfigEntry } from '@naru/client';
import { canonicalSetting } from './setting-texts.ts';
import { dataLoss } from './data-loss.ts';

export interface ExistingTopic extends Topic {
  /** Every setting with the value in force. */
  readonly entries: readonly TopicConfigEntry[];
}

/** What is known of an event's schema in the registry. */
export interface SchemaState {
  readonly subject: string;
  readonly event: string;
  readonly isRegistered: boolean;
  /** Why it cannot be the next version; empty where it can. */
  readonly incompatible: readonly string[];
}

export type PlannedChange = {
  /** Whom it changes, for people: `topic orders`. */
  readonly target: string;
  readonly what: string;
  /** Why `apply` does not do it; null when it does. */
  readonly refused: string | null;
} & (
  | { readonly kind: 'create-topic'; readonly topic: CatalogTopic }
  | { readonly kind: 'add-partitions'; readonly topic: CatalogTopic; readonly to: number }
  | {
      readonly kind: 'configure';
      readonly topic: CatalogTopic;
      readonly setting: string;
      /** Undefined: back to the default. */
      readonly to: string | undefined;
    }
  | { readonly kind: 'register-schema'; readonly subject: string; readonly event: string }
  | { readonly kind: 'impossible' }
);

/** Topics for which is allowed what is refused otherwise. */
export interface Consents {
  readonly keyReorder: readonly string[];
  readonly deleteData: readonly string[];
}

export function planCatalog(
  catalog: Catalog,
  existing: ReadonlyMap<string, ExistingTopic>,
  schemas: readonly SchemaState[],
  consents: Consents,
): PlannedChange[] {
  const topics = [...catalog.topics.values()].flatMap((topic) => {
    const found = existing.get(topic.name);
    return found === undefined ? [creation(topic)] : topicChanges(topic, found, consents);
  });
  return [...topics, ...schemas.flatMap(schemaChanges)];
}

function creation(topic: CatalogTopic): PlannedChange {
  const partitions =
    topic.partitions === undefined ? 'the broker’s number of partitions' : `${topic.partitions} partitions`;
  const settings = Object.entries(topic.config).map(([name, text]) => `, ${name}=${text}`);
  const what = `create: ${topic.type}, ${partitions}${settings.join('')}`;
  return { kind: 'create-topic', target: `topic ${topic.name}`, topic, what, refused: null };
}

function topicChanges(topic: CatalogTopic, found: ExistingTopic, consents: Consents): PlannedChange[] {
  const target = `topic ${topic.name}`;
  const changes: PlannedChange[] = [];
  if (found.type !== topic.type) {
    const refused = 'a topic keeps its type; make another topic for it';
    changes.push({ kind: 'impossible', target, what: `type ${found.type} → ${topic.type}`, refused });
  }
  const { partitions } = topic;
  if (partitions !== undefined && partitions < found.partitions) {
    const refused = 'a topic keeps its partitions, since events are in them';
    changes.push({ kind: 'impossible', target, what: `partitions ${found.partitions} → ${partitions}`, refused });
  }
  if (partitions !== undefined && partitions > found.partitions) {
    const isAsked = found.type === 'ordered' && !consents.keyReorder.includes(topic.name);
    const refused = isAsked
      ? `keys move, so that order between old and new events is lost: --allow-key-reorder ${topic.name}`
      : null;
    changes.push({
      kind: 'add-partitions',
      target,
      topic,
      to: partitions,
      what: `partitions ${found.partitions} → ${partitions}`,
      refused,
    });
  }
  return [...changes, ...settingChanges(topic, found, consents)];
}

function settingChanges(topic: CatalogTopic, found: ExistingTopic, consents: Consents): PlannedChange[] {
  const inForce = new Map(found.entries.map(({ name, value }) => [name, value]));
  const isSet = new Set(found.entries.filter((entry) => entry.isSet).map(({ name }) => name));
  const names = [...new Set([...Object.keys(topic.config), ...isSet])].sort();
  return names.flatMap((setting): PlannedChange[] => {
    const to = Object.hasOwn(topic.config, setting) ? topic.config[setting] : undefined;
    const from = inForce.get(setting);
    const isSame =
      to !== undefined && isSet.has(setting) && canonicalSetting(setting, to) === canonicalSetting(setting, from ?? '');
    if (isSame) return [];
    const loss = dataLoss(setting, inForce, to, topic.config);
    const isAsked = loss !== null && !consents.deleteData.includes(topic.name);
    const refused = isAsked ? `${loss}: --allow-delete-data ${topic.name}` : null;
    const before = isSet.has(setting) ? from : `${from ?? ''} (default)`;
    const what = `${setting} ${before?.trim() || '(nothing)'} → ${to ?? '(default)'}`;
    return [{ kind: 'configure', target: `topic ${topic.name}`, topic, setting, to, what, refused }];
  });
}

function schemaChanges({ subject, event, isRegistered, incompatible }: SchemaState): PlannedChange[] {
  if (isRegistered) return [];
  const refused = incompatible.length === 0 ? null : `not compatible: ${incompatible.join('; ')}`;
  return [
    {
      kind: 'register-schema',
      target: `schema ${subject}`,
      subject,
      event,
      what: `register that of ${event}`,
      refused,
    },
  ];
}
