/**
 * The broker's settings under Kafka's names, for tools that ask what a broker is set to. All of them are read-only: they are
 * read from naru.yaml when the broker starts.
 *
 * Lists what this broker has, and what tools look for and can only be one way here. Secrets have no entry.
 */
import { CONFIG_SOURCE, CONFIG_TYPE, type ConfigEntry } from './topic-config-view.ts';

/** The part of the broker's configuration that is shown. Unlimited quantities are Infinity. */
export interface ShownSettings {
  readonly data: string;
  readonly logLevel: string;
  readonly defaultPartitions: number;
  readonly log: { readonly maxBatchBytes: number; readonly segmentBytes: number; readonly segmentAgeMs: number };
  readonly retention: {
    readonly timeMs: number;
    readonly partitionBytes: number;
    readonly checkIntervalMs: number;
  };
  readonly compaction: { readonly checkIntervalMs: number; readonly mapBytes: number };
  readonly groups: { readonly sessionTimeoutMs: number; readonly maxMembers: number };
  readonly limits: { readonly connections: number; readonly connectionsPerAddress: number };
}

export interface BrokerConfigViewOptions {
  readonly settings: ShownSettings;
  /** The same where nothing is set. */
  readonly builtIn: ShownSettings;
  /** Whether a topic is made when it is first asked for. */
  readonly autoCreateTopics: boolean;
}

type Row = readonly [name: string, type: keyof typeof CONFIG_TYPE, value: string, help: string];

const LOG_LEVELS: Readonly<Record<string, string>> = {
  silent: 'FATAL',
  error: 'ERROR',
  warn: 'WARN',
  info: 'INFO',
  debug: 'DEBUG',
};

export class BrokerConfigView {
  readonly #options: BrokerConfigViewOptions;

  constructor(options: BrokerConfigViewOptions) {
    this.#options = options;
  }

  /** By name. */
  entries(nodeId: number, advertised: { readonly host: string; readonly port: number }): ConfigEntry[] {
    const { settings, builtIn, autoCreateTopics } = this.#options;
    const host = advertised.host.includes(':') ? `[${advertised.host}]` : advertised.host;
    const id = String(nodeId);
    const identity: Row[] = [
      ['advertised.listeners', 'string', `PLAINTEXT://${host}:${advertised.port}`, 'where clients reach this broker'],
      [
        'auto.create.topics.enable',
        'boolean',
        String(autoCreateTopics),
        'topics are made when they are first asked for',
      ],
      ['broker.id', 'int', id, 'the only broker'],
      ['node.id', 'int', id, 'the only broker'],
    ];
    const defaults = new Map(rowsOf(builtIn).map(([name, , value]) => [name, value]));
    return [
      ...identity.map((row) => entryOf(row, CONFIG_SOURCE.staticBroker)),
      ...rowsOf(settings).map((row) =>
        entryOf(row, row[2] === defaults.get(row[0]) ? CONFIG_SOURCE.builtIn : CONFIG_SOURCE.staticBroker),
      ),
    ].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** How much the broker says on stderr; it has one logger. */
  loggers(): ConfigEntry[] {
    const value = LOG_LEVELS[this.#options.settings.logLevel] ?? 'INFO';
    const row: Row = ['root', 'string', value, 'how much is said on stderr'];
    return [{ ...entryOf(row, CONFIG_SOURCE.logger), synonyms: [] }];
  }
}

function rowsOf({ data, defaultPartitions, log, retention, compaction, groups, limits }: ShownSettings): Row[] {
  return [
    ['compression.type', 'string', 'producer', 'batches are stored as publishers compress them'],
    ['default.replication.factor', 'int', '1', 'there is one broker'],
    ['delete.topic.enable', 'boolean', 'true', 'topics may be deleted'],
    ['group.consumer.session.timeout.ms', 'int', String(groups.sessionTimeoutMs), 'where a member does not say'],
    ['group.max.size', 'int', String(groups.maxMembers), 'members of a group'],
    ['log.cleaner.backoff.ms', 'long', String(compaction.checkIntervalMs), 'how often is looked what to compact'],
    ['log.cleaner.dedupe.buffer.size', 'long', String(compaction.mapBytes), 'memory for keys during compaction'],
    ['log.cleaner.enable', 'boolean', 'true', 'topics may be compacted'],
    ['log.cleanup.policy', 'list', 'delete', 'where a topic does not say'],
    ['log.dirs', 'string', data, 'where everything is kept'],
    ['log.message.timestamp.type', 'string', 'CreateTime', 'timestamps are the publishers’ own'],
    ['log.retention.bytes', 'long', limitText(retention.partitionBytes), 'of a partition, where a topic does not say'],
    ['log.retention.check.interval.ms', 'long', String(retention.checkIntervalMs), 'how often is looked what may go'],
    ['log.retention.ms', 'long', limitText(retention.timeMs), 'where a topic does not say'],
    ['log.roll.ms', 'long', String(log.segmentAgeMs), 'where a topic does not say'],
    ['log.segment.bytes', 'int', String(log.segmentBytes), 'where a topic does not say'],
    ['max.connections', 'int', String(limits.connections), 'through all doors'],
    ['max.connections.per.ip', 'int', String(limits.connectionsPerAddress), 'through all doors'],
    ['message.max.bytes', 'int', String(log.maxBatchBytes), 'of the largest batch'],
    ['min.insync.replicas', 'int', '1', 'there is one broker'],
    ['num.partitions', 'int', String(defaultPartitions), 'of a topic that is created without saying'],
    ['offsets.topic.replication.factor', 'short', '1', 'there is one broker'],
    ['process.roles', 'list', 'broker,controller', 'there is one broker'],
    ['unclean.leader.election.enable', 'boolean', 'false', 'there is one broker'],
  ];
}

function entryOf([name, type, value, help]: Row, source: number): ConfigEntry {
  return { name, value, source, type: CONFIG_TYPE[type], help, readOnly: true, synonyms: [{ name, value, source }] };
}

function limitText(limit: number): string {
  return limit === Infinity ? '-1' : String(limit);
}
