/**
 * The log in PostgreSQL. A cycle is one statement where it can be: one way there and back for everything, and nothing half
 * done when the way breaks. Only cycles with a truncate or with compaction take a transaction of several.
 *
 * Each cycle says after which id it comes. So a cycle whose outcome is not known is simply committed again: the database
 * takes it once.
 */
import type { PartitionKey } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { PostgresQuery, PostgresRow } from '../../../postgres/postgres-connection.ts';
import type { Postgres } from '../../../postgres/postgres.ts';
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
} from '../log-database.ts';

const PLACE = 'id, base_offset, last_offset, max_timestamp, size';
const BATCH = 'id, partition_id, base_offset, last_offset, max_timestamp, replacement, records';
const LIVE = 'partition_id = $1 AND NOT dead AND last_offset >= $2 AND last_offset < $3';

/** Statements, with the schema's name in them. */
function statements(s: string): Record<'commit' | 'history' | 'read' | 'find', string> {
  return {
    // Records come as one value, which costs neither text nor an array; each row takes its part.
    commit: `
      WITH fenced AS (
        UPDATE ${s}.broker SET lease_until = clock_timestamp() + $2 * interval '1 ms' WHERE epoch = $1 RETURNING 1
      ), moved AS (
        UPDATE ${s}.log_state SET last_id = $4 WHERE last_id = $3 AND EXISTS (SELECT FROM fenced) RETURNING 1
      ), batches AS (
        INSERT INTO ${s}.log_batches
        SELECT id, partition_id, base_offset, last_offset, max_timestamp, size, false, replacement,
          substring($5::bytea FROM position FOR size)
        FROM unnest($6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::integer[],
          $12::boolean[], $13::integer[])
          AS batch (id, partition_id, base_offset, last_offset, max_timestamp, size, replacement, position)
        WHERE EXISTS (SELECT FROM moved)
      ), operations AS (
        INSERT INTO ${s}.log_operations
        SELECT * FROM unnest($14::bigint[], $15::integer[], $16::bigint[], $17::bigint[], $18::text[])
        WHERE EXISTS (SELECT FROM moved)
      )
      SELECT (SELECT count(*) FROM fenced) AS fenced, (SELECT count(*) FROM moved) AS moved`,
    history: `
      SELECT id, partition_id, base_offset, last_offset, max_timestamp, replacement,
        CASE WHEN replacement THEN ''::bytea ELSE records END AS records, total
      FROM (
        SELECT *, sum(CASE WHEN replacement THEN 0 ELSE size END) OVER (ORDER BY id) AS total,
          row_number() OVER (ORDER BY id) AS number
        FROM ${s}.log_batches WHERE id > $1 AND id <= $2
      ) AS page WHERE number = 1 OR total <= $3 ORDER BY id`,
    read: `
      SELECT ${BATCH} FROM (
        SELECT *, sum(size) OVER (ORDER BY last_offset) AS total, row_number() OVER (ORDER BY last_offset) AS number
        FROM (SELECT * FROM ${s}.log_batches WHERE ${LIVE} ORDER BY last_offset LIMIT $4) AS range
      ) AS page WHERE number = 1 OR total <= $5 ORDER BY last_offset`,
    find: `
      SELECT ${BATCH} FROM ${s}.log_batches WHERE ${LIVE} AND max_timestamp >= $4 ORDER BY last_offset LIMIT 1`,
  };
}

export class PostgresLogDatabase implements LogDatabase {
  readonly #postgres: Postgres;
  readonly #schema: string;
  readonly #sql: ReturnType<typeof statements>;

  readonly #closesPostgres: boolean;

  /** @param closesPostgres whether `postgres` is closed with the log; default: it is the caller's, who shares it */
  constructor(postgres: Postgres, closesPostgres = false) {
    this.#postgres = postgres;
    this.#closesPostgres = closesPostgres;
    this.#schema = postgres.schema;
    this.#sql = statements(postgres.schema);
  }

