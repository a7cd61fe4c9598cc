/**
 * The broker's settings: their shape, their defaults and what each means. Parsed once, into a complete readonly object.
 *
 * In naru.yaml they stand under `broker:`. Durations are milliseconds or text such as `5s`; sizes bytes or text such as `1GiB`.
 */
import {
  byteSize,
  byteSizeOrUnlimited,
  count,
  duration,
  durationOrUnlimited,
  explainSettings,
  readSettingsFile,
  settingsFrom,
  type Environment,
  type ExplainedSettings,
  type SettingsSpec,
  type SettingsTree,
} from '@naru/protocol/settings-node';
import { z } from 'zod';

const MIB = 1024 * 1024;
const MAX_BATCH_BYTES = 8 * MIB;
/** Of `advertised.host`. */
export const AUTO_HOST = 'auto';
/** The largest frame fits one file. */
const MIN_JOURNAL_FILE_BYTES = 20 * MIB;
/** The largest write is this part of a journal file. In its frame it can be twice as large; several have to fit. */
export const APPENDS_PER_JOURNAL_FILE = 8;

export const brokerSchema = z.strictObject({
  /** Address to listen on. Loopback unless told otherwise. */
  host: z.string().min(1).default('127.0.0.1'),
  /** 0 for any free port. */
  port: count(0, 65_535).default(9092),
  /** Where the storages `file` and `sqlite` keep everything. */
  data: z.string().min(1).default('naru-data'),
  /** `file`, `sqlite` and `postgres` are durable; `memory` keeps nothing. */
  storage: z.enum(['file', 'memory', 'sqlite', 'postgres']).default('file'),
  postgres: z
    .strictObject({
      /** `postgres://user:password@host:port/database`. */
      url: z.string().min(1).default('postgres://localhost:5432/naru'),
      /** Of the broker's tables; created when missing. */
      schema: z.string().min(1).default('naru'),
      /** Connections: one writes the log, the others do everything else. */
      connections: count(1, 100).default(3),
      /** How long a start tries to reach the database. */
      startTimeoutMs: duration(100).prefault('30s'),
      connectTimeoutMs: duration(100).prefault('10s'),
      /** Of one statement, after which the connection counts as dead. */
      statementTimeoutMs: duration(100).prefault('10s'),
      /** How long the database is this broker's after its last sign of life, by the database's clock. */
      leaseMs: duration(500).prefault('5s'),
    })
    .prefault({}),
  /** Shards on threads of their own. Only 1 for now. */
  workers: z.literal(1, 'expected 1: shards on several threads are not supported yet').default(1),
  /** Where Kafka clients are told to connect. */
  advertised: z
    .strictObject({
      /** `auto`: the address that the client did connect to. */
      host: z.string().min(1).default(AUTO_HOST),
      /** 0: the port that is listened on. */
      port: count(0, 65_535).default(0),
    })
    .prefault({}),
  /** Listening beyond loopback is refused without this, since there is no authentication yet. */
  allowRemote: z.boolean().default(false),
  /** Partitions of a topic that is created without saying. */
  defaultPartitions: count(1, 10_000).default(6),
  /** Whether partitions may be added to ordered topics that do not say, although keys move then, as Kafka has it. */
  allowKeyReorder: z.boolean().default(false),
  log: z
    .strictObject({
      /** Bytes of the largest batch, header included. */
      maxBatchBytes: byteSize(1024)
        .refine((bytes) => bytes <= MAX_BATCH_BYTES, 'expected at most 8MiB, which is what one write to the log takes')
        .prefault(MIB + 512),
      /** Bytes of a journal file, a multiple of 4KiB. */
      journalFileBytes: byteSize(MIN_JOURNAL_FILE_BYTES)
        .refine((bytes) => bytes % 4096 === 0, 'expected a multiple of 4KiB')
        .prefault('64MiB'),
      /** Bytes of all journal files, three files at least; publishers wait when a checkpoint cannot free one in time. */
      journalBytes: byteSize(3 * MIN_JOURNAL_FILE_BYTES).prefault('256MiB'),
      /** Bytes written to the journal until a checkpoint is due; at most half of all of it. */
      checkpointBytes: byteSize(64 * 1024).prefault('64MiB'),
      /** Bytes of a segment until the next begins. */
      segmentBytes: byteSize(64 * 1024).prefault('128MiB'),
      /** Age of a segment's first record until the next begins. */
      segmentAgeMs: duration(1_000).prefault('7d'),
      /** Memory for recent batches, so that subscribers that keep up never wait for the disk. */
      cacheBytes: byteSize(MIB).prefault('128MiB'),
      /** Memory that the memory storage may fill before it refuses. */
      memoryBytes: byteSize(MIB).prefault('1GiB'),
    })
    .superRefine(({ maxBatchBytes, journalFileBytes, journalBytes, checkpointBytes }, context) => {
      const wrong = (path: string, message: string): void =>
        context.addIssue({ code: 'custom', path: [path], message });
      if (journalBytes < 3 * journalFileBytes) {
        wrong(
          'journalBytes',
          `expected three files of journalFileBytes (${journalFileBytes}) or more, got ${journalBytes}`,
        );
      }
      const largestBatch = journalFileBytes / APPENDS_PER_JOURNAL_FILE;
      if (maxBatchBytes > largestBatch) {
        wrong(
          'maxBatchBytes',
          `expected at most an eighth of journalFileBytes (${journalFileBytes}), got ${maxBatchBytes}`,
        );
      }
      // Later the journal would be full before the checkpoint that frees it.
      if (checkpointBytes > journalBytes / 2) {
        wrong('checkpointBytes', `expected at most half of journalBytes (${journalBytes}), got ${checkpointBytes}`);
      }
    })
    .prefault({}),
  logging: z
    .strictObject({
      /** The journal of the file storage. */
      recoveryLog: z
        .strictObject({
          /** False: a publish is acknowledged when the operating system has it; a power cut may take back the newest. */
          use: z.boolean().default(true),
          /** How long it is kept after it is needed, with older checkpoints, in case the newest is damaged. */
          keepMs: duration(0).prefault(0),
        })
        .prefault({}),
      /** What became of events in groups, for traces. */
      ledger: z
        .strictObject({
          /** False: traces say what is so now, and neither when nor by whom. */
          use: z.boolean().default(true),
          keepMs: durationOrUnlimited(60_000).prefault('7d'),
        })
        .prefault({}),
    })
    .prefault({}),
  retention: z
    .strictObject({
      /** How long events are kept after they were stored, where a topic does not say. */
      timeMs: durationOrUnlimited(1_000).prefault('7d'),
      /** Bytes of a partition beyond which its oldest events go, where a topic does not say. */
      partitionBytes: byteSizeOrUnlimited().prefault('unlimited'),
      /** How often is looked what may go. */
      checkIntervalMs: duration(10).prefault('30s'),
    })
    .prefault({}),
  compaction: z
    .strictObject({
      /** How often is looked which compacted topics have enough that is new. */
      checkIntervalMs: duration(10).prefault('15s'),
      /** Memory for keys while a partition is compacted; more keys take several rounds. */
      mapBytes: byteSize(MIB).prefault('128MiB'),
    })
    .prefault({}),
  groups: z
    .strictObject({
      /** Used when a member does not say. */
      sessionTimeoutMs: duration(1_000).prefault('45s'),
      maxPollIntervalMs: duration(1_000).prefault('5m'),
      maxMembers: count(1, 100_000).default(1_000),
    })
    .prefault({}),
  idempotency: z
    .strictObject({
      /** How long the broker knows ids of events that a group has handled. */
      windowMs: duration(1_000).prefault('24h'),
      /** Ids of a group that are known at a time; the oldest go early beyond it. */
      maxIds: count(1_000, 100_000_000).default(1_000_000),
    })
    .prefault({}),
  kafka: z
    .strictObject({
      /** Whether a topic that a Kafka client asks for is created, as Kafka does it, where the client allows it. */
      autoCreateTopics: z.boolean().default(true),
    })
    .prefault({}),
  limits: z
    .strictObject({
      connections: count(1, 1_000_000).default(2_000),
      connectionsPerAddress: count(1, 1_000_000).default(1_000),
      /** Producers that a partition remembers. */
      producersPerPartition: count(1, 10_000_000).default(10_000),
      /** Bytes of one request of a Kafka client. */
      kafkaRequestBytes: byteSize(64 * 1024)
        .refine(
          (bytes) => bytes < 16 * MIB,
          'expected less than 16MiB: larger ones could not be told from other protocols',
        )
        .prefault(16 * MIB - 1),
    })
    .prefault({}),
  /** How much is said on stderr. */
  logLevel: z.enum(['silent', 'error', 'warn', 'info', 'debug']).default('info'),
});

