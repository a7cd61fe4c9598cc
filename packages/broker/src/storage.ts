/**
 * A broker's storage: log and metadata, and what keeps a second broker away from them. Constructs the engines.
 */
import { existsSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Clock, Disk, Logger, Random, Timers } from '@naru/base';
import { isInternalTopicName, NaruError } from '@naru/protocol';
import { APPENDS_PER_JOURNAL_FILE, type BrokerConfig } from './config.ts';
import type { TopicMetadata } from './core/registry/topic-registry.ts';
import { DatabaseLogStore } from './log/database/database-log-store.ts';
import { SqliteLogDatabase } from './log/database/sqlite/sqlite-log-database.ts';
import { lockDataDirectory } from './log/file/data-dir-lock.ts';
import { openFileLogStore } from './log/file/file-log-store.ts';
import { DEFAULT_FILE_LOG_LIMITS } from './log/file/limits.ts';
import { openFilesLimit } from './log/file/node-disk.ts';
import type { LogStore } from './log/log-store.ts';
import { MemoryLogStore } from './log/memory/memory-log-store.ts';
import type { MetadataStore } from './metadata/metadata-store.ts';
import { SqliteMetadataStore } from './metadata/sqlite-metadata-store.ts';

/** Written first of the log, once: see log/file/data-directory.ts. */
const LOG_VERSION_FILE = 'naru-data.json';
const METADATA_FILE = 'metadata.db';
/** Log and metadata of the storage `sqlite`. */
const DATABASE_FILE = 'naru.db';
/** Kept for everything but segments and connections. */
const OTHER_FILES = 1_000;
/** An open file takes some kilobytes of the system's memory and ours. */
const MAX_OPEN_SEGMENTS = 32_768;

export interface StorageSurroundings {
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly disk: Disk;
  readonly logger: Logger;
}

/** Opened, and nobody else's; the log is not recovered yet. */
export interface Storage {
  readonly store: LogStore;
  readonly metadata: MetadataStore;
  /** @throws NaruError DATA_CORRUPT when the log does not belong to metadata that knows these topics */
  check(known: readonly TopicMetadata[]): Promise<void>;
  /** Closes the metadata and lets somebody else have the storage; the log is closed by then. */
  release(): Promise<void>;
}

/**
 * @throws NaruError DATA_DIRECTORY_IN_USE, DATA_DIRECTORY_NOT_WRITABLE, DATA_DIRECTORY_VERSION, DATA_CORRUPT,
 *   STORAGE_UNAVAILABLE, INVALID_CONFIGURATION
 */
export async function openStorage(config: BrokerConfig, surroundings: StorageSurroundings): Promise<Storage> {
  switch (config.storage) {
    case 'memory':
      return memoryStorage(config);
    case 'file':
      return fileStorage(config, surroundings);
    case 'sqlite':
      return sqliteStorage(config, surroundings);
    case 'postgres':
      return postgresStorage(config, surroundings);
  }
}

/** So small that a simulation sees files roll and checkpoints taken. */
const SIMULATED_LOG_LIMITS = {
  journalFileBytes: 512 * 1024,
  journalBytes: 4 * 512 * 1024,
  maxAppendBytes: 64 * 1024,
  mergedFrameBytes: 64 * 1024,
  checkpointBytes: 256 * 1024,
  unwrittenBytes: 256 * 1024,
  cacheBytes: 256 * 1024,
  segmentBytes: 64 * 1024,
};

/**
 * The log on the surroundings' disk beside metadata that outlives the broker, without a lock: for simulations, whose brokers crash.
 */
export function simulatedStorage(
  { data }: BrokerConfig,
  surroundings: StorageSurroundings,
  metadata: MetadataStore,
): Storage {
  const store = openFileLogStore({ ...surroundings, path: data, limits: SIMULATED_LOG_LIMITS });
  return { store, metadata, check: async () => {}, release: async () => {} };
}

/** Metadata for {@link simulatedStorage}. */
export function simulatedMetadata(): MetadataStore {
  return new SqliteMetadataStore(':memory:');
}

function memoryStorage({ log }: BrokerConfig): Storage {
  const metadata = new SqliteMetadataStore(':memory:');
  return {
    store: new MemoryLogStore({ maxBytes: log.memoryBytes }),
    metadata,
    check: async () => {},
    release: () => metadata.close(),
  };
}

