/**
 * Batches of the pull form that were given out and are not committed: what a commit finishes.
 *
 * Finishes what was given and nothing else: between two given offsets there may be events that are held, or withheld. Plain batches
 * are kept as spans of offsets, so that a caller that commits late costs little.
 */
import { OutcomeKind, SettlementKind } from '@naru/protocol/proto';
import type { AssignedPartition, LoadedBatch, ReturnedRecord, TakenRecord } from './assigned-partition.ts';
import { recordKeyId } from './blocked-keys.ts';
import type { BatchVerdict } from './event-batch.ts';
import type { Concluded, OutcomeFields } from './outcome-book.ts';
import type { AcquiredRecord } from './queue-partition.ts';
import type { Settlements } from './settlements.ts';
import type { OffsetSpan, WatermarkTracker } from './watermark-tracker.ts';

/** Events of one partition of an ordered topic that were given together. */
export interface GivenBatch {
  readonly partition: AssignedPartition;
  readonly taken: readonly TakenRecord[];
  readonly returned: readonly ReturnedRecord[];
  readonly verdicts: Map<number, BatchVerdict>;
}

/** What finishing batches of one partition comes to. */
export interface BatchPlan {
  readonly partition: AssignedPartition;
  readonly tracker: WatermarkTracker;
  readonly spans: { from: number; to: number }[];
  /** By offset. */
  readonly entries: Map<number, Concluded>;
}

interface OpenPartition {
  readonly tracker: WatermarkTracker;
  readonly spans: { from: number; to: number }[];
  /** Those with verdicts, or of events that the broker kept. */
  readonly batches: GivenBatch[];
}

export class OpenBatches {
  readonly #partitions = new Map<AssignedPartition, OpenPartition>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** The caller has come back: the batch is kept until a commit. */
  keep(batch: GivenBatch): void {
    const open = this.#open(batch.partition);
    if (batch.verdicts.size > 0 || batch.returned.length > 0) open.batches.push(batch);
    else
      for (const { record, tracker } of batch.taken) {
        if (tracker === open.tracker && !tracker.isFinished(record.offset)) addSpan(open.spans, record.offset);
      }
  }

  /** Finishes the batch, and what was kept of its partition. */
  finish(batch: GivenBatch): void {
    const { partition } = batch;
    const { tracker } = partition;
    const plan = this.plan(batch);
    this.#partitions.delete(partition);
    for (const span of plan.spans) tracker.finishSpan(span);
    for (const entry of plan.entries.values()) {
      if (entry.taken === null) partition.inHand.delete(entry.offset);
      partition.outcomes.conclude(entry);
    }
  }

  /** What {@link finish} would do now. */
  plan(batch: GivenBatch): BatchPlan {
    const { partition } = batch;
    const open = this.#open(partition);
    const plan = { partition, tracker: open.tracker, spans: [...open.spans], entries: new Map<number, Concluded>() };
    for (const kept of open.batches) this.#add(plan, kept);
    if (!open.batches.includes(batch)) this.#add(plan, batch);
    return plan;
  }

  /** What was planned is durable. */
  committed({ partition, tracker }: BatchPlan): void {
    const open = this.#partitions.get(partition);
    if (open?.tracker !== tracker) return;
    const left = open.spans.filter(({ from, to }) => !tracker.isFinished(from) || !tracker.isFinished(to - 1));
    open.spans.splice(0, open.spans.length, ...left);
    const isOver = ({ taken, returned }: GivenBatch): boolean =>
      taken.every(({ record }) => tracker.isFinished(record.offset)) &&
      returned.every(({ record }) => !partition.inHand.has(record.offset));
    const batches = open.batches.filter((one) => !isOver(one));
    open.batches.splice(0, open.batches.length, ...batches);
  }

  #open(partition: AssignedPartition): OpenPartition {
    let open = this.#partitions.get(partition);
    if (open?.tracker !== partition.tracker) {
      open = { tracker: partition.tracker, spans: [], batches: [] };
      this.#partitions.set(partition, open);
      for (const other of this.#partitions.keys()) if (other.state === 'gone') this.#partitions.delete(other);
    }
    return open;
  }

  #add(plan: BatchPlan, { partition, taken, returned, verdicts }: GivenBatch): void {
    const stopped = new Set<string>();
    for (const one of taken) {
      const { record, tracker } = one;
      if (tracker !== partition.tracker || tracker.isFinished(record.offset)) continue;
      const id = verdicts.size === 0 ? '' : recordKeyId(record);
      const verdict = verdicts.get(record.offset);
      if (verdict === undefined && !stopped.has(id)) {
        addSpan(plan.spans, record.offset);
        continue;
      }
      if (id !== '') stopped.add(id);
      if (partition.outcomes.isConcluded(record.offset)) continue;
      // Its memory has another owner, the batch that was given.
      const kept: TakenRecord = { record, tracker, batch: { ...NO_BATCH } };
      const { offset } = record;
      plan.entries.set(offset, { offset, keyId: id, taken: kept, ...this.#outcome(verdict, 0) });
    }
    for (const { record, attempts } of returned) {
      if (!partition.inHand.has(record.offset)) continue;
      const verdict = verdicts.get(record.offset);
      const outcome =
        verdict === undefined
          ? { kind: OutcomeKind.PROCESSED, fields: { attempts: attempts + 1 } }
          : this.#outcome(verdict, attempts);
      plan.entries.set(record.offset, { offset: record.offset, keyId: recordKeyId(record), taken: null, ...outcome });
    }
  }

  /** @param verdict undefined for an event that comes after one of its key */
  #outcome(verdict: BatchVerdict | undefined, before: number): { kind: OutcomeKind; fields: OutcomeFields } {
    if (verdict === undefined) return { kind: OutcomeKind.HELD, fields: { attempts: before } };
    const nowMs = Math.floor(this.#nowMs());
    const failure = { attempts: before + 1, firstFailureMs: BigInt(nowMs), lastFailureMs: BigInt(nowMs) };
    if ('deadLetter' in verdict) {
      return { kind: OutcomeKind.DEAD_LETTERED, fields: { ...failure, reason: 'rejected', error: verdict.deadLetter } };
    }
    const nextAttemptMs = BigInt(nowMs + Math.round(verdict.retryMs));
    return { kind: OutcomeKind.HELD, fields: { ...failure, nextAttemptMs } };
  }
}

/** Settles records of a parallel topic that were given together. What is returned never rejects: see Settlements.settled. */
export function settleBatch(
  settlements: Settlements,
  acquired: readonly AcquiredRecord[],
  verdicts: ReadonlyMap<number, BatchVerdict>,
): Promise<Error | null>[] {
  return acquired.map((one) => {
    const verdict = verdicts.get(one.record.offset);
    if (verdict === undefined) return settlements.settled(one, SettlementKind.ACCEPT);
    if ('deadLetter' in verdict) {
      return settlements.settled(one, SettlementKind.REJECT, { reason: 'rejected', error: verdict.deadLetter });
    }
    return settlements.settled(one, SettlementKind.FAIL, { delayMs: BigInt(Math.round(verdict.retryMs)) });
  });
}

/** Of a record whose memory somebody else looks after. */
export const NO_BATCH: LoadedBatch = { bytes: new Uint8Array(0), unfinished: 1, isExhausted: true };

function addSpan(spans: { from: number; to: number }[], offset: number): void {
  const last: { from: number; to: number } | undefined = spans.at(-1);
  if (last?.to === offset) last.to = offset + 1;
  else spans.push({ from: offset, to: offset + 1 } satisfies OffsetSpan);
}
