/**
 * Verifies the log in an SQLite database that nobody else uses: its version, that history has no hole, and every batch.
 *
 * The database is read row by row; SQLite's own check of the file is the caller's.
 */
import type { DatabaseSync } from 'node:sqlite';
import { scheduler } from 'node:timers/promises';
import type { PartitionKey } from '@naru/base';
import { toError } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import type { VerifyContext } from '../../verify-context.ts';
import { finding, offsetRange } from '../../finding.ts';
import type { Snapshot, StoredBatch } from '../../log-store.ts';
import type { CreateDetail } from '../operation.ts';
import { OPERATION } from '../log-database.ts';
import { DatabasePartition } from '../partition-state.ts';
import { batchDamage } from '../stored-batch.ts';
import { checkSchemaVersion } from './sqlite-schema.ts';

const RESTORE = 'Restore the database from a backup, with the broker stopped; keep a copy of this one';
const SERVED = `The broker serves everything else and answers DATA_CORRUPT for these. ${RESTORE}`;

export interface VerifiedSqliteLog {
  readonly snapshot: Snapshot | null;
  /** Where partitions ended at the snapshot. */
  readonly snapshotEnds: ReadonlyMap<PartitionKey, number>;
  /** Those there are now; null when that cannot be told. */
  readonly partitions: ReadonlySet<PartitionKey> | null;
}

/** SQLite blocks the thread: signals get a turn after so many bytes. */
const YIELD_BYTES = 4 * 1024 * 1024;

type Row = Record<string, unknown>;

/** @param path of the database, for findings. @throws NaruError ABORTED */
export async function verifySqliteLog(
  context: VerifyContext,
  path: string,
  database: DatabaseSync,
): Promise<VerifiedSqliteLog> {
  const verifier = new Verifier(context, path, database);
  const report = (cause: string): void => context.report(finding('problem', path, cause, RESTORE));
  try {
    if (!checkSchemaVersion(database, path)) {
      report('there is no log in it');
      return { snapshot: null, snapshotEnds: new Map(), partitions: null };
    }
    return await verifier.run();
  } catch (error) {
    if (isNaruError(error, 'ABORTED')) throw error;
    report(`the log in it cannot be read: ${toError(error).message}`);
    return { snapshot: null, snapshotEnds: new Map(), partitions: null };
  }
}

class Verifier {
  readonly #context: VerifyContext;
  readonly #path: string;
  readonly #database: DatabaseSync;
  /** By the id that rows have. */
  readonly #keys = new Map<number, PartitionKey>();
  readonly #live = new Set<PartitionKey>();
  readonly #snapshotEnds = new Map<PartitionKey, number>();
  #snapshotId = 0;

  constructor(context: VerifyContext, path: string, database: DatabaseSync) {
    this.#context = context;
    this.#path = path;
    this.#database = database;
  }

  async run(): Promise<VerifiedSqliteLog> {
    const row = this.#one('SELECT id, version, data FROM log_snapshot');
    const snapshot: Snapshot | null =
      row === undefined ? null : { version: Number(row['version']), data: row['data'] as Uint8Array };
    this.#snapshotId = Number(row?.['id'] ?? 0);
    this.#context.totalBytes = Number(this.#one('SELECT coalesce(sum(size), 0) AS bytes FROM log_batches')?.['bytes']);
    this.#readPartitions();
    this.#readHistory();
    await this.#verifyBatches();
    this.#verifyOrder();
    this.#context.counts.partitions += this.#live.size;
    return { snapshot, snapshotEnds: this.#snapshotEnds, partitions: this.#live };
  }

  #readPartitions(): void {
    for (const row of this.#each('SELECT id, key, state FROM log_partitions')) {
      const key = row['key'] as PartitionKey;
      this.#keys.set(Number(row['id']), key);
      this.#live.add(key);
      try {
        const partition = DatabasePartition.restore(Number(row['id']), key, String(row['state']));
        this.#snapshotEnds.set(key, partition.endOffset);
      } catch (error) {
        const cause = `the partition's state cannot be read: ${toError(error).message}`;
        this.#context.report(finding('problem', this.#path, cause, RESTORE, { partition: key }));
      }
    }
  }

