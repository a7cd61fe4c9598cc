/**
 * A topic's settings: which there are, what their texts mean, and what holds where a topic says nothing.
 *
 * Names are Kafka's where Kafka has one. The metadata keeps the texts in one canonical form (whole milliseconds, bytes);
 * everything else sees a complete, typed {@link TopicConfig}. Settings of Kafka's that change nothing here are taken too, where
 * they promise nothing false: kafka-topic-settings.ts.
 *
 * Where it differs from Kafka: `retention.ms` counts from when the broker stored an event, not from the event's own timestamp,
 * so that an event with an old or a wrong timestamp is not deleted right after it was acknowledged.
 */
import { parseByteSize, parseDuration } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import {
  canonicalKafkaSetting,
  KAFKA_LONG_MAX,
  kafkaTopicSetting,
  kafkaTopicSettings,
} from './kafka-topic-settings.ts';
import { declaredGroups, parseTopicGroups, topicGroupsText, type TopicGroup } from './topic-groups.ts';

/** What happens to old events. Any of them may be combined. */
export interface CleanupPolicy {
  /** They go by age and size. */
  readonly delete: boolean;
  /** Of each key, the newest stays. */
  readonly compact: boolean;
  /** They go once every declared group has finished them. */
  readonly acknowledged: boolean;
}

/** Complete. Unlimited durations and sizes are Infinity. */
export interface TopicConfig {
  readonly cleanup: CleanupPolicy;
  readonly retentionMs: number;
  /** Of each partition. */
  readonly retentionBytes: number;
  /** Whose progress `acknowledged` goes by, also when they have no member: those of the setting, else the declared ones. */
  readonly acknowledgedGroups: readonly string[];
  /** Declared: their order, and what dead letters do. Others may take part, too. */
  readonly groups: readonly TopicGroup[];
  /** Of parallel topics: how long a record is a member's. */
  readonly deliveryLockMs: number;
  /** Of parallel topics: failed deliveries after which a record is a dead letter. */
  readonly deliveryLimit: number;
  /** Of parallel topics: records of a partition that may be given out to a group at a time. */
  readonly deliveryMaxInFlight: number;
  /** Kept for this long although they are acknowledged. */
  readonly acknowledgedFloorMs: number;
  /** Deleted after this long although they are not. */
  readonly acknowledgedCeilingMs: number;
  readonly minCompactionLagMs: number;
  readonly maxCompactionLagMs: number;
  readonly minDirtyRatio: number;
  readonly deleteRetentionMs: number;
  readonly segmentMs: number;
  readonly segmentBytes: number;
  readonly maxBatchBytes: number;
  /** Partitions may be added although keys move then. */
  readonly allowKeyReorder: boolean;
}

/** What the broker's own settings say; see config.ts. */
export interface TopicConfigDefaults {
  readonly retentionMs: number;
  readonly retentionBytes: number;
  readonly segmentMs: number;
  readonly segmentBytes: number;
  readonly maxBatchBytes: number;
  readonly allowKeyReorder: boolean;
}

export interface TopicConfigEntry {
  readonly name: string;
  /** Canonical. */
  readonly value: string;
  /** False where the topic says nothing and the default holds. */
  readonly isSet: boolean;
  readonly help: string;
}

/** Null: fine. Text: what is wrong with it. */
type Canonical = { readonly text: string } | { readonly wrong: string };

interface Setting {
  readonly help: string;
  readonly canonical: (text: string) => Canonical;
  readonly defaultText: (defaults: TopicConfigDefaults) => string;
}

export const MAX_ACKNOWLEDGED_GROUPS = 100;
/** Consent, kept with the topic, to what more partitions do to an ordered topic. */
export const ALLOW_KEY_REORDER = 'allow.key.reorder';
/** Of any value; whatever it is, it fits into a string of every door. */
const MAX_TEXT_LENGTH = 10_000;
const UNLIMITED = '-1';
const UNLIMITED_TEXTS: readonly string[] = [UNLIMITED, 'unlimited', KAFKA_LONG_MAX];
const DAY_MS = 86_400_000;
const MIN_SEGMENT_BYTES = 64 * 1024;

