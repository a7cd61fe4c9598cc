/**
 * The database of a broker: its connections, its tables, and that no other broker writes to it.
 *
 * Ownership is a row with an epoch and a lease, by the database's clock. Whoever takes it over raises the epoch; every
 * transaction that writes checks it, in the database, so that an owner that has stalled and does not know writes nothing. It is
 * *lost* then, for good: only a start gets it again. A lease that has run out while nobody took over is simply renewed.
 */
import type { Clock, Logger, Random, TimerHandle, Timers } from '@naru/base';
import { delay, randomUuidBytes, topicIdFromBytes } from '@naru/base';
import { isNaruError, NaruError } from '@naru/protocol';
import { postgresStartError } from './postgres-errors.ts';
import type { PostgresQuery } from './postgres-connection.ts';
import { PostgresConnection } from './postgres-connection.ts';
import { preparePostgresSchema, quoteName } from './postgres-schema.ts';
import type { CompletePostgresSettings, PostgresSettings } from './postgres-settings.ts';
import { completePostgresSettings } from './postgres-settings.ts';

export interface PostgresOptions {
  readonly settings: PostgresSettings;
  /** Who owns the database, for those who are refused: host name and process, say. */
  readonly ownerName: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  readonly logger: Logger;
}

/** Heartbeats within a lease. */
const BEATS = 3;
const START_RETRY_MS = 500;
/** A lease is over a little after it says. */
const LEASE_MARGIN_MS = 20;

export class Postgres {
  /** Quoted. */
  readonly schema: string;
  /** Where the database is, to be shown. */
  readonly target: string;
  /** For the log's transactions, one after the other. */
  readonly writer: PostgresConnection;
  readonly #readers: readonly PostgresConnection[];
  readonly #settings: CompletePostgresSettings;
  readonly #options: PostgresOptions;
  readonly #token: string;
  #starting: Promise<void> | null = null;
  #epoch = 0;
  #lost: NaruError | null = null;
  readonly #onLost: ((error: NaruError) => void)[] = [];
  #beat: TimerHandle | null = null;
  #renewedAtMs = -Infinity;
  #closed = false;

  /** Nothing happens before {@link start}. @throws NaruError INVALID_CONFIGURATION, without the URL */
  constructor(options: PostgresOptions) {
    const settings = completePostgresSettings(options.settings);
    this.#options = options;
    this.#settings = settings;
    this.schema = quoteName(settings.schema);
    this.target = settings.target;
    this.writer = new PostgresConnection(settings, options.timers);
    const others = Array.from({ length: settings.connections - 1 }, () => {
      return new PostgresConnection(settings, options.timers);
    });
    this.#readers = others.length > 0 ? others : [this.writer];
    this.#token = topicIdFromBytes(randomUuidBytes(options.random));
  }

