/**
 * A topic's settings as Kafka's tools show them: ours under Kafka's names and types, and those of Kafka's that change nothing here
 * with the value that is true. Owns the names of the broker's settings behind them and where a value comes from.
 */
import {
  KAFKA_LONG_MAX,
  kafkaTopicSettings,
  type KafkaSettingType,
} from '../../../core/registry/kafka-topic-settings.ts';
import { describeTopicConfig, type TopicConfigDefaults } from '../../../core/registry/topic-config.ts';
import type { TopicMetadata } from '../../../core/registry/topic-registry.ts';

/** Kafka's numbers for where a value comes from. */
export const CONFIG_SOURCE = { topic: 1, staticBroker: 4, builtIn: 5, logger: 6 } as const;

/** Kafka's numbers for types of values. */
export const CONFIG_TYPE: Readonly<Record<KafkaSettingType | 'double' | 'short', number>> = {
  boolean: 1,
  string: 2,
  int: 3,
  short: 4,
  long: 5,
  double: 6,
  list: 7,
};

export interface ConfigSynonym {
  readonly name: string;
  readonly value: string;
  readonly source: number;
}

export interface ConfigEntry {
  readonly name: string;
  readonly value: string;
  readonly source: number;
  readonly type: number;
  readonly help: string;
  readonly readOnly: boolean;
  /** What it was chosen from, the value in force first. */
  readonly synonyms: readonly ConfigSynonym[];
}

/** Types of our settings, and what the broker's setting behind each is called. Those not listed are texts of the topic alone. */
const OURS: Readonly<Record<string, { readonly type: keyof typeof CONFIG_TYPE; readonly brokerName?: string }>> = {
  'cleanup.policy': { type: 'list', brokerName: 'log.cleanup.policy' },
  'retention.ms': { type: 'long', brokerName: 'log.retention.ms' },
  'retention.bytes': { type: 'long', brokerName: 'log.retention.bytes' },
  'acknowledged.groups': { type: 'list' },
  'acknowledged.floor.ms': { type: 'long' },
  'acknowledged.ceiling.ms': { type: 'long' },
  'min.compaction.lag.ms': { type: 'long', brokerName: 'log.cleaner.min.compaction.lag.ms' },
  'max.compaction.lag.ms': { type: 'long', brokerName: 'log.cleaner.max.compaction.lag.ms' },
  'min.cleanable.dirty.ratio': { type: 'double', brokerName: 'log.cleaner.min.cleanable.ratio' },
  'delete.retention.ms': { type: 'long', brokerName: 'log.cleaner.delete.retention.ms' },
  'segment.ms': { type: 'long', brokerName: 'log.roll.ms' },
  'segment.bytes': { type: 'int', brokerName: 'log.segment.bytes' },
  'max.message.bytes': { type: 'int', brokerName: 'message.max.bytes' },
  'allow.key.reorder': { type: 'boolean' },
};

const KAFKA_BROKER_NAMES: Readonly<Record<string, string>> = {
  'compression.type': 'compression.type',
  'message.timestamp.type': 'log.message.timestamp.type',
  'min.insync.replicas': 'min.insync.replicas',
  preallocate: 'log.preallocate',
  'unclean.leader.election.enable': 'unclean.leader.election.enable',
};

export class TopicConfigView {
  readonly #inForce: TopicConfigDefaults;
  readonly #builtIn: TopicConfigDefaults;

  /**
   * @param inForce what holds where a topic says nothing
   * @param builtIn what would hold if the broker's settings said nothing either
   */
  constructor(inForce: TopicConfigDefaults, builtIn: TopicConfigDefaults) {
    this.#inForce = inForce;
    this.#builtIn = builtIn;
  }

  /** By name. */
  entries({ config }: Pick<TopicMetadata, 'config'>): ConfigEntry[] {
    const entries: ConfigEntry[] = [];
    const builtIn = new Map(describeTopicConfig({}, this.#builtIn).map(({ name, value }) => [name, value]));
    for (const { name, value, help } of describeTopicConfig({}, this.#inForce)) {
      const ours = OURS[name] ?? { type: 'string' };
      const brokerSource = value === builtIn.get(name) ? CONFIG_SOURCE.builtIn : CONFIG_SOURCE.staticBroker;
      const broker = { name: ours.brokerName, value: inKafkasTerms(name, value), source: brokerSource };
      const set = Object.hasOwn(config, name) ? inKafkasTerms(name, config[name] as string) : null;
      entries.push(entryOf({ name, type: CONFIG_TYPE[ours.type], help }, set, broker));
    }
    for (const [name, { type, defaultText, help }] of kafkaTopicSettings()) {
      const broker = { name: KAFKA_BROKER_NAMES[name], value: defaultText, source: CONFIG_SOURCE.builtIn };
      const set = Object.hasOwn(config, name) ? (config[name] as string) : null;
      entries.push(entryOf({ name, type: CONFIG_TYPE[type], help }, set, broker));
    }
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  }
}

function entryOf(
  about: Pick<ConfigEntry, 'name' | 'type' | 'help'>,
  set: string | null,
  broker: { readonly name: string | undefined; readonly value: string; readonly source: number },
): ConfigEntry {
  const synonyms: ConfigSynonym[] = [];
  if (set !== null) synonyms.push({ name: about.name, value: set, source: CONFIG_SOURCE.topic });
  if (broker.name !== undefined) synonyms.push({ name: broker.name, value: broker.value, source: broker.source });
  const source = set === null ? broker.source : CONFIG_SOURCE.topic;
  return { ...about, value: set ?? broker.value, source, readOnly: false, synonyms };
}

/** Kafka has no −1 there. */
function inKafkasTerms(name: string, value: string): string {
  return name === 'max.compaction.lag.ms' && value === '-1' ? KAFKA_LONG_MAX : value;
}
