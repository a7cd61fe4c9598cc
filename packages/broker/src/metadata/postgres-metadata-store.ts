/**
 * Metadata in PostgreSQL, beside the log: every commit is a transaction that checks that this broker still owns the database.
 *
 * The owner is the only writer, so that watching is a matter of this process; everything else asks the database. Commits go
 * one after the other, each from the revision that the last one left. So one whose outcome is not known is found out: the
 * revision says whether it happened.
 */
import type { Timers } from '@naru/base';
import { delay, toError } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import type { PostgresQuery, PostgresRow } from '../postgres/postgres-connection.ts';
import type { Postgres } from '../postgres/postgres.ts';
import type { Commit } from './commit-history.ts';
import { CommitHistory } from './commit-history.ts';
import type {
  CommitResult,
  MetadataChange,
  MetadataCondition,
  MetadataEntry,
  MetadataSnapshot,
  MetadataStore,
  Revision,
} from './metadata-store.ts';

const RETRY_MS = 100;
/** Commits that wait for the one before them at most. */
const MAX_WAITING = 1_000;

export class PostgresMetadataStore implements MetadataStore {
  readonly #postgres: Postgres;
  readonly #timers: Timers;
  readonly #history: CommitHistory;
  readonly #abort = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  private constructor(postgres: Postgres, timers: Timers, revision: Revision) {
    this.#postgres = postgres;
    this.#timers = timers;
    this.#history = new CommitHistory(revision);
  }

  /** @param postgres started; the caller's, who closes it after this store */
  static async open(postgres: Postgres, timers: Timers): Promise<PostgresMetadataStore> {
    const revision = await postgres.reader.run((query) => readRevision(query, postgres.schema));
    return new PostgresMetadataStore(postgres, timers, revision);
  }

  async snapshot(): Promise<MetadataSnapshot> {
    this.#assertOpen();
    const s = this.#postgres.schema;
    // One statement, so that revision and entries belong together.
    const sql = `SELECT key, value, entry.revision, state.revision AS newest
      FROM ${s}.metadata_state AS state LEFT JOIN ${s}.metadata_entries AS entry ON true ORDER BY key COLLATE "C"`;
    const { rows } = await this.#postgres.reader.run((query) => query(sql));
    if (rows[0] === undefined) throw stateIsMissing(s);
    return { revision: Number(rows[0]['newest']), entries: rows.filter((row) => row['key'] !== null).map(entryOf) };
  }

  async get(key: string): Promise<MetadataEntry | undefined> {
    this.#assertOpen();
    const sql = `SELECT key, value, revision FROM ${this.#postgres.schema}.metadata_entries WHERE key = $1`;
    const { rows } = await this.#postgres.reader.run((query) => query(sql, [key]));
    return rows[0] === undefined ? undefined : entryOf(rows[0]);
  }

  async commit(conditions: readonly MetadataCondition[], changes: readonly MetadataChange[]): Promise<CommitResult> {
    this.#assertOpen();
    if (this.#waiting >= MAX_WAITING) throw new NaruError('OVERLOADED', 'too many changes of metadata are under way');
    // What cannot be written is refused before anything is.
    const rows = changes.map(rowOf);
    this.#waiting += 1;
    const result = this.#last.then(() => this.#commit(conditions, changes, rows));
    this.#last = result.catch(() => {});
    try {
      return await result;
    } finally {
      this.#waiting -= 1;
    }
  }

  async #commit(
    conditions: readonly MetadataCondition[],
    changes: readonly MetadataChange[],
    rows: readonly ChangeRow[],
  ): Promise<CommitResult> {
    const revision = this.#history.revision + 1;
    // In an outage that is known already, nobody waits.
    await this.#postgres.reader.run((query) => readRevision(query, this.#postgres.schema));
    const attempt = (): Promise<CommitResult> =>
      this.#postgres.write((query) => this.#write(query, conditions, rows, revision));
    const result = await this.#settled(attempt, revision);
    if (result.ok) this.#history.add({ revision, changes });
    return result;
  }

  async #write(
    query: PostgresQuery,
    conditions: readonly MetadataCondition[],
    rows: readonly ChangeRow[],
    revision: Revision,
  ): Promise<CommitResult> {
    const s = this.#postgres.schema;
    const moved = await query(`UPDATE ${s}.metadata_state SET revision = $1 WHERE revision = $2`, [
      revision,
      revision - 1,
    ]);
    if (moved.rowCount === 0) {
      // Tried before, with an answer that did not arrive; anything else would be another writer.
      if ((await readRevision(query, s)) === revision) return { ok: true, revision };
      throw this.#postgres.lose();
    }
    const held = await this.#heldConditions(query, conditions);
    if (held !== null) {
      await query(`UPDATE ${s}.metadata_state SET revision = $1`, [revision - 1]);
      return { ok: false, key: held };
    }
    for (const { key, value } of rows) {
      if (value === null) await query(`DELETE FROM ${s}.metadata_entries WHERE key = $1`, [key]);
      else {
        await query(
          `INSERT INTO ${s}.metadata_entries VALUES ($1, $2, $3)
           ON CONFLICT (key) DO UPDATE SET value = excluded.value, revision = excluded.revision`,
          [key, value, revision],
        );
      }
    }
    return { ok: true, revision };
  }

  /** The key of the first condition that does not hold; null when all do. */
  async #heldConditions(query: PostgresQuery, conditions: readonly MetadataCondition[]): Promise<string | null> {
    if (conditions.length === 0) return null;
    const sql = `SELECT key, revision FROM ${this.#postgres.schema}.metadata_entries WHERE key = ANY($1::text[])`;
    const { rows } = await query(sql, [conditions.map(({ key }) => key)]);
    const found = new Map(rows.map((row) => [row['key'], Number(row['revision'])]));
    return conditions.find(({ key, revision }) => (found.get(key) ?? 0) !== revision)?.key ?? null;
  }

  /** Until the outcome is known. */
  async #settled(attempt: () => Promise<CommitResult>, revision: Revision): Promise<CommitResult> {
    try {
      return await attempt();
    } catch (error) {
      if (!isNaruError(error, 'STORAGE_UNAVAILABLE')) throw error;
      for (;;) {
        try {
          const found = await this.#postgres.reader.run((query) => readRevision(query, this.#postgres.schema));
          if (found === revision) return { ok: true, revision };
          return await attempt();
        } catch (again) {
          if (!isNaruError(again, 'STORAGE_UNAVAILABLE')) throw again;
        }
        await delay(this.#timers, RETRY_MS, this.#abort.signal);
      }
    }
  }

  watch(afterRevision: Revision, signal: AbortSignal): AsyncIterable<Commit> {
    return this.#history.watch(afterRevision, signal);
  }

  /** A commit whose outcome is not known rejects. */
  async close(): Promise<void> {
    if (this.#abort.signal.aborted) return;
    this.#abort.abort(new NaruError('STORAGE_UNAVAILABLE', 'the broker closes while its database cannot be reached'));
    this.#history.close();
    await this.#last;
  }

  #assertOpen(): void {
    if (this.#abort.signal.aborted) throw new NaruError('STORAGE_ERROR', 'the metadata store is closed');
  }
}

interface ChangeRow {
  readonly key: string;
  /** JSON; null to delete. */
  readonly value: string | null;
}

/** @throws NaruError STORAGE_ERROR when the value is no JSON */
function rowOf(change: MetadataChange): ChangeRow {
  if ('deleted' in change) return { key: change.key, value: null };
  try {
    return { key: change.key, value: JSON.stringify(change.value) };
  } catch (error) {
    const message = `the metadata could not be written: ${toError(error).message}`;
    throw new NaruError('STORAGE_ERROR', message, { cause: error });
  }
}

async function readRevision(query: PostgresQuery, schema: string): Promise<Revision> {
  const { rows } = await query(`SELECT revision FROM ${schema}.metadata_state`);
  const row = rows[0];
  if (row === undefined) throw stateIsMissing(schema);
  return Number(row['revision']);
}

function stateIsMissing(schema: string): NaruError {
  return new NaruError('DATA_CORRUPT', `the table ${schema}.metadata_state is empty`);
}

function entryOf(row: PostgresRow): MetadataEntry {
  const value = JSON.parse(String(row['value'])) as unknown;
  return { key: String(row['key']), value, revision: Number(row['revision']) };
}
