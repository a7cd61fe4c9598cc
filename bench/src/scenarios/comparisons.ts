/** What stands beside what. */
import type { Measurement } from '../measurement.ts';
import type { Comparison, Scenario, Target } from '../scenario.ts';
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
import { streamFile, streamMemory } from './stream.ts';
import { publishInGroups, publishInTransactions } from './transactions.ts';

/** Of the bare connect stream. */
const PUBLISH_SHARE = 0.5;
/** Of the bare node:http2 stream; with file storage, of what is less, that or the bare double write. */
const STREAM_SHARE = 0.7;
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
    subjects: [publishFile, publishMemory, streamFile, streamMemory],
    limits: [connectUp, http2Up, doubleWrite],
    targets: [
      atLeast(PUBLISH_SHARE, publishFile, [connectUp]),
      atLeast(STREAM_SHARE, streamMemory, [http2Up]),
      atLeast(STREAM_SHARE, streamFile, [http2Up, doubleWrite]),
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
      limits: [dsyncWrite.name],
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
    targets: [atLeast(PARALLEL_SHARE, drainParallel, [drainOrdered])],
  },
  {
    name: 'ledger',
    title: 'The ledger: draining a stored topic with a commit for each batch, all well',
    kind: 'throughput',
    subjects: [ledgerOn],
    limits: [ledgerOff],
    targets: [atLeast(LEDGER_SHARE, ledgerOn, [ledgerOff])],
  },
  {
    name: 'idempotence',
    title: 'Idempotence: encoded batches of 1 KiB events on a bare stream, 6 partitions, 5 in flight for each',
    kind: 'throughput',
    subjects: [publishIdempotent],
    limits: [publishPlain],
    sharesProcesses: true,
    targets: [atLeast(IDEMPOTENT_SHARE, publishIdempotent, [publishPlain])],
  },
  {
    name: 'transactions',
    title: 'Transactions: 1,000 awaited events of 1 KiB at a time, 6 partitions, four times at once',
    kind: 'throughput',
    subjects: [publishInTransactions],
    limits: [publishInGroups],
    targets: [atLeast(TRANSACTION_SHARE, publishInTransactions, [publishInGroups])],
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
      limits: [emptyStart.name],
      what: `serving and acknowledging within ${RECOVERY_MS / 1_000} s of the start, also after a clean stop`,
      isReached: ({ notes = {} }) =>
        (notes['firstAckMs'] ?? Infinity) <= RECOVERY_MS && (notes['cleanFirstAckMs'] ?? Infinity) <= RECOVERY_MS,
    })),
  },
];

/** @param limits of which the lowest counts */
function atLeast(share: number, subject: Scenario, limits: readonly Scenario[]): Target {
  return {
    subject: subject.name,
    limits: limits.map(({ name }) => name),
    what: `at least ${share} of it`,
    isReached: (measured, limit) => rate(measured) >= share * rate(limit),
  };
}

function rate({ bytes, seconds }: Measurement): number {
  return bytes / seconds;
}