function fileStorage(config: BrokerConfig, surroundings: StorageSurroundings): Storage {
  const { data } = config;
  const lock = lockDataDirectory(data);
  try {
    refuseOther(data, DATABASE_FILE, 'sqlite');
    if (existsSync(join(data, LOG_VERSION_FILE)) && !existsSync(join(data, METADATA_FILE))) {
      throw new NaruError(
        'DATA_CORRUPT',
        `${data} holds a log, but its ${METADATA_FILE} is missing: nothing was changed. Put the one that belongs to it back`,
      );
    }
    const metadata = new SqliteMetadataStore(join(data, METADATA_FILE));
    return {
      store: fileLogStore(config, surroundings),
      metadata,
      check: (known) => checkLogIsThere(data, known, surroundings.disk),
      release: async () => {
        await metadata.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

/** Everything in one database: there is nothing that could be missing beside it. */
function sqliteStorage({ data, log }: BrokerConfig, { clock, timers, logger }: StorageSurroundings): Storage {
  const lock = lockDataDirectory(data);
  try {
    refuseOther(data, LOG_VERSION_FILE, 'file');
    const path = join(data, DATABASE_FILE);
    const metadata = new SqliteMetadataStore(path, { sharesFile: true });
    const database = new SqliteLogDatabase({ path, clock });
    return {
      store: new DatabaseLogStore({ database, clock, timers, logger, limits: { cacheBytes: log.cacheBytes } }),
      metadata,
      check: async () => {},
      release: async () => {
        await metadata.close();
        lock.release();
      },
    };
  } catch (error) {
    lock.release();
    throw error;
  }
}

async function postgresStorage(config: BrokerConfig, surroundings: StorageSurroundings): Promise<Storage> {
  const { clock, timers, logger } = surroundings;
  // Its driver costs every start time and memory, and few need it.
  const [{ Postgres }, { PostgresMetadataStore }, { PostgresLogDatabase }] = await Promise.all([
    import('./postgres/postgres.ts'),
    import('./metadata/postgres-metadata-store.ts'),
    import('./log/database/postgres/postgres-log-database.ts'),
  ]);
  const ownerName = `${hostname()}, process ${process.pid}`;
  const postgres = new Postgres({ ...surroundings, settings: config.postgres, ownerName });
  try {
    await postgres.start();
    const metadata = await PostgresMetadataStore.open(postgres, timers);
    const database = new PostgresLogDatabase(postgres);
    return {
      store: new DatabaseLogStore({ database, clock, timers, logger, limits: { cacheBytes: config.log.cacheBytes } }),
      metadata,
      check: async () => {},
      release: async () => {
        await metadata.close();
        await postgres.close();
      },
    };
  } catch (error) {
    await postgres.close();
    throw error;
  }
}

/** What another storage wrote here is not this one's to add to. */
function refuseOther(data: string, file: string, storage: BrokerConfig['storage']): void {
  if (!existsSync(join(data, file))) return;
  const message = `${data} holds data of the storage ${storage}: start with --storage ${storage}, or name another directory`;
  throw new NaruError('DATA_DIRECTORY_VERSION', `${message}; nothing was changed`);
}

/** A topic is created after the log: metadata that knows one beside no log would begin its offsets anew. */
async function checkLogIsThere(path: string, known: readonly TopicMetadata[], disk: Disk): Promise<void> {
  if (known.every(({ name }) => isInternalTopicName(name)) || (await disk.list(path)).includes(LOG_VERSION_FILE))
    return;
  const message = `the metadata of ${path} knows topics, but their log is missing`;
  throw new NaruError('DATA_CORRUPT', `${message}: nothing was changed. Put the log that belongs to the metadata back`);
}

function fileLogStore({ data, log, logging, limits }: BrokerConfig, surroundings: StorageSurroundings): LogStore {
  const { use, keepMs } = logging.recoveryLog;
  if (!use) {
    const warning = 'the recovery log is not used: what was acknowledged last can be lost when the machine fails';
    surroundings.logger.warn({}, warning);
  }
  // Small journal files get small writes: a file has to hold several of the largest, or there would never be room for one.
  const appendBytes = Math.min(DEFAULT_FILE_LOG_LIMITS.maxAppendBytes, log.journalFileBytes / APPENDS_PER_JOURNAL_FILE);
  return openFileLogStore({
    ...surroundings,
    path: data,
    syncJournal: use,
    limits: {
      journalFileBytes: log.journalFileBytes,
      journalBytes: log.journalBytes,
      journalKeepMs: keepMs,
      checkpointBytes: log.checkpointBytes,
      segmentBytes: log.segmentBytes,
      segmentAgeMs: log.segmentAgeMs,
      cacheBytes: log.cacheBytes,
      maxAppendBytes: appendBytes,
      mergedFrameBytes: appendBytes,
      openFiles: openSegments(openFilesLimit(), limits.connections),
    },
  });
}

/**
 * How many segments stay open: where each write opens and closes its own, that takes more than the writing.
 *
 * @param openable files that the process may have open; null when that is not known
 */
export function openSegments(openable: number | null, connections: number): number {
  const { openFiles } = DEFAULT_FILE_LOG_LIMITS;
  if (openable === null) return openFiles;
  return Math.max(openFiles, Math.min(openable - connections - OTHER_FILES, MAX_OPEN_SEGMENTS));
}
