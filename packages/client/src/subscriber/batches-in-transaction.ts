/**
 * Batches of one poller that are committed with one transaction, as they stood when they were added to it.
 */
import { NaruError } from '@naru/protocol';
import type { CommitTarget, ProducerIdentity, TransactionRefFields } from '../transaction/commit-target.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { Consumption } from './consumption.ts';
import type { BatchPlan, GivenBatch, OpenBatches } from './open-batches.ts';
import type { OpenPart } from './pull-transactions.ts';

export class BatchesInTransaction implements CommitTarget {
  readonly #consumption: Consumption;
  readonly #open: OpenBatches;
  readonly #plans = new Map<AssignedPartition, BatchPlan>();

  constructor(consumption: Consumption, open: OpenBatches) {
    this.#consumption = consumption;
    this.#open = open;
  }

  /**
   * @param current what was added to the transaction before
   * @throws NaruError INVALID_REQUEST when that is another poller's; NOT_ASSIGNED
   */
  static join(
    current: CommitTarget | null,
    consumption: Consumption,
    open: OpenBatches,
    batch: GivenBatch,
  ): BatchesInTransaction {
    const target = current ?? new BatchesInTransaction(consumption, open);
    if (!(target instanceof BatchesInTransaction) || target.#consumption !== consumption) {
      throw new NaruError('INVALID_REQUEST', 'a transaction commits batches of one poll() only');
    }
    target.#add(batch);
    return target;
  }

  commitWith(ref: TransactionRefFields): Promise<ProducerIdentity> {
    return this.#consumption.commits.commitWith(ref, () => [...this.#plans.values()].map((plan) => this.#part(plan)));
  }

  #add(batch: GivenBatch): void {
    const { partition } = batch;
    if (partition.state === 'gone') throw lostError(partition);
    const plan = this.#open.plan(batch);
    const before = this.#plans.get(partition);
    if (before?.tracker === plan.tracker) {
      plan.spans.push(...before.spans);
      for (const [offset, entry] of before.entries) if (!plan.entries.has(offset)) plan.entries.set(offset, entry);
    }
    this.#plans.set(partition, plan);
  }

  /** What is left of it by now. */
  #part(plan: BatchPlan): OpenPart {
    const { partition, tracker, spans } = plan;
    if (partition.state === 'gone' || tracker !== partition.tracker) throw lostError(partition);
    const entries = [...plan.entries.values()].filter(({ taken, offset }) => {
      if (partition.outcomes.isConcluded(offset)) return false;
      return taken === null ? partition.inHand.has(offset) : !tracker.isFinished(offset);
    });
    const committed = (): void => {
      for (const { taken, offset } of entries) if (taken === null) partition.inHand.delete(offset);
      this.#open.committed(plan);
    };
    return { partition, spans, entries, committed };
  }
}

function lostError({ topic, partition }: AssignedPartition): NaruError {
  return new NaruError('NOT_ASSIGNED', `${topic}/${partition} is no longer this member's: not committed`);
}
