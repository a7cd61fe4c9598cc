/**
 * A broker for the tests of transactions: what FakePublishBroker does, and the rules of transactional ids (KIP-890), over calls that
 * are delayed, lost and refused as the test says.
 */
import { create } from '@bufbuild/protobuf';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import type { TimerHandle } from '@naru/base';
import { delay } from '@naru/base';
import type { ErrorCode } from '@naru/protocol';
import { NaruError } from '@naru/protocol';
import type { BatchHeader } from '@naru/protocol/batch';
import {
  DescribeTransactionResponseSchema,
  EndTransactionResponseSchema,
  InitTransactionsResponseSchema,
  TransactionState,
} from '@naru/protocol/proto';
import type { CommitTransaction } from '@naru/protocol/proto';
import type { TransactionRefFields } from '../transaction/commit-target.ts';
import { FakePublishBroker } from './fake-publish-broker.ts';
import type { FakePartition, NextTransaction } from './fake-publish-broker.ts';
import type { VirtualTime } from './virtual-time.ts';

interface FakeTransaction {
  readonly producerId: bigint;
  epoch: number;
  timeoutMs: number;
  status: 'empty' | 'ongoing' | 'committed' | 'aborted';
  previousEpoch: number | null;
  timer: TimerHandle | null;
}

/** What becomes of a call apart from the rules. */
export type CallFault = 'lost' | 'unanswered' | { readonly refuse: ErrorCode };

const STATES = {
  empty: TransactionState.EMPTY,
  ongoing: TransactionState.ONGOING,
  committed: TransactionState.COMMITTED,
  aborted: TransactionState.ABORTED,
} as const;

export class FakeTransactionBroker extends FakePublishBroker {
  readonly #clock: VirtualTime;
  readonly ids = new Map<string, FakeTransaction>();
  /** Names of the calls that arrived, with `commit` or `abort` for ends. */
  readonly calls: string[] = [];
  /** `producer id/epoch` of transactions that were committed. */
  readonly #committed = new Set<string>();
  readonly #writers = new Map<FakePartition, { from: number; writer: string }[]>();
  /** For each call about transactions. */
  callFault: (name: string) => CallFault | null = () => null;
  #nextId = 5_000n;

  constructor(time: VirtualTime) {
    super(time);
    this.#clock = time;
  }