  /** What was created and deleted since, and whether all of history is there. */
  #readHistory(): void {
    const from = this.#snapshotId;
    for (const row of this.#each(
      'SELECT type, partition_id, detail FROM log_operations WHERE id > ? ORDER BY id',
      from,
    )) {
      const id = Number(row['partition_id']);
      if (row['type'] === OPERATION.create) {
        const { key } = JSON.parse(String(row['detail'])) as CreateDetail;
        this.#keys.set(id, key);
        this.#live.add(key);
      } else if (row['type'] === OPERATION.delete) this.#live.delete(this.#keys.get(id) as PartitionKey);
    }
    const lastId = Number(this.#one('SELECT last_id FROM log_state')?.['last_id']);
    let missing = lastId - from;
    for (const table of ['log_batches', 'log_operations'])
      missing -= Number(this.#one(`SELECT count(*) AS rows FROM ${table} WHERE id > ?`, from)?.['rows']);
    if (missing === 0) return;
    const cause = `history from row ${from + 1} to ${lastId} ${missing > 0 ? `lacks ${missing}` : `has ${-missing} too many`} rows`;
    this.#context.report(finding('problem', this.#path, cause, `A broker refuses to start. ${RESTORE}`));
  }

  /** All that somebody will read: those that are live, and history, whatever became of it. */
  async #verifyBatches(): Promise<void> {
    let bytes = 0;
    const sql = 'SELECT * FROM log_batches WHERE dead = 0 OR (id > ? AND replacement = 0) ORDER BY id';
    for (const row of this.#each(sql, this.#snapshotId)) {
      const batch: StoredBatch = {
        baseOffset: Number(row['base_offset']),
        lastOffset: Number(row['last_offset']),
        maxTimestampMs: Number(row['max_timestamp']),
        records: row['records'] as Uint8Array,
      };
      this.#context.counts.batches += 1;
      this.#verifyBatch(batch, row);
      this.#context.advance(batch.records.length);
      bytes += batch.records.length;
      if (bytes < YIELD_BYTES) continue;
      bytes = 0;
      await scheduler.yield();
    }
  }

  #verifyBatch(batch: StoredBatch, row: Row): void {
    const { baseOffset, lastOffset, records } = batch;
    const partition = this.#keys.get(Number(row['partition_id'])) ?? null;
    const offsets = offsetRange(baseOffset, lastOffset + 1);
    const report = (cause: string, advice: string): void =>
      this.#context.report(
        finding('problem', this.#path, `row ${Number(row['id'])}: ${cause}`, advice, { partition, offsets }),
      );
    if (partition === null) {
      // Of a partition that was deleted, and not swept yet.
      if (Number(row['id']) > this.#snapshotId) report('its partition is unknown', RESTORE);
      return;
    }
    const damage = batchDamage(partition, batch);
    if (damage !== null) return report(damage.message, SERVED);
    if (records.length !== Number(row['size']))
      report(`it has ${records.length} bytes, not ${Number(row['size'])}`, RESTORE);
    if (this.#context.decode === undefined) return;
    try {
      this.#context.counts.records += this.#context.decode(records);
    } catch (error) {
      if (!isNaruError(error)) throw error;
      const advice = 'It was stored as it was sent: subscribers fail at it. Find out which publisher sent it';
      report(`the batch matches its checksum, but its records cannot be decoded: ${error.message}`, advice);
    }
  }

  /** Live batches of a partition do not overlap. */
  #verifyOrder(): void {
    let partitionId = -1;
    let nextOffset = 0;
    const sql =
      'SELECT partition_id, base_offset, last_offset FROM log_batches WHERE dead = 0 ORDER BY partition_id, last_offset';
    for (const row of this.#each(sql)) {
      const base = Number(row['base_offset']);
      if (Number(row['partition_id']) !== partitionId) nextOffset = 0;
      partitionId = Number(row['partition_id']);
      const partition = this.#keys.get(partitionId) ?? null;
      if (base < nextOffset && partition !== null) {
        const cause = `a batch begins at offset ${base}, although one before it ends at ${nextOffset - 1}`;
        this.#context.report(finding('problem', this.#path, cause, RESTORE, { partition }));
      }
      nextOffset = Number(row['last_offset']) + 1;
    }
  }

  #one(sql: string, ...values: number[]): Row | undefined {
    return this.#database.prepare(sql).get(...values);
  }

  #each(sql: string, ...values: number[]): Iterable<Row> {
    return this.#database.prepare(sql).iterate(...values);
  }
}
