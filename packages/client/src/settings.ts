/**
 * Settings of the SDK: their shape, their defaults and what each means. Reading files and the environment is
 * settings-file.ts's.
 *
 * Durations are milliseconds or text such as `500ms`, `5s`, `2m`; sizes are bytes or text such as `64KiB`.
 */
import { COMPRESSION_TYPES } from '@naru/protocol/batch';
import { byteSize, count, duration } from '@naru/protocol/settings-node';
import { z } from 'zod';

const backoff = (defaults: { initial: string; max: string }) =>
  z
    .strictObject({
      /** First wait. */
      initial: duration(1).prefault(defaults.initial),
      /** Each wait is this many times the one before. */
      factor: z.number().min(1).max(100).default(2),
      /** Longest wait. */
      max: duration(1).prefault(defaults.max),
      /** Share of the wait that is random, so that clients do not come back all at once. */
      jitter: z.number().min(0).max(1).default(0.2),
    })
    .prefault({})
    .transform((policy) => ({
      initialMs: policy.initial,
      factor: policy.factor,
      maxMs: policy.max,
      jitter: policy.jitter,
    }));

const publisher = z
  .strictObject({
    /**
     * How long a record waits for others before its batch is sent. Default 0: at once, while a partition's batch is
     * being stored the next one gathers, so that busy publishers batch and a quiet one never waits.
     */
    lingerMs: duration().prefault(0),
    /** Size of a batch, before compression. Larger ones cost less for each record. */
    batchBytes: byteSize(1024).prefault('256KiB'),
    /** Memory for records that are not acknowledged yet; beyond it `publish` waits and `enqueue` returns false. */
    bufferBytes: byteSize(1024).prefault('32MiB'),
    /** Calls of `publish` that may wait for memory; beyond it they reject with BUFFER_FULL. */
    maxWaiting: count(0, 1_000_000).default(10_000),
    /** Unacknowledged batches of a partition. The broker remembers the last five, so more could be stored twice. */
    maxInFlight: count(1, 5).default(5),
    /** Until a record is given up, all retries included. */
    deliveryTimeoutMs: duration(1).prefault('120s'),
    /** none, gzip, snappy, lz4 or zstd. */
    compression: z.enum(COMPRESSION_TYPES).default('none'),
    /** How old the known partition count of a topic may become. */
    metadataMaxAgeMs: duration(1).prefault('5m'),
    /** Whether events carry the headers of CloudEvents (Kafka binding, binary mode): id, type, source, time, content type. */
    cloudEvents: z.boolean().default(true),
    /** Waits between attempts. */
    retry: backoff({ initial: '50ms', max: '2s' }),
    transaction: z
      .strictObject({
        /**
         * Names the producers of transactions, a number behind it, over restarts: whoever starts with it aborts what a process that
         * is gone has left open, and fences it if it is not gone. So no two processes may have the same. Default: the client id
         * and something random, so that what is left open waits for its time-out.
         */
        id: z
          .string()
          .min(1)
          .max(200)
          .regex(/^[!-~]+$/, 'expected letters, digits and signs of ASCII')
          .nullable()
          .default(null),
        /** After which the broker aborts an open transaction; it allows at most 15 minutes. */
        timeoutMs: duration(1).prefault('60s'),
        /** Transactions open at a time; further ones wait. Each has `bufferBytes` of its own. */
        maxConcurrent: count(1, 1_000).default(8),
      })
      .prefault({}),
  })
  .prefault({});