  /** JSON values of records that readers of committed events see. */
  committed(topic: string): unknown[] {
    return (this.topics.get(topic)?.partitions ?? []).flatMap((partition) => {
      const writers = this.#writers.get(partition) ?? [];
      return partition.records
        .filter(({ offset }) => this.#committed.has(writers.findLast(({ from }) => from <= offset)?.writer ?? ''))
        .map(({ value }) => JSON.parse(Buffer.from(value ?? []).toString()) as unknown);
    });
  }

  /** As an operator's abort, or when the time is up. */
  abortOpen(transactionalId: string): void {
    const known = this.ids.get(transactionalId);
    if (known === undefined) throw new Error(`no ${transactionalId}`);
    known.epoch += 1;
    known.previousEpoch = null;
    if (known.status === 'ongoing') known.status = 'aborted';
    known.timer?.cancel();
  }

  /** As a subscriber's commit. */
  commitWith(ref: TransactionRefFields): { producerId: bigint; producerEpoch: number } {
    this.calls.push('commitWith');
    return this.#end(ref, true);
  }

  init(transactionalId: string, timeoutMs: number): { producerId: bigint; producerEpoch: number } {
    let known = this.ids.get(transactionalId);
    if (known === undefined) {
      const producerId = this.#nextId++;
      known = { producerId, epoch: -1, timeoutMs, status: 'empty', previousEpoch: null, timer: null };
      this.ids.set(transactionalId, known);
    }
    known.previousEpoch = known.epoch;
    known.epoch += 1;
    known.status = 'empty';
    known.timeoutMs = timeoutMs;
    known.timer?.cancel();
    return { producerId: known.producerId, producerEpoch: known.epoch };
  }

  override async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    if (method.parent.typeName !== 'naru.v1.TransactionService') return super.call(method, request);
    if (!this.isReachable) throw new NaruError('NETWORK', 'connection refused');
    const input = create(method.input, request) as unknown as Record<string, never>;
    const name = method.localName === 'endTransaction' ? (input['commit'] ? 'commit' : 'abort') : method.localName;
    const fault = this.callFault(name);
    await delay(this.#clock, this.delayMs());
    if (fault === 'lost') throw new NaruError('NETWORK', 'connection reset');
    if (fault !== null && fault !== 'unanswered') throw new NaruError(fault.refuse, `refused: ${fault.refuse}`);
    this.calls.push(name);
    const answer = this.#answer(method.localName, input);
    await delay(this.#clock, this.delayMs());
    if (fault === 'unanswered') throw new NaruError('NETWORK', 'connection reset');
    return answer as MessageShape<O>;
  }

  /** {@link callFault} is asked for `commitBehind`. */
  protected override commitBehind(
    { transaction }: CommitTransaction,
    isLacking: boolean,
  ): NextTransaction | ErrorCode | 'break' {
    const fault = this.callFault('commitBehind');
    if (fault === 'lost') return 'break';
    if (fault !== null && fault !== 'unanswered') return fault.refuse;
    this.calls.push('commitBehind');
    if (isLacking) return 'OUT_OF_ORDER_SEQUENCE_NUMBER';
    const { transactionalId = '', producerId = -1n, producerEpoch = -1 } = transaction ?? {};
    try {
      const next = this.#end({ transactionalId, producerId, producerEpoch }, true);
      return fault === 'unanswered' ? 'break' : { transactionalId, ...next };
    } catch (error) {
      return (error as NaruError).code;
    }
  }

  protected override admit(header: BatchHeader): ErrorCode | null {
    if (!header.isTransactional) return null;
    const known = [...this.ids.values()].find(({ producerId }) => producerId === BigInt(header.producerId));
    if (known === undefined) return 'INVALID_PRODUCER_ID_MAPPING';
    if (known.epoch !== header.producerEpoch) return 'INVALID_PRODUCER_EPOCH';
    if (known.status === 'ongoing') return null;
    known.status = 'ongoing';
    const id = [...this.ids].find(([, value]) => value === known)?.[0] ?? '';
    known.timer = this.#clock.after(known.timeoutMs, () => this.abortOpen(id));
    return null;
  }

  protected override stored(partition: FakePartition, header: BatchHeader, baseOffset: number): void {
    const writers = this.#writers.get(partition) ?? [];
    this.#writers.set(partition, writers);
    const writer = header.isTransactional ? `${header.producerId}/${header.producerEpoch}` : '';
    writers.push({ from: baseOffset, writer });
  }

  #answer(name: string, input: Record<string, never>): unknown {
    if (name === 'initTransactions') {
      return create(InitTransactionsResponseSchema, this.init(input['transactionalId'] ?? '', input['timeoutMs'] ?? 0));
    }
    if (name === 'endTransaction') {
      const { transaction, commit } = input as unknown as { transaction: TransactionRefFields; commit: boolean };
      return create(EndTransactionResponseSchema, this.#end(transaction, commit));
    }
    const transactionalId = String(input['transactionalId']);
    const known = this.ids.get(transactionalId);
    if (known === undefined) throw new NaruError('TRANSACTIONAL_ID_NOT_FOUND', `there is no ${transactionalId}`);
    const { producerId, epoch, status } = known;
    const summary = { transactionalId, producerId, producerEpoch: epoch, state: STATES[status] };
    return create(DescribeTransactionResponseSchema, { summary });
  }

  #end(ref: TransactionRefFields, commit: boolean): { producerId: bigint; producerEpoch: number } {
    const known = this.ids.get(ref.transactionalId);
    if (known === undefined || known.producerId !== ref.producerId) {
      throw new NaruError('INVALID_PRODUCER_ID_MAPPING', 'not its producer');
    }
    const { producerId } = known;
    if (known.previousEpoch === ref.producerEpoch && known.status !== 'empty' && known.status !== 'ongoing') {
      if ((known.status === 'committed') !== commit) throw new NaruError('INVALID_TXN_STATE', `was ${known.status}`);
      return { producerId, producerEpoch: known.epoch };
    }
    if (known.epoch !== ref.producerEpoch) throw new NaruError('PRODUCER_FENCED', 'fenced');
    known.timer?.cancel();
    if (commit) this.#committed.add(`${producerId}/${known.epoch}`);
    known.previousEpoch = known.epoch;
    known.epoch += 1;
    known.status = commit ? 'committed' : 'aborted';
    return { producerId, producerEpoch: known.epoch };
  }
}