  /**
   * Connects, creates the tables where there are none, and becomes the owner; waits for another's lease to run out. Once,
   * however often it is called.
   *
   * @throws NaruError INVALID_CONFIGURATION, STORAGE_UNAVAILABLE, DATA_DIRECTORY_VERSION, DATA_DIRECTORY_IN_USE
   */
  start(): Promise<void> {
    this.#starting ??= this.#start().catch(async (error: unknown) => {
      this.#closed = true;
      await this.#disconnect();
      throw postgresStartError(error, this.target);
    });
    return this.#starting;
  }

  /** Why this broker owns the database no more; null while it does. */
  get lost(): NaruError | null {
    return this.#lost;
  }

  /** The owner's epoch: every transaction that writes checks it. */
  get epoch(): number {
    return this.#epoch;
  }

  get leaseMs(): number {
    return this.#settings.leaseMs;
  }

  /** For everything but the log's transactions: the connection with the least to do. */
  get reader(): PostgresConnection {
    return this.#readers.reduce((best, next) => (next.load < best.load ? next : best));
  }

  /** Called once when another broker took over. */
  onLost(listener: (error: NaruError) => void): void {
    if (this.#lost !== null) listener(this.#lost);
    else this.#onLost.push(listener);
  }

  /**
   * A transaction that commits only if this broker is still the owner. After STORAGE_UNAVAILABLE its outcome is unknown.
   *
   * @throws NaruError as postgres-errors.ts; STORAGE_ERROR when another broker took over
   */
  write<T>(work: (query: PostgresQuery) => Promise<T>): Promise<T> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    return this.reader.transaction(async (query) => {
      const result = await work(query);
      // Last, so that the row is not locked for longer than it has to be.
      await this.fence(query);
      return result;
    });
  }

  /** Renews the lease in the transaction of `query`. @throws NaruError STORAGE_ERROR when another broker took over */
  async fence(query: PostgresQuery): Promise<void> {
    const sql = `UPDATE ${this.schema}.broker SET lease_until = clock_timestamp() + $2 * interval '1 ms' WHERE epoch = $1`;
    const { rowCount } = await query(sql, [this.#epoch, this.leaseMs]);
    if (rowCount === 0) throw this.lose();
    this.renewed();
  }

  /** A transaction of the caller's renewed the lease. */
  renewed(): void {
    this.#renewedAtMs = this.#options.clock.monotonicMs();
  }

  /** A transaction of the caller's found another epoch. */
  lose(): NaruError {
    if (this.#lost === null) {
      this.#lost = new NaruError('STORAGE_ERROR', `another broker took over the database ${this.target}`);
      this.#options.logger.error({ target: this.target, epoch: this.#epoch }, 'another broker took over the database');
      this.#beat?.cancel();
      for (const listener of this.#onLost.splice(0)) listener(this.#lost);
    }
    return this.#lost;
  }

  /** Gives ownership up, so that the next broker need not wait, and disconnects. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#beat?.cancel();
    if (this.#lost === null && this.#epoch > 0) {
      const sql = `UPDATE ${this.schema}.broker SET lease_until = '-infinity' WHERE epoch = $1`;
      await this.writer
        .run((query) => query(sql, [this.#epoch]))
        .catch((error: unknown) => {
          this.#options.logger.warn(
            { error },
            'the lease on the database could not be given up; it runs out by itself',
          );
        });
    }
    await this.#disconnect();
  }

  async #disconnect(): Promise<void> {
    await Promise.all([this.writer, ...this.#readers].map((connection) => connection.close()));
  }

  async #start(): Promise<void> {
    const { clock, timers, logger } = this.#options;
    const untilMs = clock.monotonicMs() + this.#settings.startTimeoutMs;
    for (;;) {
      try {
        await this.writer.transaction((query) => preparePostgresSchema(query, this.#settings.schema));
        await this.#claim();
        break;
      } catch (error) {
        const failure = postgresStartError(error, this.target);
        if (!isNaruError(failure, 'STORAGE_UNAVAILABLE') || clock.monotonicMs() >= untilMs) throw failure;
        logger.warn({ reason: failure.message }, 'waiting for the database');
        await delay(timers, START_RETRY_MS);
      }
    }
    const { rows } = await this.writer.run((query) => query('SHOW fsync'));
    if (rows[0]?.['fsync'] === 'off') {
      logger.warn(
        { target: this.target },
        'the database runs with fsync off: what is acknowledged can be lost with its machine',
      );
    }
    this.#scheduleBeat();
  }

  async #claim(): Promise<void> {
    const { timers, logger } = this.#options;
    let waitedFor: string | null = null;
    for (;;) {
      const seen = await this.#look();
      // An earlier attempt, whose answer was lost, may have worked.
      if (seen.token !== this.#token && seen.leftMs > 0) {
        const { owner, leftMs } = seen;
        const lease = `${seen.epoch} ${seen.leaseUntil}`;
        if (waitedFor !== null && waitedFor !== lease) throw inUse(this.target, owner);
        waitedFor = lease;
        logger.info({ target: this.target, owner, leftMs }, 'another broker owns the database: waiting for its lease');
        await delay(timers, leftMs + LEASE_MARGIN_MS);
        continue;
      }
      const sql = `UPDATE ${this.schema}.broker
        SET epoch = epoch + 1, owner = $2, token = $3, lease_until = clock_timestamp() + $4 * interval '1 ms'
        WHERE epoch = $1 AND (lease_until <= clock_timestamp() OR token = $3) RETURNING epoch`;
      const values = [seen.epoch, this.#options.ownerName, this.#token, this.leaseMs];
      const { rows } = await this.writer.run((query) => query(sql, values));
      if (rows[0] !== undefined) {
        this.#epoch = Number(rows[0]['epoch']);
        this.renewed();
        return;
      }
      // Somebody was faster; the next look says who.
      waitedFor ??= '';
    }
  }

  async #look(): Promise<{ epoch: number; owner: string; token: string; leaseUntil: string; leftMs: number }> {
    const sql = `SELECT epoch, owner, token, lease_until::text AS lease_until,
      CASE WHEN lease_until = '-infinity' THEN 0
      ELSE ceil(extract(epoch FROM lease_until - clock_timestamp()) * 1000) END AS left_ms FROM ${this.schema}.broker`;
    const { rows } = await this.writer.run((query) => query(sql));
    const row = rows[0];
    if (row === undefined) throw new NaruError('DATA_CORRUPT', `the table ${this.schema}.broker is empty`);
    return {
      epoch: Number(row['epoch']),
      owner: String(row['owner']),
      token: String(row['token']),
      leaseUntil: String(row['lease_until']),
      leftMs: Number(row['left_ms']),
    };
  }

  #scheduleBeat(): void {
    if (this.#closed || this.#lost !== null) return;
    this.#beat = this.#options.timers.after(this.leaseMs / BEATS, () => void this.#renew());
  }

  async #renew(): Promise<void> {
    const { clock, logger } = this.#options;
    if (clock.monotonicMs() - this.#renewedAtMs >= this.leaseMs / BEATS / 2) {
      // An outage is everybody's to notice; the next beat connects again.
      await this.writer
        .run((query) => this.fence(query))
        .catch((error: unknown) => {
          if (!this.#closed) logger.debug({ error }, 'the lease on the database was not renewed');
        });
    }
    this.#scheduleBeat();
  }
}

function inUse(target: string, owner: string): NaruError {
  const message = `the database ${target} is in use by the broker ${owner}: stop it, or give this one another schema`;
  return new NaruError('DATA_DIRECTORY_IN_USE', message);
}
