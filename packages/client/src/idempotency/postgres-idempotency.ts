/**
 * PostgreSQL as store, in two forms:
 *
 * - {@link once} inside the user's own transaction. The event's id and what the handler writes are committed together or not at all,
 *   so that a side effect in that database happens once, whatever crashes when. This is the only form that excludes a repetition.
 * - {@link postgresIdempotency} as a subscriber's store: keeps two members from handling an event at the same time, and an event
 *   from being handled again after it was done.
 *
 * Needs no particular driver: anything with `query(text, values)` as `pg` has it.
 */
import { NaruError } from '@naru/protocol';
import type { ClaimResult, IdempotencyStore } from './idempotency-store.ts';

/** A pool or a client of `pg`, PGlite, or the like. */
export interface SqlClient {
  query(text: string, values?: unknown[]): Promise<{ readonly rows: unknown[] }>;
}

export const DEFAULT_IDEMPOTENCY_TABLE = 'naru_handled_events';

const DEFAULT_WINDOW_MS = 24 * 60 * 60 * 1_000;
/** Completions between two clean-ups. */
const CLEAN_EVERY = 1_000;

/**
 * What to put into a migration. Rows are small: about 100 bytes and the event's id.
 *
 * @param table may have a schema: `app.naru_handled_events`
 */
export function idempotencyTable(table: string = DEFAULT_IDEMPOTENCY_TABLE): string {
  const name = quoted(table);
  const index = quoted(`${table.split('.').at(-1)}_done_at`);
  return `CREATE TABLE IF NOT EXISTS ${name} (
  group_id text NOT NULL,
  event_id text NOT NULL,
  token uuid,
  lease_until timestamptz,
  done_at timestamptz,
  PRIMARY KEY (group_id, event_id)
);
CREATE INDEX IF NOT EXISTS ${index} ON ${name} (done_at) WHERE done_at IS NOT NULL;`;
}

export interface OnceOptions {
  /** Default {@link DEFAULT_IDEMPOTENCY_TABLE}. */
  readonly table?: string | undefined;
}

/**
 * Runs `work` unless this group has handled the event before. Call it within a transaction of your own, on that transaction's
 * client, and do every write there: what `work` throws has to roll the transaction back.
 *
 * A concurrent duplicate waits for this transaction's end, then finds that the event is done, or does it itself.
 *
 * @param event anything with an `id`, such as the event that a handler gets
 * @returns what `work` returned, or `duplicate`
 */
export async function once<T>(
  client: SqlClient,
  group: string,
  event: { readonly id: string },
  work: () => Promise<T> | T,
  options: OnceOptions = {},
): Promise<{ readonly duplicate: false; readonly result: T } | { readonly duplicate: true }> {
  const table = quoted(options.table ?? DEFAULT_IDEMPOTENCY_TABLE);
  const { rows } = await client.query(
    // A row without done_at is a claim of the subscriber's store in the same table, most often for this very call.
    `INSERT INTO ${table} AS held (group_id, event_id, done_at) VALUES ($1, $2, now())
     ON CONFLICT (group_id, event_id) DO UPDATE SET done_at = excluded.done_at WHERE held.done_at IS NULL
     RETURNING 1 AS inserted`,
    [group, event.id],
  );
  if (rows.length === 0) return { duplicate: true };
  return { duplicate: false, result: await work() };
}

export interface PostgresIdempotencyOptions {
  readonly pool: SqlClient;
  readonly table?: string | undefined;
  /** How long what was handled is remembered, milliseconds. Default: a day. */
  readonly windowMs?: number | undefined;
}

/** The table has to exist: {@link idempotencyTable}. Times are the database's. */
export function postgresIdempotency(options: PostgresIdempotencyOptions): IdempotencyStore {
  return new PostgresIdempotency(options);
}

class PostgresIdempotency implements IdempotencyStore {
  readonly #pool: SqlClient;
  readonly #table: string;
  readonly #windowMs: number;
  #completed = 0;

  constructor({ pool, table = DEFAULT_IDEMPOTENCY_TABLE, windowMs = DEFAULT_WINDOW_MS }: PostgresIdempotencyOptions) {
    this.#pool = pool;
    this.#table = quoted(table);
    this.#windowMs = windowMs;
  }

  async claim(group: string, id: string, leaseMs: number): Promise<ClaimResult> {
    const token = crypto.randomUUID();
    const claimed = await this.#pool.query(
      `INSERT INTO ${this.#table} AS held (group_id, event_id, token, lease_until)
       VALUES ($1, $2, $3, now() + $4 * interval '1 millisecond')
       ON CONFLICT (group_id, event_id) DO UPDATE
         SET token = excluded.token, lease_until = excluded.lease_until, done_at = NULL
         WHERE (held.done_at IS NULL AND held.lease_until < now())
            OR held.done_at < now() - $5 * interval '1 millisecond'
       RETURNING 1 AS claimed`,
      [group, id, token, leaseMs, this.#windowMs],
    );
    if (claimed.rows.length > 0) return { state: 'claimed', token };
    const { rows } = await this.#pool.query(
      `SELECT done_at IS NOT NULL AS done, (extract(epoch FROM lease_until) * 1000)::float8 AS until_ms
       FROM ${this.#table} WHERE group_id = $1 AND event_id = $2`,
      [group, id],
    );
    const row = rows[0] as { done: boolean; until_ms: number | null } | undefined;
    // Released in between: it may be claimed at once.
    if (row === undefined) return { state: 'busy', untilMs: 0 };
    return row.done ? { state: 'done' } : { state: 'busy', untilMs: Math.ceil(row.until_ms ?? 0) };
  }

  async complete(group: string, id: string, token: string): Promise<void> {
    await this.#pool.query(
      `UPDATE ${this.#table} SET done_at = now(), token = NULL, lease_until = NULL
       WHERE group_id = $1 AND event_id = $2 AND token = $3`,
      [group, id, token],
    );
    this.#completed += 1;
    if (this.#completed % CLEAN_EVERY === 0) await this.#clean();
  }

  async release(group: string, id: string, token: string): Promise<void> {
    await this.#pool.query(
      `DELETE FROM ${this.#table} WHERE group_id = $1 AND event_id = $2 AND token = $3 AND done_at IS NULL`,
      [group, id, token],
    );
  }

  async #clean(): Promise<void> {
    await this.#pool.query(
      `DELETE FROM ${this.#table} WHERE ctid IN (
         SELECT ctid FROM ${this.#table}
         WHERE coalesce(done_at, lease_until) < now() - $1 * interval '1 millisecond' LIMIT $2)`,
      [this.#windowMs, CLEAN_EVERY * 2],
    );
  }
}

function quoted(name: string): string {
  if (name === '' || name.includes('\0')) throw new NaruError('INVALID_REQUEST', 'expected the name of a table');
  return name
    .split('.')
    .map((part) => `"${part.replaceAll('"', '""')}"`)
    .join('.');
}