  async open(): Promise<OpenedLog> {
    const s = this.#schema;
    await this.#postgres.start();
    return this.#read(async (query) => {
      const state = await query(`SELECT last_id FROM ${s}.log_state`);
      const found = await query(`SELECT * FROM ${s}.log_snapshot`);
      const rows = await query(`SELECT id, key, state FROM ${s}.log_partitions ORDER BY id`);
      const partitions = rows.rows.map(({ id, key, state: json }) => {
        return { id: Number(id), key: key as PartitionKey, state: String(json) };
      });
      const last = state.rows[0];
      if (last === undefined) throw new NaruError('DATA_CORRUPT', `the table ${s}.log_state is empty`);
      const lastId = Number(last['last_id']);
      const row = found.rows[0];
      if (row === undefined) return { lastId, snapshotId: 0, snapshot: null, lastPartitionId: 0, partitions };
      const snapshot = { version: Number(row['version']), data: row['data'] as Uint8Array };
      const lastPartitionId = Number(row['last_partition_id']);
      return { lastId, snapshotId: Number(row['id']), snapshot, lastPartitionId, partitions };
    });
  }

  history(afterId: number, rows: number, bytes: number): Promise<HistoryPage> {
    return this.#read(async (query) => {
      const wanted = afterId + rows;
      const found = (await query(this.#sql.history, [afterId, wanted, bytes])).rows.map(batchOf);
      const from = `FROM ${this.#schema}.log_operations WHERE id > $1 AND id <= $2 ORDER BY id`;
      const operations = (await query(`SELECT * ${from}`, [afterId, wanted])).rows.map(operationOf);
      return cutAtHole(afterId, found, operations);
    });
  }

  async commit(cycle: Cycle): Promise<void> {
    const { truncates, replaced, previousId, lastId } = cycle;
    const postgres = this.#postgres;
    if (postgres.lost !== null) throw postgres.lost;
    const simple = truncates.length === 0 && replaced.length === 0;
    const work = async (query: PostgresQuery): Promise<PostgresRow | undefined> => {
      if (!simple) await this.#kill(query, cycle);
      const row = (await query(this.#sql.commit, this.#commitValues(cycle), 'naru_commit')).rows[0];
      if (!simple && (Number(row?.['fenced']) === 0 || Number(row?.['moved']) === 0)) throw new NotCommitted(row);
      return row;
    };
    const { writer } = postgres;
    const run = simple ? writer.run(work) : writer.transaction(work);
    const row = await run.catch((error: unknown) => {
      if (error instanceof NotCommitted) return error.row;
      throw error;
    });
    if (Number(row?.['fenced']) === 0) throw postgres.lose();
    postgres.renewed();
    if (Number(row?.['moved']) === 1) return;
    const state = await writer.run((query) => query(`SELECT last_id FROM ${this.#schema}.log_state`));
    const found = Number(state.rows[0]?.['last_id']);
    // The same cycle again, whose outcome was not known.
    if (found === lastId) return;
    throw new NaruError('STORAGE_ERROR', `the log in the database ends at row ${found}, not at row ${previousId}`);
  }

  async #kill(query: PostgresQuery, { truncates, replaced }: Cycle): Promise<void> {
    const update = `UPDATE ${this.#schema}.log_batches SET dead = true`;
    for (const { partitionId, endOffset } of truncates)
      await query(`${update} WHERE partition_id = $1 AND NOT dead AND last_offset >= $2`, [partitionId, endOffset]);
    if (replaced.length > 0) await query(`${update} WHERE id = ANY($1::bigint[])`, [replaced]);
  }

  #commitValues({ previousId, lastId, batches, operations }: Cycle): unknown[] {
    const positions: number[] = [];
    let position = 1;
    for (const { records } of batches) {
      positions.push(position);
      position += records.length;
    }
    return [
      this.#postgres.epoch,
      this.#postgres.leaseMs,
      previousId,
      lastId,
      Buffer.concat(batches.map(({ records }) => records)),
      batches.map(({ id }) => id),
      batches.map(({ partitionId }) => partitionId),
      batches.map(({ baseOffset }) => baseOffset),
      batches.map(({ lastOffset }) => lastOffset),
      batches.map(({ maxTimestampMs }) => maxTimestampMs),
      batches.map(({ records }) => records.length),
      batches.map(({ isReplacement }) => isReplacement),
      positions,
      operations.map(({ id }) => id),
      operations.map(({ type }) => type),
      operations.map(({ partitionId }) => partitionId),
      operations.map(({ offset }) => offset),
      operations.map(({ detail }) => detail),
    ];
  }

  read({ partitionId, from, below }: BatchRange, maxBytes: number, rows: number): Promise<BatchRow[]> {
    const values = [partitionId, from, below, rows, maxBytes];
    return this.#read(async (query) => (await query(this.#sql.read, values)).rows.map(batchOf));
  }

  findByTimestamp({ partitionId, from, below }: BatchRange, timestampMs: number): Promise<BatchRow | null> {
    return this.#read(async (query) => {
      const row = (await query(this.#sql.find, [partitionId, from, below, timestampMs])).rows[0];
      return row === undefined ? null : batchOf(row);
    });
  }

  places({ partitionId, from, below }: BatchRange, order: 'up' | 'down', rows: number): Promise<BatchPlace[]> {
    const direction = order === 'up' ? 'ASC' : 'DESC';
    const where = `WHERE ${LIVE} ORDER BY last_offset ${direction} LIMIT $4`;
    return this.#places(where, [partitionId, from, below, rows]);
  }

  measure({ partitionId, from, below }: BatchRange): Promise<number> {
    const sql = `SELECT coalesce(sum(size), 0) AS bytes FROM ${this.#schema}.log_batches WHERE ${LIVE}`;
    return this.#read(async (query) => Number((await query(sql, [partitionId, from, below])).rows[0]?.['bytes']));
  }

  checkpoint({ id, snapshot, lastPartitionId, partitions, removed }: Checkpoint): Promise<void> {
    const s = this.#schema;
    return this.#postgres.write(async (query) => {
      const values = [id, snapshot.version, snapshot.data, lastPartitionId];
      // Not deleted and inserted: one whose connection broke may be committing still, and its row would not be seen by the delete.
      await query(
        `INSERT INTO ${s}.log_snapshot VALUES (1, $1, $2, $3, $4) ON CONFLICT (only_row) DO UPDATE
         SET (id, version, data, last_partition_id) = (excluded.id, excluded.version, excluded.data, excluded.last_partition_id)`,
        values,
      );
      await query(
        `INSERT INTO ${s}.log_partitions SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[])
         ON CONFLICT (id) DO UPDATE SET state = excluded.state`,
        [partitions.map((row) => row.id), partitions.map(({ key }) => key), partitions.map(({ state }) => state)],
      );
      await query(`DELETE FROM ${s}.log_partitions WHERE id = ANY($1::bigint[])`, [removed]);
    });
  }

  deadBatches(throughId: number, rows: number): Promise<BatchPlace[]> {
    return this.#places('WHERE dead AND id <= $1 LIMIT $2', [throughId, rows]);
  }

  batchesToErase({ partitionId, from, below }: BatchRange, throughId: number, rows: number): Promise<BatchPlace[]> {
    const where = `WHERE ${LIVE} AND id <= $4 ORDER BY last_offset LIMIT $5`;
    return this.#places(where, [partitionId, from, below, throughId, rows]);
  }

  oldOperations(throughId: number, rows: number): Promise<OperationRow[]> {
    const sql = `SELECT * FROM ${this.#schema}.log_operations WHERE id <= $1 ORDER BY id LIMIT $2`;
    return this.#read(async (query) => (await query(sql, [throughId, rows])).rows.map(operationOf));
  }

  eraseBatches(ids: readonly number[]): Promise<void> {
    return this.#erase('log_batches', ids);
  }

  eraseOperations(ids: readonly number[]): Promise<void> {
    return this.#erase('log_operations', ids);
  }

  spaceReason(): null {
    return null;
  }

  onLost(lost: (error: Error) => void): void {
    this.#postgres.onLost(lost);
  }

  async close(): Promise<void> {
    if (this.#closesPostgres) await this.#postgres.close();
  }

  #read<T>(work: (query: PostgresQuery) => Promise<T>): Promise<T> {
    return this.#postgres.reader.run(work);
  }

  #places(where: string, values: readonly unknown[]): Promise<BatchPlace[]> {
    const sql = `SELECT ${PLACE} FROM ${this.#schema}.log_batches ${where}`;
    return this.#read(async (query) => (await query(sql, values)).rows.map(placeOf));
  }

  #erase(table: string, ids: readonly number[]): Promise<void> {
    const sql = `DELETE FROM ${this.#schema}.${table} WHERE id = ANY($1::bigint[])`;
    return this.#postgres.write(async (query) => void (await query(sql, [ids])));
  }
}

