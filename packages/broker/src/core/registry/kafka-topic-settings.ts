/**
 * Settings of a topic that Kafka has and that change nothing here: which values make no false promise.
 *
 * Owns their names, types and defaults. Two kinds: what could only be given one way on this broker (one replica, batches
 * stored as they come) is taken with that value and refused with any other; hints for Kafka's own files and replicas are
 * taken with every value of their type. Both are kept with the topic as they were given, so that tools read back what they set.
 */

export type KafkaSettingType = 'boolean' | 'int' | 'long' | 'list' | 'string';

export interface KafkaTopicSetting {
  readonly type: KafkaSettingType;
  /** Kafka's default, except where only one value is true here. */
  readonly defaultText: string;
  /** No other value than the default is taken. */
  readonly fixed: boolean;
  readonly help: string;
}

/** Kafka's largest long: what it has for "never" and "no limit". */
export const KAFKA_LONG_MAX = '9223372036854775807';
const LONG_MAX = BigInt(KAFKA_LONG_MAX);
const INT_MAX = 2_147_483_647n;

const hint = (type: KafkaSettingType, defaultText: string, help: string): KafkaTopicSetting => ({
  type,
  defaultText,
  fixed: false,
  help: `without effect here: ${help}`,
});
const fixed = (type: KafkaSettingType, defaultText: string, help: string): KafkaTopicSetting => ({
  type,
  defaultText,
  fixed: true,
  help: `only ${defaultText === '' ? 'empty' : defaultText}: ${help}`,
});

const NO_REPLICAS = 'there is one broker, so nothing is copied to another';
const NO_INDEX_FILES = 'indexes have no files of their own';
const NO_TIERS = 'there is no remote storage';

const SETTINGS: Readonly<Record<string, KafkaTopicSetting>> = {
  'compression.type': fixed('string', 'producer', 'batches are stored as publishers compress them'),
  'file.delete.delay.ms': hint('long', '60000', 'files go as soon as nobody reads them'),
  'flush.messages': hint('long', KAFKA_LONG_MAX, 'what is acknowledged is on the disk'),
  'flush.ms': hint('long', KAFKA_LONG_MAX, 'what is acknowledged is on the disk'),
  'follower.replication.throttled.replicas': hint('list', '', NO_REPLICAS),
  'index.interval.bytes': hint('int', '4096', NO_INDEX_FILES),
  'leader.replication.throttled.replicas': hint('list', '', NO_REPLICAS),
  'local.retention.bytes': fixed('long', '-2', NO_TIERS),
  'local.retention.ms': fixed('long', '-2', NO_TIERS),
  'message.timestamp.after.max.ms': fixed('long', KAFKA_LONG_MAX, 'timestamps are the publishers’ own'),
  'message.timestamp.before.max.ms': fixed('long', KAFKA_LONG_MAX, 'timestamps are the publishers’ own'),
  'message.timestamp.type': fixed('string', 'CreateTime', 'timestamps are the publishers’ own'),
  'min.insync.replicas': fixed('int', '1', NO_REPLICAS),
  preallocate: hint('boolean', 'false', 'the journal always is preallocated'),
  'remote.log.copy.disable': fixed('boolean', 'false', NO_TIERS),
  'remote.log.delete.on.disable': fixed('boolean', 'false', NO_TIERS),
  'remote.storage.enable': fixed('boolean', 'false', NO_TIERS),
  'segment.index.bytes': hint('int', '10485760', NO_INDEX_FILES),
  'segment.jitter.ms': hint('long', '0', 'segments of different partitions do not begin together'),
  'unclean.leader.election.enable': hint('boolean', 'false', NO_REPLICAS),
};

export function kafkaTopicSetting(name: string): KafkaTopicSetting | undefined {
  return Object.hasOwn(SETTINGS, name) ? SETTINGS[name] : undefined;
}

/** Name and setting of all of them. */
export function kafkaTopicSettings(): (readonly [string, KafkaTopicSetting])[] {
  return Object.entries(SETTINGS);
}

/** The value as it is kept, or what is wrong with it. */
export function canonicalKafkaSetting(
  setting: KafkaTopicSetting,
  text: string,
): { readonly text: string } | { readonly wrong: string } {
  const canonical = canonicalOf(setting.type, text);
  if (canonical === null) return { wrong: `expected a value of type ${setting.type}, got ${JSON.stringify(text)}` };
  if (setting.fixed && canonical !== setting.defaultText) {
    return { wrong: `takes ${setting.help}; got ${JSON.stringify(text)}` };
  }
  return { text: canonical };
}

function canonicalOf(type: KafkaSettingType, text: string): string | null {
  switch (type) {
    case 'boolean': {
      const lower = text.toLowerCase();
      return lower === 'true' || lower === 'false' ? lower : null;
    }
    case 'int':
      return wholeNumber(text, INT_MAX);
    case 'long':
      return wholeNumber(text, LONG_MAX);
    case 'list':
    case 'string':
      return text;
  }
}

/** Negative ones mean something only where the value is fixed. */
function wholeNumber(text: string, max: bigint): string | null {
  if (!/^-?\d{1,19}$/.test(text)) return null;
  const value = BigInt(text);
  return value <= max && value >= -2n ? String(value) : null;
}