const SETTINGS: Readonly<Record<string, Setting>> = {
  'cleanup.policy': {
    help: 'what happens to old events: delete, compact, acknowledged, or several of them with commas',
    canonical: canonicalPolicy,
    defaultText: () => 'delete',
  },
  'retention.ms': {
    help: 'delete: how long an event is kept after it was stored; -1 for ever',
    canonical: durationSetting(1),
    defaultText: ({ retentionMs }) => limitText(retentionMs),
  },
  'retention.bytes': {
    help: 'delete: bytes of a partition beyond which its oldest events go; -1 for no limit',
    canonical: sizeSetting(1),
    defaultText: ({ retentionBytes }) => limitText(retentionBytes),
  },
  'acknowledged.groups': {
    help: 'acknowledged: the groups that have to finish an event before it goes, with commas; those of groups when empty',
    canonical: canonicalGroups,
    defaultText: () => '',
  },
  groups: {
    help: 'groups that are declared, with commas: name:order=2:after-dead-letter=park:on-dead-letter=release',
    canonical: canonicalTopicGroups,
    defaultText: () => '',
  },
  'delivery.lock.ms': {
    help: 'parallel topics: how long a record is a member’s before it is given to another',
    canonical: durationSetting(1_000, false),
    defaultText: () => '30000',
  },
  'delivery.limit': {
    help: 'parallel topics: failed deliveries after which a record is a dead letter',
    canonical: countSetting(1, 1_000),
    defaultText: () => '5',
  },
  'delivery.max.in.flight': {
    help: 'parallel topics: records of a partition that may be given out to one group at a time',
    canonical: countSetting(1, 10_000),
    defaultText: () => '2000',
  },
  'acknowledged.floor.ms': {
    help: 'acknowledged: how long an event is kept although every group has finished it',
    canonical: durationSetting(0, false),
    defaultText: () => '0',
  },
  'acknowledged.ceiling.ms': {
    help: 'acknowledged: how long an event is kept although some group has not finished it; -1 for ever',
    canonical: durationSetting(1_000),
    defaultText: () => UNLIMITED,
  },
  'min.compaction.lag.ms': {
    help: 'compact: how long an event is left alone',
    canonical: durationSetting(0, false),
    defaultText: () => '0',
  },
  'max.compaction.lag.ms': {
    help: 'compact: after how long an event is looked at although little else has changed; -1 for never',
    canonical: durationSetting(1_000),
    defaultText: () => UNLIMITED,
  },
  'min.cleanable.dirty.ratio': {
    help: 'compact: share of a partition, 0 to 1, that is new before it is compacted again',
    canonical: canonicalRatio,
    defaultText: () => '0.5',
  },
  'delete.retention.ms': {
    help: 'compact: how long a tombstone is kept after the values before it are gone',
    canonical: durationSetting(0, false),
    defaultText: () => String(DAY_MS),
  },
  'segment.ms': {
    help: 'age of a segment until the next begins; only whole segments are compacted or freed on the disk',
    canonical: durationSetting(1_000, false),
    defaultText: ({ segmentMs }) => String(segmentMs),
  },
  'segment.bytes': {
    help: 'bytes of a segment until the next begins',
    canonical: sizeSetting(MIN_SEGMENT_BYTES, false),
    defaultText: ({ segmentBytes }) => String(segmentBytes),
  },
  'max.message.bytes': {
    help: 'bytes of the largest batch; the broker’s own limit holds too',
    canonical: sizeSetting(1024, false),
    defaultText: ({ maxBatchBytes }) => String(maxBatchBytes),
  },
  [ALLOW_KEY_REORDER]: {
    help: 'true: partitions may be added without asking, although keys move then',
    canonical: canonicalFlag,
    defaultText: ({ allowKeyReorder }) => String(allowKeyReorder),
  },
};

export type TopicConfigTexts = Readonly<Record<string, string>>;

/**
 * A topic's settings after a change, in canonical form.
 *
 * @param set texts as a person writes them: `7d`, `10GiB`, `unlimited`
 * @param unset names that fall back to their defaults; those that are not set are no error
 * @returns a refusal with INVALID_CONFIG that names the setting and what was wrong
 */
