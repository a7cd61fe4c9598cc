/**
 * One connection to the database, which comes back: work runs on it alone, one after the other, in the order of the calls.
 *
 * Owns connecting, time-outs and the queue. A connection that breaks or stalls is thrown away; the work that was under way
 * rejects with STORAGE_UNAVAILABLE, and the next connects anew. When that fails, everything that waits rejects too, so that
 * nobody waits behind attempts that cannot work.
 */
import { Socket } from 'node:net';
import type { Timers } from '@naru/base';
import { toError } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { Client } from 'pg';
import { postgresError, sqlState } from './postgres-errors.ts';
import type { CompletePostgresSettings } from './postgres-settings.ts';

/** Work that waits for a connection at most. */
const MAX_WAITING = 10_000;
const READ_ONLY = '25006';

export type PostgresRow = Readonly<Record<string, unknown>>;

export interface PostgresResult {
  readonly rows: readonly PostgresRow[];
  /** Rows that the statement changed or returned. */
  readonly rowCount: number;
}

/** @param prepareAs a name under which the connection keeps the statement, so that it is planned once, whatever tables hold */
export type PostgresQuery = (sql: string, values?: readonly unknown[], prepareAs?: string) => Promise<PostgresResult>;

interface Work {
  readonly run: (query: PostgresQuery) => Promise<void>;
  readonly reject: (error: Error) => void;
}

let lastLinkNumber = 0;

interface Link {
  readonly client: Client;
  readonly socket: Socket;
  /** Part of the names of its statements: a pooler may give several links one session. */
  readonly number: number;
  /** Why it is not usable any more. */
  broken: Error | null;
}

export class PostgresConnection {
  readonly #settings: CompletePostgresSettings;
  readonly #timers: Timers;
  #queue: Work[] = [];
  #running = false;
  #link: Link | null = null;
  #closed = false;

  constructor(settings: CompletePostgresSettings, timers: Timers) {
    this.#settings = settings;
    this.#timers = timers;
  }

  /** What waits and what runs. */
  get load(): number {
    return this.#queue.length + (this.#running ? 1 : 0);
  }

  /** Runs `work` alone on the connection. It must not use `query` after it has settled. */
  run<T>(work: (query: PostgresQuery) => Promise<T>): Promise<T> {
    if (this.#closed) return Promise.reject(new NaruError('STORAGE_ERROR', 'the connection to the database is closed'));
    if (this.#queue.length >= MAX_WAITING) {
      return Promise.reject(new NaruError('STORAGE_UNAVAILABLE', 'too much waits for the database'));
    }
    return new Promise((resolve, reject) => {
      this.#queue.push({ run: (query) => work(query).then(resolve), reject });
      if (!this.#running) void this.#work();
    });
  }

  /** The same in a transaction, which is rolled back when `work` rejects. After STORAGE_UNAVAILABLE its outcome is unknown. */
  transaction<T>(work: (query: PostgresQuery) => Promise<T>): Promise<T> {
    return this.run(async (query) => {
      await query('BEGIN');
      let result: T;
      try {
        result = await work(query);
      } catch (error) {
        // A connection that is broken has no transaction any more.
        await query('ROLLBACK').catch(() => {});
        throw error;
      }
      await query('COMMIT');
      return result;
    });
  }

  /** What waits is rejected, what runs is cut off. */
  async close(): Promise<void> {
    this.#closed = true;
    const link = this.#link;
    this.#link = null;
    const error = new NaruError('STORAGE_ERROR', 'the connection to the database is closed');
    for (const { reject } of this.#queue.splice(0)) reject(error);
    if (link === null) return;
    if (this.#running || link.broken !== null) this.#discard(link, error);
    else {
      // Says goodbye, for which a dead connection is not waited.
      const deadline = this.#timers.after(this.#settings.statementTimeoutMs, () => link.socket.destroy());
      await link.client.end().catch(() => {});
      deadline.cancel();
    }
  }

  async #work(): Promise<void> {
    this.#running = true;
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      let link: Link;
      try {
        link = await this.#connected();
      } catch (error) {
        const failure = postgresError(error, this.#settings.target);
        for (const { reject } of [next, ...this.#queue.splice(0)]) reject(failure);
        break;
      }
      try {
        await next.run((sql, values, prepareAs) => this.#query(link, sql, values, prepareAs));
      } catch (error) {
        next.reject(toError(error));
      }
    }
    this.#running = false;
  }

  async #connected(): Promise<Link> {
    if (this.#link !== null && this.#link.broken === null) return this.#link;
    const { url, connectTimeoutMs } = this.#settings;
    const socket = new Socket();
    const client = new Client({
      connectionString: url,
      stream: () => socket,
      keepAlive: true,
      application_name: 'naru',
    });
    const link: Link = { client, socket, number: lastLinkNumber++, broken: null };
    this.#link = link;
    client.on('error', (error) => this.#discard(link, error));
    client.on('end', () => this.#discard(link, new Error('the connection has ended')));
    const stalled = new Error(`no connection within ${connectTimeoutMs} ms`);
    const deadline = this.#timers.after(connectTimeoutMs, () => this.#discard(link, stalled));
    try {
      await client.connect();
      await client.query(this.#preparation());
    } catch (error) {
      const cause = link.broken ?? error;
      this.#discard(link, error as Error);
      throw cause;
    } finally {
      deadline.cancel();
    }
    if (this.#closed) this.#discard(link, new Error('closed meanwhile'));
    if (link.broken !== null) throw link.broken;
    return link;
  }

  /** Whatever the server's or the role's defaults are: what is committed is durable, and nothing is waited for without end. */
  #preparation(): string {
    const { statementTimeoutMs, leaseMs } = this.#settings;
    return [
      'SET synchronous_commit = on',
      'SET bytea_output = hex',
      `SET statement_timeout = ${statementTimeoutMs}`,
      // A transaction whose broker has stalled must not keep the next owner waiting.
      `SET idle_in_transaction_session_timeout = ${leaseMs}`,
    ].join(';');
  }

  async #query(link: Link, sql: string, values: readonly unknown[] = [], prepareAs?: string): Promise<PostgresResult> {
    if (link.broken !== null) throw postgresError(link.broken, this.#settings.target);
    const { statementTimeoutMs } = this.#settings;
    // The server's own time-out comes first when there is a way to hear of it.
    const patienceMs = statementTimeoutMs * 1.2;
    const deadline = this.#timers.after(patienceMs, () => {
      this.#discard(link, new Error(`no answer within ${patienceMs} ms`));
    });
    try {
      const name = prepareAs === undefined ? undefined : `${prepareAs}_${link.number}`;
      const { rows, rowCount } = await link.client.query<PostgresRow>({ text: sql, values: [...values], name });
      return { rows, rowCount: rowCount ?? 0 };
    } catch (error) {
      // A standby: the next connection may lead to the server that took its place.
      if (sqlState(error) === READ_ONLY) this.#discard(link, error as Error);
      throw postgresError(link.broken ?? error, this.#settings.target);
    } finally {
      deadline.cancel();
    }
  }

  #discard(link: Link, error: Error): void {
    link.broken ??= error;
    if (this.#link === link) this.#link = null;
    link.socket.destroy();
  }
}
