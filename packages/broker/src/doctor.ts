/**
 * Verifies a whole data directory, read-only: nothing in it is created, changed or removed, and no broker may have it.
 *
 * Owns the order, what metadata and log must agree on, and the report; what is in the files is known to log and metadata.
 */
import { existsSync } from 'node:fs';
import type { Disk, TopicId } from '@naru/base';
import { splitPartitionKey } from '@naru/base';
import { isInternalTopicName, isNaruError } from '@naru/protocol';
import { iterateRecords } from '@naru/protocol/batch';
import { nodeCompressionCodecs } from '@naru/protocol/compression-node';
import type { TopicMetadata } from './core/registry/topic-registry.ts';
import { compareTopics, readTopics, verifySnapshot, type LogAtRest } from './doctor-agreement.ts';
import { withDatabaseAtRest } from './doctor-database.ts';
import { verifySqliteLog } from './log/database/sqlite/verify-sqlite-log.ts';
import { shareDataDirectory } from './log/file/data-dir-lock.ts';
import { storageError } from './log/file/data-directory.ts';
import { nodeDisk } from './log/file/node-disk.ts';
import { verifyLog } from './log/file/verify-log.ts';
import { finding, type Finding, type FindingSeverity, type OffsetRange } from './log/finding.ts';
import { reportStranger, VerifyContext, type VerifyCounts, type VerifyProgress } from './log/verify-context.ts';
import { verifyMetadata } from './metadata/verify-metadata.ts';

/** Findings that a report lists at most; those beyond are counted. */
export const MAX_FINDINGS = 10_000;

/** Of the file engine: what its log is. */
const LOG_NAMES = ['naru-data.json', 'journal', 'segments', 'checkpoint'];
const METADATA_NAME = 'metadata.db';
/** Of the sqlite engine: log and metadata. */
const DATABASE_NAME = 'naru.db';
/** Files and directories of a broker, and what SQLite and a write that was interrupted leave beside them. */
const OWN_NAMES = new Set([...LOG_NAMES, 'rewrite', 'clean', 'lock.db', METADATA_NAME, DATABASE_NAME]);
const LEFT_BESIDE = /(?:\.tmp|-journal|-wal|-shm)$/;