export function changeTopicConfig(
  before: TopicConfigTexts,
  set: TopicConfigTexts,
  unset: readonly string[] = [],
): { readonly config: TopicConfigTexts } | Refusal {
  const config: Record<string, string> = { ...before };
  for (const name of unset) {
    if (!isSetting(name) && kafkaTopicSetting(name) === undefined) return unknownSetting(name);
    if (Object.hasOwn(set, name)) return invalid(`${name} is both set and unset`);
    delete config[name];
  }
  for (const [name, text] of Object.entries(set)) {
    const canonical = canonicalText(name, text.trim());
    if (canonical === null) return unknownSetting(name);
    if ('wrong' in canonical) return invalid(`${name}: ${canonical.wrong}`);
    config[name] = canonical.text;
  }
  return checkTogether(config) ?? { config };
}

/** @param texts canonical; what is unknown, from a later version, is left out */
export function topicConfig(texts: TopicConfigTexts, defaults: TopicConfigDefaults): TopicConfig {
  const text = (name: string): string =>
    Object.hasOwn(texts, name) ? (texts[name] as string) : (SETTINGS[name] as Setting).defaultText(defaults);
  const groups = declaredGroups(texts);
  const number = (name: string): number => (text(name) === UNLIMITED ? Infinity : Number(text(name)));
  const policies = list(text('cleanup.policy'));
  return {
    cleanup: {
      delete: policies.includes('delete'),
      compact: policies.includes('compact'),
      acknowledged: policies.includes('acknowledged'),
    },
    retentionMs: number('retention.ms'),
    retentionBytes: number('retention.bytes'),
    acknowledgedGroups: acknowledgedGroups(text('acknowledged.groups'), groups),
    groups,
    deliveryLockMs: number('delivery.lock.ms'),
    deliveryLimit: number('delivery.limit'),
    deliveryMaxInFlight: number('delivery.max.in.flight'),
    acknowledgedFloorMs: number('acknowledged.floor.ms'),
    acknowledgedCeilingMs: number('acknowledged.ceiling.ms'),
    minCompactionLagMs: number('min.compaction.lag.ms'),
    maxCompactionLagMs: number('max.compaction.lag.ms'),
    minDirtyRatio: number('min.cleanable.dirty.ratio'),
    deleteRetentionMs: number('delete.retention.ms'),
    segmentMs: number('segment.ms'),
    segmentBytes: number('segment.bytes'),
    maxBatchBytes: number('max.message.bytes'),
    allowKeyReorder: text(ALLOW_KEY_REORDER) === 'true',
  };
}

/** Every setting, with the value in force; of those that change nothing here only what is set. */
export function describeTopicConfig(texts: TopicConfigTexts, defaults: TopicConfigDefaults): TopicConfigEntry[] {
  const entries = Object.entries(SETTINGS).map(([name, { help, defaultText }]) => {
    const isSet = Object.hasOwn(texts, name);
    return { name, value: isSet ? (texts[name] as string) : defaultText(defaults), isSet, help };
  });
  for (const [name, { help }] of kafkaTopicSettings()) {
    if (Object.hasOwn(texts, name)) entries.push({ name, value: texts[name] as string, isSet: true, help });
  }
  return entries;
}

export function topicConfigNames(): string[] {
  return Object.keys(SETTINGS);
}

function canonicalText(name: string, text: string): Canonical | null {
  if (text.length > MAX_TEXT_LENGTH)
    return { wrong: `expected at most ${MAX_TEXT_LENGTH} characters, got ${text.length}` };
  if (isSetting(name)) return (SETTINGS[name] as Setting).canonical(text);
  const kafkas = kafkaTopicSetting(name);
  return kafkas === undefined ? null : canonicalKafkaSetting(kafkas, text);
}

function checkTogether(config: TopicConfigTexts): Refusal | null {
  const policies = list(config['cleanup.policy'] ?? 'delete');
  const finishing = acknowledgedGroups(config['acknowledged.groups'] ?? '', declaredGroups(config));
  if (policies.includes('acknowledged') && finishing.length === 0) {
    return invalid(
      'cleanup.policy=acknowledged needs acknowledged.groups or groups: without a group nothing would ever be finished',
    );
  }
  const floor = Number(config['acknowledged.floor.ms'] ?? 0);
  const ceiling = config['acknowledged.ceiling.ms'] ?? UNLIMITED;
  if (ceiling !== UNLIMITED && Number(ceiling) < floor) {
    return invalid(`acknowledged.ceiling.ms (${ceiling}) is below acknowledged.floor.ms (${floor})`);
  }
  const minLag = Number(config['min.compaction.lag.ms'] ?? 0);
  const maxLag = config['max.compaction.lag.ms'] ?? UNLIMITED;
  if (maxLag !== UNLIMITED && Number(maxLag) < minLag) {
    return invalid(`max.compaction.lag.ms (${maxLag}) is below min.compaction.lag.ms (${minLag})`);
  }
  return null;
}