const subscriber = z
  .strictObject({
    /** Events handled at a time; those of one key are always handled one after the other. */
    concurrency: count(1, 10_000).default(1),
    /** How long the broker may hold a poll open when there is nothing. */
    pollWaitMs: duration().prefault('5s'),
    /** Bytes of one answer to a poll. */
    pollBytes: byteSize(1024).prefault('1MiB'),
    /** Bytes of events fetched and not finished; no more is polled beyond it. */
    bufferBytes: byteSize(1024).prefault('16MiB'),
    /** Events taken up and not finished, also those that wait for an earlier one of their key. */
    maxPendingEvents: count(1, 1_000_000).default(10_000),
    /** Events that `handleBatch` and `poll` get at a time. */
    maxBatchEvents: count(1, 100_000).default(500),
    /** Whether what is finished is committed without being told to. */
    autoCommit: z.boolean().default(true),
    autoCommitIntervalMs: duration(10).prefault('1s'),
    /** Without a sign of life for this long, the member's partitions go to others. */
    sessionTimeoutMs: duration(1).prefault('45s'),
    /** Without progress for this long, the member's partitions go to others. */
    maxPollIntervalMs: duration(1).prefault('5m'),
    /** How long running handlers may take to finish when partitions are given up or the subscriber stops. */
    drainTimeoutMs: duration().prefault('30s'),
    retry: z
      .strictObject({
        /** Times a handler is called for an event before it becomes a dead letter. */
        attempts: z.union([count(1, 1_000_000), z.literal('unlimited')]).default(5),
        /** Waits between them; only the event's key waits. */
        backoff: backoff({ initial: '200ms', max: '30s' }),
        /**
         * Events kept in memory that wait for another attempt, or behind one that does. Beyond it the broker keeps them for the
         * group, so that memory and what is read again after a restart stay bounded.
         */
        maxWaitingEvents: count(1, 1_000_000).default(1_000),
      })
      .prefault({}),
    deadLetter: z
      .strictObject({
        /** Whether events that cannot be handled become dead letters of the group. Without, `run` stops with the error. */
        use: z.boolean().default(true),
      })
      .prefault({}),
    /** What happens to events whose type nobody handles: left out, or treated as failed for good. */
    unhandled: z.enum(['skip', 'fail']).default('skip'),
    /**
     * - `at-most-once`: committed before it is handled; what fails is not tried again.
     * - `at-least-once`: committed after it was handled.
     * - `exactly-once`: committed in one transaction with what its handler published; for parallel topics handled once by its id, for
     *   which idempotency is needed.
     */
    guarantee: z.enum(['at-most-once', 'at-least-once', 'exactly-once']).default('at-least-once'),
    idempotency: z
      .strictObject({
        /** Whether events are handled once by their id, which the broker remembers for the group. */
        use: z.boolean().default(false),
        /** How long an event is this member's alone once it is claimed; longer than a handler takes with all its attempts. */
        leaseMs: duration(1_000).prefault('5m'),
      })
      .prefault({}),
  })
  .prefault({});

export const settingsSchema = z.strictObject({
  /** `host:port` of brokers, tried in turn. */
  brokers: z
    .array(
      z
        .string()
        .regex(
          /^(https?:\/\/)?[^\s/:]+(:\d{1,5})?\/?$|^(https?:\/\/)?\[[0-9a-f:]+\](:\d{1,5})?\/?$/i,
          'expected host:port',
        ),
    )
    .min(1, 'expected at least one broker')
    .default(['localhost:9092']),
  /** Names this program in the broker's listings. */
  clientId: z.string().min(1).max(249).default('naru-client'),
  /** How long `connect` waits for a broker to answer; 0 returns at once and connects when needed. */
  connectTimeoutMs: duration().prefault('10s'),
  /** For calls with an answer, and for an acknowledgement before the connection counts as broken. */
  requestTimeoutMs: duration(1).prefault('30s'),
  /** Waits between attempts to connect. */
  reconnect: backoff({ initial: '50ms', max: '2s' }),
  /** The event catalog, by which is published and subscribed by event name. In a file: relative to that file. */
  catalog: z.string().min(1).nullable().default(null),
  /** Which of the `environments` of naru.yaml and of the catalog is laid over them. */
  environment: z.string().min(1).nullable().default(null),
  publisher,
  subscriber,
});

/** What a user writes, in naru.yaml or in code. Everything has a default. */
export type SettingsInput = z.input<typeof settingsSchema>;
/** Complete: durations in milliseconds, sizes in bytes. */
export type Settings = Readonly<z.output<typeof settingsSchema>>;
export type PublisherSettings = Settings['publisher'];
export type SubscriberSettings = Settings['subscriber'];