export interface DoctorOptions {
  /** Default: the real one. Metadata and lock are always read from the real one. */
  readonly disk?: Disk | undefined;
  /** Called often. */
  readonly onProgress?: ((progress: VerifyProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Also decompresses and decodes every record. Default false: checksums only. */
  readonly deep?: boolean | undefined;
}

export interface DoctorFinding {
  readonly severity: FindingSeverity;
  /** Relative to the data directory; empty for the directory itself. */
  readonly file: string;
  /** Byte of the file. */
  readonly position: number | null;
  /** `topic` is null when the metadata does not know the id. */
  readonly partition: { readonly topicId: TopicId; readonly topic: string | null; readonly partition: number } | null;
  /** Events that cannot be read, both included; compaction may have removed some before. */
  readonly offsets: OffsetRange | null;
  readonly cause: string;
  readonly advice: string;
}

export interface DoctorReport {
  readonly path: string;
  /** No finding is a problem. */
  readonly isSound: boolean;
  /** Sequence of the checkpoint that a broker would start from; null without files or one that can be read. */
  readonly checkpoint: number | null;
  /** Whether the last broker was stopped properly; false for a database, which keeps no mark of it. */
  readonly isCleanStop: boolean;
  readonly checked: Readonly<VerifyCounts>;
  /** How many findings there are of each severity, also of those that are not listed. */
  readonly found: Readonly<Record<FindingSeverity, number>>;
  /** In the order in which they were found, at most {@link MAX_FINDINGS}. */
  readonly findings: readonly DoctorFinding[];
}

/**
 * @param path of the data directory
 * @throws NaruError DATA_DIRECTORY_IN_USE, ABORTED, STORAGE_ERROR when the directory itself cannot be read
 */
export async function verifyDataDirectory(path: string, options: DoctorOptions = {}): Promise<DoctorReport> {
  const { disk = nodeDisk, onProgress, signal, deep = false } = options;
  const root = path.replace(/(?<=.)\/+$/, '');
  const examination = new Examination(root);
  const context = new VerifyContext({
    disk,
    onProgress,
    signal,
    report: (one) => examination.add(one),
    decode: deep ? countRecords : undefined,
  });
  const lock = shareDataDirectory(root);
  try {
    const names = await disk.list(root);
    const hasFiles = names.some((name) => LOG_NAMES.includes(name) || name === METADATA_NAME);
    if (!hasFiles && !names.includes(DATABASE_NAME)) {
      context.report(finding('problem', root, 'it is no data directory of a broker', 'Give the right one with --data'));
      return examination.report(context.counts, null);
    }
    let log: LogAtRest | null = null;
    if (hasFiles) log = await examineFiles(context, examination, root, names);
    if (names.includes(DATABASE_NAME)) log = await examineDatabase(context, examination, `${root}/${DATABASE_NAME}`);
    for (const name of names) {
      if (!OWN_NAMES.has(name.replace(LEFT_BESIDE, ''))) reportStranger(context, `${root}/${name}`);
    }
    return examination.report(context.counts, log);
  } catch (error) {
    throw isNaruError(error) ? error : storageError(error, `reading ${root}`);
  } finally {
    lock?.release();
  }
}

function countRecords(batch: Uint8Array): number {
  const records = iterateRecords(batch, nodeCompressionCodecs, { checkCrc: false });
  let count = 0;
  while (records.next().done !== true) count += 1;
  return count;
}

async function examineFiles(
  context: VerifyContext,
  examination: Examination,
  root: string,
  names: readonly string[],
): Promise<LogAtRest> {
  const path = `${root}/${METADATA_NAME}`;
  const topics = await readMetadata(context, path);
  examination.name(topics);
  if (!names.includes('naru-data.json') && topics?.some(({ name }) => !isInternalTopicName(name)) === true) {
    const advice = 'A broker refuses to start. Put the log that belongs to this metadata back from a backup';
    context.report(finding('problem', root, 'the metadata knows topics, and their log is missing', advice));
  }
  const { checkpoint, isClean, partitions } = await verifyLog(context, root);
  const log: LogAtRest = {
    checkpoint: checkpoint?.sequence ?? null,
    isClean,
    snapshot: checkpoint?.snapshot ?? null,
    snapshotEnds: new Map(checkpoint?.partitions.map(({ key, endOffset }) => [key, endOffset])),
    partitions: partitions === null ? null : new Set(partitions.keys()),
  };
  verifySnapshot(context, `${root}/checkpoint`, log);
  if (topics !== null) compareTopics(context, path, topics, log);
  return log;
}

async function readMetadata(context: VerifyContext, path: string): Promise<TopicMetadata[] | null> {
  // On the real disk, also when the log's is a simulated one.
  if (!existsSync(path)) {
    const advice = 'A broker refuses to start. Put the metadata.db that belongs to this log back from a backup';
    context.report(finding('problem', path, 'the file is missing', advice));
    return null;
  }
  return whenReadable(context, path, () =>
    withDatabaseAtRest(path, (database) => readTopics(context, path, verifyMetadata(database))),
  );
}

async function examineDatabase(
  context: VerifyContext,
  examination: Examination,
  path: string,
): Promise<LogAtRest | null> {
  return whenReadable(context, path, () =>
    withDatabaseAtRest(path, async (database) => {
      const topics = readTopics(context, path, verifyMetadata(database));
      examination.name(topics);
      const { snapshot, snapshotEnds, partitions } = await verifySqliteLog(context, path, database);
      const log = { checkpoint: null, isClean: false, snapshot, snapshotEnds, partitions };
      verifySnapshot(context, path, log);
      if (topics !== null) compareTopics(context, path, topics, log);
      return log;
    }),
  );
}

/** What SQLite cannot open at all is a finding. */
async function whenReadable<T>(context: VerifyContext, path: string, read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if ((error as { code?: unknown }).code !== 'ERR_SQLITE_ERROR') throw error;
    const advice = existsSync(`${path}-wal`) && !existsSync(`${path}-shm`) ? COPY : RESTORE;
    context.report(finding('problem', path, `it cannot be opened: ${(error as Error).message}`, advice));
    return null;
  }
}

const RESTORE = 'A broker refuses to start. Put the file back from a backup';
const COPY =
  'Its -wal file cannot be read without an index, which verifying does not write: verify a copy, or start a broker';

/** Gathers findings into a report. */
class Examination {
  readonly #root: string;
  readonly #findings: Finding[] = [];
  readonly #found: Record<FindingSeverity, number> = { info: 0, warning: 0, problem: 0 };
  #topicNames = new Map<TopicId, string>();

  constructor(root: string) {
    this.#root = root;
  }

  add(one: Finding): void {
    this.#found[one.severity] += 1;
    if (this.#findings.length < MAX_FINDINGS) this.#findings.push(one);
  }

  name(topics: readonly TopicMetadata[] | null): void {
    this.#topicNames = new Map(topics?.map(({ id, name }) => [id, name]));
  }

  report(checked: VerifyCounts, log: LogAtRest | null): DoctorReport {
    return {
      path: this.#root,
      isSound: this.#found.problem === 0,
      checkpoint: log?.checkpoint ?? null,
      isCleanStop: log?.isClean ?? false,
      checked,
      found: this.#found,
      findings: this.#findings.map((one) => this.#told(one)),
    };
  }

  #told({ severity, file, position, partition: key, offsets, cause, advice }: Finding): DoctorFinding {
    let partition: DoctorFinding['partition'] = null;
    if (key !== null) {
      const { topicId, partition: number } = splitPartitionKey(key);
      partition = { topicId, topic: this.#topicNames.get(topicId) ?? null, partition: number };
    }
    const inside = file.startsWith(`${this.#root}/`) ? file.slice(this.#root.length + 1) : '';
    return { severity, file: inside, position, partition, offsets, cause, advice };
  }
}
