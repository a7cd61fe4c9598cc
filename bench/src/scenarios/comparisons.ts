/** What stands beside what. */
import type { Measurement } from '../measurement.ts';
import type { Comparison } from '../scenario.ts';
import { connectDown, connectRelay, connectRelayLatency, connectUp } from './bare-connect.ts';
import { doubleWrite, dsyncWrite } from './bare-disk.ts';
import { http2Down, http2Up } from './bare-http2.ts';
import { consumeHandler, consumePoll } from './consume.ts';
import { endToEndLatency, endToEndThroughput } from './end-to-end.ts';
import { publishIdempotent, publishPlain } from './idempotence.ts';
import { awaitedPublish } from './publish-latency.ts';
import { ledgerOff, ledgerOn } from './ledger.ts';
import { emptyStart, recoveries } from './recovery.ts';
import { drainOrdered, drainParallel } from './parallel.ts';
import { publishFile, publishMemory } from './publish.ts';
import { serializations } from './serialization.ts';
import { publishInGroups, publishInTransactions } from './transactions.ts';

/** Of the bare connect stream. */
const PUBLISH_SHARE = 0.5;
/** Of the ordered topic. */
const PARALLEL_SHARE = 0.5;
/** Of the same without a ledger. */
const LEDGER_SHARE = 0.97;
/** Of the same batches without producer ids. */
const IDEMPOTENT_SHARE = 0.95;
/** Of the same events without transactions. */
const TRANSACTION_SHARE = 0.9;
/** Until a broker serves again, whatever it has stored. */
const RECOVERY_MS = 2_000;
/** Times the bare write, plus milliseconds. */
const AWAITED_FACTOR = 2;
const AWAITED_MORE_MS = 1;

export const comparisons: readonly Comparison[] = [
  {
    name: 'publish',
    title: 'Publishing: 1 KiB incompressible events with keys, 6 partitions, one program',
    kind: 'throughput',
    subjects: [publishFile, publishMemory],
    limits: [connectUp, http2Up, doubleWrite],
    targets: [
      {
        subject: publishFile.name,
        limit: connectUp.name,
        what: `at least ${PUBLISH_SHARE} of it`,
        isReached: (subject, limit) => rate(subject) >= PUBLISH_SHARE * rate(limit),
      },
    ],
  },
  {
    name: 'publish-latency',
    title: 'One awaited publish at low load: 1 KiB, file storage, fsync',
    kind: 'latency',
    subjects: [awaitedPublish],
    limits: [dsyncWrite],
    targets: (['p50', 'p99'] as const).map((percentile) => ({
      subject: awaitedPublish.name,
      limit: dsyncWrite.name,
      what: `${percentile} at most ${AWAITED_FACTOR} times it plus ${AWAITED_MORE_MS} ms`,
      isReached: (subject, limit) =>
        (subject.latency?.[percentile] ?? Number.POSITIVE_INFINITY) <=
        AWAITED_FACTOR * (limit.latency?.[percentile] ?? 0) + AWAITED_MORE_MS,
    })),
  },
  {
    name: 'consume',
    title: 'Consuming a stored topic from its beginning: 1 KiB events, 6 partitions, one member',
    kind: 'throughput',
    subjects: [consumePoll, consumeHandler],
    limits: [connectDown, http2Down],
    targets: [],
  },
  {
    name: 'parallel',
    title: 'Draining a stored topic: 1 KiB events, 6 partitions, one member on a bare stream',
    kind: 'throughput',
    subjects: [drainParallel],
    limits: [drainOrdered],
    targets: [
      {
        subject: drainParallel.name,
        limit: drainOrdered.name,
        what: `at least ${PARALLEL_SHARE} of it`,
        isReached: (subject, limit) => rate(subject) >= PARALLEL_SHARE * rate(limit),
      },
    ],
  },
  {
    name: 'ledger',
    title: 'The ledger: draining a stored topic with a commit for each batch, all well',
    kind: 'throughput',
    subjects: [ledgerOn],
    limits: [ledgerOff],
    targets: [
      {
        subject: ledgerOn.name,
        limit: ledgerOff.name,
        what: `at least ${LEDGER_SHARE} of it`,
        isReached: (subject, limit) => rate(subject) >= LEDGER_SHARE * rate(limit),
      },
    ],
  },
  {
    name: 'idempotence',
    title: 'Idempotence: encoded batches of 1 KiB events on a bare stream, 6 partitions, 5 in flight for each',
    kind: 'throughput',
    subjects: [publishIdempotent],
    limits: [publishPlain],
    targets: [
      {
        subject: publishIdempotent.name,
        limit: publishPlain.name,
        what: `at least ${IDEMPOTENT_SHARE} of it`,
        isReached: (subject, limit) => rate(subject) >= IDEMPOTENT_SHARE * rate(limit),
      },
    ],
  },
  {
    name: 'transactions',
    title: 'Transactions: 1,000 awaited events of 1 KiB at a time, 6 partitions, four times at once',
    kind: 'throughput',
    subjects: [publishInTransactions],
    limits: [publishInGroups],
    targets: [
      {
        subject: publishInTransactions.name,
        limit: publishInGroups.name,
        what: `at least ${TRANSACTION_SHARE} of it`,
        isReached: (subject, limit) => rate(subject) >= TRANSACTION_SHARE * rate(limit),
      },
    ],
  },
  {
    name: 'end-to-end',
    title: 'End to end: publisher, broker and subscriber at once, file storage, fsync',
    kind: 'throughput',
    subjects: [endToEndThroughput],
    limits: [connectRelay],
    targets: [],
  },
  {
    name: 'end-to-end-latency',
    title: 'End to end at 1,000 events a second',
    kind: 'latency',
    subjects: [endToEndLatency],
    limits: [connectRelayLatency],
    targets: [],
  },
  ...serializations,
  {
    name: 'recovery',
    title: 'Starting again after SIGKILL under load, and after a clean stop',
    kind: 'recovery',
    subjects: recoveries,
    limits: [emptyStart],
    targets: recoveries.map(({ name }) => ({
      subject: name,
      limit: emptyStart.name,
      what: `serving and acknowledging within ${RECOVERY_MS / 1_000} s of the start, also after a clean stop`,
      isReached: ({ notes = {} }) =>
        (notes['firstAckMs'] ?? Infinity) <= RECOVERY_MS && (notes['cleanFirstAckMs'] ?? Infinity) <= RECOVERY_MS,
    })),
  },
];

function rate({ bytes, seconds }: Measurement): number {
  return bytes / seconds;
}
