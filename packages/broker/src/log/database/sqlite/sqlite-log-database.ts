/**
 * The log in one SQLite file: WAL, synchronous=FULL, so that a transaction is durable when it is committed.
 *
 * Statements run on the calling thread and block it, for the time of a disk sync when something is written. Nothing else may
 * have the file open but the metadata store of the same broker and programs that only read; its caller holds the lock of
 * the data directory.
 */
import { statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { SQLInputValue, StatementSync } from 'node:sqlite';
import type { Clock, PartitionKey } from '@naru/base';
import type {
  BatchPlace,
  BatchRange,
  BatchRow,
  Checkpoint,
  Cycle,
  HistoryPage,
  LogDatabase,
  OpenedLog,
  OperationRow,
  OperationType,
  PartitionRow,
} from '../log-database.ts';
import { sqliteError, sqliteOpenError } from './sqlite-errors.ts';
import { prepareSchema } from './sqlite-schema.ts';

export interface SqliteLogDatabaseOptions {
  /** Of the database file; created when missing. */
  readonly path: string;
  readonly clock: Clock;
  /** The file does not grow beyond this size, bytes. Default: no limit but the disk's. */
  readonly maxBytes?: number | undefined;
}

/** Appends are refused while less than this is free: what is under way, deletes and checkpoints still find room. */
const RESERVED_BYTES = 32 * 1024 * 1024;
/** How old an answer about free space may be. */
const SPACE_AGE_MS = 1_000;
const BUSY_TIMEOUT_MS = 5_000;
const WAL_PAGES = 4_000;
const WAL_KEPT_BYTES = 64 * 1024 * 1024;

type Row = Record<string, unknown>;

const PLACE = 'id, base_offset, last_offset, max_timestamp, size';
const LIVE = 'partition_id = ? AND dead = 0 AND last_offset >= ? AND last_offset < ?';

export class SqliteLogDatabase implements LogDatabase {
  readonly #options: SqliteLogDatabaseOptions;
  readonly #statements = new Map<string, StatementSync>();
  #database: DatabaseSync | null = null;
  #spaceReason: string | null = null;
  #spaceAtMs = -Infinity;

  constructor(options: SqliteLogDatabaseOptions) {
    this.#options = options;
  }

  async open(): Promise<OpenedLog> {
    const { path } = this.#options;
    try {
      const database = new DatabaseSync(path);
      this.#database = database;
      database.exec(`
        PRAGMA busy_timeout = ${BUSY_TIMEOUT_MS};
        PRAGMA journal_mode = WAL;
        PRAGMA synchronous = FULL;
        PRAGMA wal_autocheckpoint = ${WAL_PAGES};
        PRAGMA journal_size_limit = ${WAL_KEPT_BYTES};
      `);
      this.#limitSize(database);
      prepareSchema(database, path);
      return this.#opened();
    } catch (error) {
      throw sqliteOpenError(error, path);
    }
  }

  #limitSize(database: DatabaseSync): void {
    const { maxBytes } = this.#options;
    if (maxBytes === undefined) return;
    const pageBytes = Number(database.prepare('PRAGMA page_size').get()?.['page_size']);
    database.exec(`PRAGMA max_page_count = ${Math.max(1, Math.floor(maxBytes / pageBytes))}`);
  }

  #opened(): OpenedLog {
    const lastId = Number(this.#one('SELECT last_id FROM log_state')?.['last_id']);
    const found = this.#one('SELECT * FROM log_snapshot');
    const partitions = this.#all('SELECT id, key, state FROM log_partitions ORDER BY id').map(
      ({ id, key, state }): PartitionRow => ({ id: Number(id), key: key as PartitionKey, state: String(state) }),
    );
    if (found === undefined) return { lastId, snapshotId: 0, snapshot: null, lastPartitionId: 0, partitions };
    const snapshot = { version: Number(found['version']), data: found['data'] as Uint8Array };
    const lastPartitionId = Number(found['last_partition_id']);
    return { lastId, snapshotId: Number(found['id']), snapshot, lastPartitionId, partitions };
  }

  history(afterId: number, rows: number, bytes: number): Promise<HistoryPage> {
    return this.#reading(() => {
      const batches: BatchRow[] = [];
      let throughId = afterId + rows;
      let total = 0;
      const sizes = this.#all(
        'SELECT id, size * (replacement = 0) AS size FROM log_batches WHERE id > ? AND id <= ? ORDER BY id',
        afterId,
        throughId,
      );
      for (const { id, size } of sizes) {
        total += Number(size);
        if (batches.length > 0 && total > bytes) {
          throughId = Number(id) - 1;
          break;
        }
        batches.push(batchOf(this.#one('SELECT * FROM log_batches WHERE id = ?', Number(id)) as Row));
      }
      const operations = this.#operations('WHERE id > ? AND id <= ? ORDER BY id', afterId, throughId);
      const last = Math.max(batches.at(-1)?.id ?? 0, operations.at(-1)?.id ?? 0);
      return { throughId: Math.min(throughId, Math.max(last, afterId)), batches, operations };
    });
  }

  commit(cycle: Cycle): Promise<void> {
    const { previousId, lastId, truncates, replaced, batches, operations } = cycle;
    return this.#writing(() => {
      const { changes } = this.#run('UPDATE log_state SET last_id = ? WHERE last_id = ?', lastId, previousId);
      // The same cycle again, whose outcome was not known.
      if (Number(changes) === 0 && Number(this.#one('SELECT last_id FROM log_state')?.['last_id']) === lastId) return;
      if (Number(changes) === 0) throw new Error(`the log in it does not end at row ${previousId}`);
      for (const { partitionId, endOffset } of truncates)
        this.#run(
          'UPDATE log_batches SET dead = 1 WHERE partition_id = ? AND dead = 0 AND last_offset >= ?',
          partitionId,
          endOffset,
        );
      for (const id of replaced) this.#run('UPDATE log_batches SET dead = 1 WHERE id = ?', id);
      const insert = this.#prepare('INSERT INTO log_batches VALUES (?, ?, ?, ?, ?, ?, 0, ?, ?)');
      for (const { id, partitionId, baseOffset, lastOffset, maxTimestampMs, isReplacement, records } of batches) {
        const size = records.length;
        insert.run(id, partitionId, baseOffset, lastOffset, maxTimestampMs, size, isReplacement ? 1 : 0, records);
      }
      for (const { id, type, partitionId, offset, detail } of operations)
        this.#run('INSERT INTO log_operations VALUES (?, ?, ?, ?, ?)', id, type, partitionId, offset, detail);
    });
  }

  read({ partitionId, from, below }: BatchRange, maxBytes: number, rows: number): Promise<BatchRow[]> {
    return this.#reading(() => {
      const batches: BatchRow[] = [];
      let bytes = 0;
      const places = this.#prepare(`SELECT id, size FROM log_batches WHERE ${LIVE} ORDER BY last_offset LIMIT ?`);
      for (const { id, size } of places.iterate(partitionId, from, below, rows)) {
        bytes += Number(size);
        if (batches.length > 0 && bytes > maxBytes) break;
        batches.push(batchOf(this.#one('SELECT * FROM log_batches WHERE id = ?', Number(id)) as Row));
      }
      return batches;
    });
  }

  findByTimestamp({ partitionId, from, below }: BatchRange, timestampMs: number): Promise<BatchRow | null> {
    const sql = `SELECT * FROM log_batches WHERE ${LIVE} AND max_timestamp >= ? ORDER BY last_offset LIMIT 1`;
    return this.#reading(() => {
      const row = this.#one(sql, partitionId, from, below, timestampMs);
      return row === undefined ? null : batchOf(row);
    });
  }

  places({ partitionId, from, below }: BatchRange, order: 'up' | 'down', rows: number): Promise<BatchPlace[]> {
    const direction = order === 'up' ? 'ASC' : 'DESC';
    const sql = `SELECT ${PLACE} FROM log_batches WHERE ${LIVE} ORDER BY last_offset ${direction} LIMIT ?`;
    return this.#reading(() => this.#all(sql, partitionId, from, below, rows).map(placeOf));
  }

  measure({ partitionId, from, below }: BatchRange): Promise<number> {
    const sql = `SELECT coalesce(sum(size), 0) AS bytes FROM log_batches WHERE ${LIVE}`;
    return this.#reading(() => Number(this.#one(sql, partitionId, from, below)?.['bytes']));
  }

  checkpoint({ id, snapshot, lastPartitionId, partitions, removed }: Checkpoint): Promise<void> {
    return this.#writing(() => {
      const values = [id, snapshot.version, snapshot.data, lastPartitionId];
      this.#run('INSERT OR REPLACE INTO log_snapshot VALUES (1, ?, ?, ?, ?)', ...values);
      for (const { id: partitionId, key, state } of partitions)
        this.#run('INSERT OR REPLACE INTO log_partitions VALUES (?, ?, ?)', partitionId, key, state);
      for (const partitionId of removed) this.#run('DELETE FROM log_partitions WHERE id = ?', partitionId);
    });
  }

  deadBatches(throughId: number, rows: number): Promise<BatchPlace[]> {
    const sql = `SELECT ${PLACE} FROM log_batches WHERE dead = 1 AND id <= ? LIMIT ?`;
    return this.#reading(() => this.#all(sql, throughId, rows).map(placeOf));
  }

  batchesToErase(range: BatchRange, throughId: number, rows: number): Promise<BatchPlace[]> {
    const sql = `SELECT ${PLACE} FROM log_batches WHERE ${LIVE} AND id <= ? ORDER BY last_offset LIMIT ?`;
    return this.#reading(() =>
      this.#all(sql, range.partitionId, range.from, range.below, throughId, rows).map(placeOf),
    );
  }

  oldOperations(throughId: number, rows: number): Promise<OperationRow[]> {
    return this.#reading(() => this.#operations('WHERE id <= ? ORDER BY id LIMIT ?', throughId, rows));
  }

  eraseBatches(ids: readonly number[]): Promise<void> {
    return this.#writing(() => {
      for (const id of ids) this.#run('DELETE FROM log_batches WHERE id = ?', id);
    });
  }

  eraseOperations(ids: readonly number[]): Promise<void> {
    return this.#writing(() => {
      for (const id of ids) this.#run('DELETE FROM log_operations WHERE id = ?', id);
    });
  }

  spaceReason(): string | null {
    const nowMs = this.#options.clock.monotonicMs();
    if (nowMs - this.#spaceAtMs < SPACE_AGE_MS || this.#database === null) return this.#spaceReason;
    this.#spaceAtMs = nowMs;
    this.#spaceReason = this.#findSpaceReason();
    return this.#spaceReason;
  }

  #findSpaceReason(): string | null {
    const { path, maxBytes } = this.#options;
    try {
      const count = (pragma: string): number => Number(this.#one(`PRAGMA ${pragma}`)?.[pragma]);
      const inFile = count('freelist_count') * count('page_size');
      let freeBytes = Infinity;
      if (maxBytes !== undefined) freeBytes = maxBytes - count('page_count') * count('page_size') + inFile;
      else {
        const { bavail, bsize } = statfsSync(dirname(path));
        freeBytes = bavail * bsize + inFile;
      }
      const reserve = Math.min(RESERVED_BYTES, (maxBytes ?? Infinity) / 4);
      return freeBytes < reserve ? `${path} has room for only ${Math.floor(freeBytes)} bytes more` : null;
    } catch {
      // Whoever writes next will know.
      return null;
    }
  }

  onLost(): void {}

  async close(): Promise<void> {
    this.#database?.close();
    this.#database = null;
  }

  #operations(where: string, ...values: SQLInputValue[]): OperationRow[] {
    return this.#all(`SELECT id, type, partition_id, "offset", detail FROM log_operations ${where}`, ...values).map(
      (row) => ({
        id: Number(row['id']),
        type: Number(row['type']) as OperationType,
        partitionId: Number(row['partition_id']),
        offset: Number(row['offset']),
        detail: String(row['detail']),
      }),
    );
  }

  async #reading<T>(work: () => T): Promise<T> {
    try {
      return work();
    } catch (error) {
      throw sqliteError(error, this.#options.path);
    }
  }

  async #writing(work: () => void): Promise<void> {
    const database = this.#database as DatabaseSync;
    try {
      database.exec('BEGIN IMMEDIATE');
      work();
      database.exec('COMMIT');
    } catch (error) {
      // Some errors have rolled back by themselves.
      if (database.isTransaction) database.exec('ROLLBACK');
      throw sqliteError(error, this.#options.path);
    }
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = (this.#database as DatabaseSync).prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #run(sql: string, ...values: SQLInputValue[]): { changes: number | bigint } {
    return this.#prepare(sql).run(...values);
  }

  #one(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return this.#prepare(sql).get(...values);
  }

  #all(sql: string, ...values: SQLInputValue[]): Row[] {
    return this.#prepare(sql).all(...values);
  }
}

function batchOf(row: Row): BatchRow {
  const isReplacement = Number(row['replacement']) === 1;
  return {
    id: Number(row['id']),
    partitionId: Number(row['partition_id']),
    baseOffset: Number(row['base_offset']),
    lastOffset: Number(row['last_offset']),
    maxTimestampMs: Number(row['max_timestamp']),
    isReplacement,
    records: row['records'] as Uint8Array,
  };
}

function placeOf(row: Row): BatchPlace {
  return {
    id: Number(row['id']),
    baseOffset: Number(row['base_offset']),
    lastOffset: Number(row['last_offset']),
    maxTimestampMs: Number(row['max_timestamp']),
    sizeBytes: Number(row['size']),
  };
}
