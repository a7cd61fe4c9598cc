/** Transactions as an operator sees them. Translates between the wire and plain values. */
import { NaruError } from '@naru/protocol';
import { TransactionService, TransactionState as WireState } from '@naru/protocol/proto';
import type { TransactionSummary as WireSummary } from '@naru/protocol/proto';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';

/** `empty`: nothing was begun yet. `committed` and `aborted`: how the last one ended. */
export type TransactionState = 'empty' | 'ongoing' | 'committed' | 'aborted';

/** What a transactional id is at. */
export interface TransactionSummary {
  readonly transactionalId: string;
  readonly producerId: bigint;
  readonly producerEpoch: number;
  readonly state: TransactionState;
  /** Milliseconds after which an open transaction is aborted. */
  readonly timeoutMs: number;
  /** When the open one began, milliseconds since the Unix epoch; undefined without one. */
  readonly startedMs: number | undefined;
  readonly updatedMs: number;
  /** Partitions that the open one has written to. */
  readonly partitions: number;
}

export interface TransactionPartition {
  readonly topic: string;
  readonly partition: number;
  /** Of the transaction's first event there; undefined when it has none yet. */
  readonly firstOffset: bigint | undefined;
  /** Offset after the last event that is stored. */
  readonly highWatermark: bigint;
  /** Where readers of committed events wait: the first offset, unless an earlier transaction is open there, too. */
  readonly lastStableOffset: bigint;
}

export interface TransactionDescription extends TransactionSummary {
  /** By topic and number. */
  readonly partitionDetails: readonly TransactionPartition[];
  /** Groups with offsets that wait for the end. */
  readonly groups: readonly string[];
}

export interface TransactionFilter {
  /** Default: all. */
  readonly states?: readonly TransactionState[] | undefined;
  /** Only those that are open, and for so long; milliseconds. */
  readonly openForMs?: number | undefined;
}

type Call = <I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  request: MessageInitShape<I>,
) => Promise<MessageShape<O>>;

const WIRE_STATES: Readonly<Record<TransactionState, WireState>> = {
  empty: WireState.EMPTY,
  ongoing: WireState.ONGOING,
  committed: WireState.COMMITTED,
  aborted: WireState.ABORTED,
};
const STATES = new Map(Object.entries(WIRE_STATES).map(([state, wire]) => [wire, state as TransactionState]));

/** All pages of them. */
export async function listTransactions(call: Call, filter: TransactionFilter): Promise<TransactionSummary[]> {
  const states = (filter.states ?? []).map((state) => WIRE_STATES[state]);
  const minOpenMs = BigInt(Math.trunc(filter.openForMs ?? 0));
  const found: TransactionSummary[] = [];
  let pageToken = '';
  do {
    const page = await call(TransactionService.method.listTransactions, { states, minOpenMs, pageToken });
    found.push(...page.transactions.map(summary));
    pageToken = page.nextPageToken;
  } while (pageToken !== '');
  return found;
}

export async function describeTransaction(call: Call, transactionalId: string): Promise<TransactionDescription> {
  const answer = await call(TransactionService.method.describeTransaction, { transactionalId });
  if (answer.summary === undefined) throw new NaruError('INTERNAL', 'the broker answered without the transaction');
  const partitionDetails = answer.partitions.map(
    ({ topic, partition, firstOffset, highWatermark, lastStableOffset }) => {
      return { topic, partition, firstOffset, highWatermark, lastStableOffset };
    },
  );
  return { ...summary(answer.summary), partitionDetails, groups: answer.groups };
}

export async function abortTransaction(call: Call, transactionalId: string): Promise<boolean> {
  return (await call(TransactionService.method.abortTransaction, { transactionalId })).aborted;
}

function summary(wire: WireSummary): TransactionSummary {
  return {
    transactionalId: wire.transactionalId,
    producerId: wire.producerId,
    producerEpoch: wire.producerEpoch,
    state: STATES.get(wire.state) ?? 'ongoing',
    timeoutMs: wire.timeoutMs,
    startedMs: wire.startedMs === undefined ? undefined : Number(wire.startedMs),
    updatedMs: Number(wire.updatedMs),
    partitions: wire.partitionCount,
  };
}