export type BrokerConfig = z.output<typeof brokerSchema>;
export type BrokerConfigInput = z.input<typeof brokerSchema>;

/** Keys of naru.yaml that the SDK reads are not the broker's: only its own section is looked at. */
const SPEC: SettingsSpec<typeof brokerSchema> = {
  schema: brokerSchema,
  section: 'broker',
  variables: {
    NARU_HOST: { path: ['host'], parse: String },
    NARU_PORT: { path: ['port'], parse: Number },
    NARU_DATA: { path: ['data'], parse: String },
    NARU_STORAGE: { path: ['storage'], parse: String },
    NARU_POSTGRES_URL: { path: ['postgres', 'url'], parse: String },
    NARU_LOG_LEVEL: { path: ['logLevel'], parse: String },
  },
};

export const DEFAULT_CONFIG_FILE = 'naru.yaml';

/**
 * @param file must exist when it is named; otherwise naru.yaml in the working directory, if there is one
 * @param flags win over everything
 * @throws NaruError INVALID_CONFIGURATION with file, line and column, or the variable
 */
export async function loadBrokerConfig(
  file: string | undefined,
  flags: BrokerConfigInput,
  environment: Environment = process.env,
): Promise<BrokerConfig> {
  return (await explainBrokerConfig(file, flags, environment)).settings;
}

/** {@link loadBrokerConfig} with where each setting came from; what flags said is `given`. */
export async function explainBrokerConfig(
  file: string | undefined,
  flags: BrokerConfigInput,
  environment: Environment = process.env,
): Promise<ExplainedSettings<typeof brokerSchema>> {
  const named = file ?? environment['NARU_CONFIG'];
  const path = named ?? DEFAULT_CONFIG_FILE;
  const text = await readSettingsFile(path, named !== undefined);
  const source = text === undefined ? undefined : { text, file: path };
  return explainSettings(SPEC, source, environment, flags as SettingsTree);
}

/** A complete configuration from what a program gives, without file or environment. */
export function brokerConfig(given: BrokerConfigInput = {}): BrokerConfig {
  return settingsFrom(SPEC, given as SettingsTree);
}