/** Rolls a transaction back whose cycle was not taken. */
class NotCommitted extends Error {
  readonly row: PostgresRow | undefined;

  constructor(row: PostgresRow | undefined) {
    super('the cycle was not taken');
    this.row = row;
  }
}

/** What is complete from `afterId` on. A page that bytes have cut short ends where batches are missing; so does a hole. */
function cutAtHole(afterId: number, batches: readonly BatchRow[], operations: readonly OperationRow[]): HistoryPage {
  let throughId = afterId;
  let batch = 0;
  let operation = 0;
  for (;;) {
    if (batches[batch]?.id === throughId + 1) batch += 1;
    else if (operations[operation]?.id === throughId + 1) operation += 1;
    else break;
    throughId += 1;
  }
  return { throughId, batches: batches.slice(0, batch), operations: operations.slice(0, operation) };
}

function batchOf(row: PostgresRow): BatchRow {
  return {
    id: Number(row['id']),
    partitionId: Number(row['partition_id']),
    baseOffset: Number(row['base_offset']),
    lastOffset: Number(row['last_offset']),
    maxTimestampMs: Number(row['max_timestamp']),
    isReplacement: row['replacement'] === true,
    records: row['records'] as Uint8Array,
  };
}

function placeOf(row: PostgresRow): BatchPlace {
  return {
    id: Number(row['id']),
    baseOffset: Number(row['base_offset']),
    lastOffset: Number(row['last_offset']),
    maxTimestampMs: Number(row['max_timestamp']),
    sizeBytes: Number(row['size']),
  };
}

function operationOf(row: PostgresRow): OperationRow {
  return {
    id: Number(row['id']),
    type: Number(row['type']) as OperationType,
    partitionId: Number(row['partition_id']),
    offset: Number(row['offset']),
    detail: String(row['detail']),
  };
}