function canonicalPolicy(text: string): Canonical {
  const policies = list(text);
  const known = ['delete', 'compact', 'acknowledged'];
  const wrong = policies.find((policy) => !known.includes(policy));
  if (policies.length === 0 || wrong !== undefined) {
    return { wrong: `expected ${known.join(', ')}, or several of them with commas; got ${JSON.stringify(text)}` };
  }
  // The order in which Kafka's own tools write two of them.
  return { text: ['compact', 'delete', 'acknowledged'].filter((policy) => policies.includes(policy)).join(',') };
}

function canonicalFlag(text: string): Canonical {
  const flag = text.toLowerCase();
  return flag === 'true' || flag === 'false'
    ? { text: flag }
    : { wrong: `expected true or false, got ${JSON.stringify(text)}` };
}

function canonicalGroups(text: string): Canonical {
  const groups = [...new Set(list(text))];
  if (groups.length > MAX_ACKNOWLEDGED_GROUPS) return { wrong: `expected at most ${MAX_ACKNOWLEDGED_GROUPS} groups` };
  return { text: groups.join(',') };
}

function canonicalTopicGroups(text: string): Canonical {
  const groups = parseTopicGroups(text);
  return 'wrong' in groups ? groups : { text: topicGroupsText(groups) };
}

/** Those that are named, else those that are declared. */
function acknowledgedGroups(text: string, declared: readonly TopicGroup[]): readonly string[] {
  const named = list(text);
  return named.length > 0 ? named : declared.map(({ name }) => name);
}

function countSetting(minimum: number, maximum: number): Setting['canonical'] {
  return (text) => {
    const count = text === '' ? Number.NaN : Number(text);
    return Number.isInteger(count) && count >= minimum && count <= maximum
      ? { text: String(count) }
      : { wrong: `expected a whole number from ${minimum} to ${maximum}, got ${JSON.stringify(text)}` };
  };
}

function canonicalRatio(text: string): Canonical {
  const ratio = text === '' ? Number.NaN : Number(text);
  return ratio >= 0 && ratio <= 1
    ? { text: String(ratio) }
    : { wrong: `expected a number from 0 to 1, got ${JSON.stringify(text)}` };
}

function durationSetting(minimum: number, mayBeUnlimited = true): Setting['canonical'] {
  return quantitySetting(parseDuration, minimum, mayBeUnlimited, 'ms');
}

function sizeSetting(minimum: number, mayBeUnlimited = true): Setting['canonical'] {
  return quantitySetting(parseByteSize, minimum, mayBeUnlimited, 'bytes');
}

function quantitySetting(
  parse: (text: string) => number | string,
  minimum: number,
  mayBeUnlimited: boolean,
  unit: string,
): Setting['canonical'] {
  return (text) => {
    if (mayBeUnlimited && UNLIMITED_TEXTS.includes(text)) return { text: UNLIMITED };
    const value = parse(text);
    if (typeof value === 'string') return { wrong: value };
    if (value < minimum) return { wrong: `expected ${minimum} ${unit} or more, got ${JSON.stringify(text)}` };
    return { text: String(value) };
  };
}

function limitText(limit: number): string {
  return limit === Infinity ? UNLIMITED : String(limit);
}

function list(text: string): string[] {
  return text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
}

function isSetting(name: string): boolean {
  return Object.hasOwn(SETTINGS, name);
}

function unknownSetting(name: string): Refusal {
  return invalid(`there is no setting ${JSON.stringify(name)}; there are ${topicConfigNames().join(', ')}`);
}

function invalid(message: string): Refusal {
  return refuse('INVALID_CONFIG', message);
}
