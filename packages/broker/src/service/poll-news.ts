/**
 * What a member that polls by single calls has to be told besides records: at most one thing of each kind for each of its
 * partitions, however long it does not ask.
 */
import type { PartitionKey } from '@naru/base';
import type { Refusal } from '@naru/protocol';
import type { AssignedPartition } from './session-events.ts';

export interface Revocation {
  readonly topic: string;
  readonly lost: boolean;
}

export interface Reset {
  readonly topic: string;
  readonly from: number;
  readonly to: number;
}

export interface Failure {
  readonly topic: string;
  readonly refusal: Refusal;
}

/** Revocations happened before everything else that is told with them. */
export class PollNews {
  readonly revoked = new Map<PartitionKey, Revocation>();
  readonly assigned = new Map<PartitionKey, AssignedPartition>();
  readonly resets = new Map<PartitionKey, Reset>();
  readonly failed = new Map<PartitionKey, Failure>();

  get isEmpty(): boolean {
    return this.assigned.size === 0 && !this.isPressing;
  }

  /** Whether a poll that waits is to be answered at once. */
  get isPressing(): boolean {
    return this.revoked.size > 0 || this.resets.size > 0 || this.failed.size > 0;
  }

  assign(assigned: AssignedPartition): void {
    this.assigned.set(assigned.partition, assigned);
  }

  revoke(partition: PartitionKey, revocation: Revocation): void {
    // Nobody was told that it came, so that nobody needs to know that it went; but it may have to be released.
    const unknown = this.assigned.delete(partition);
    this.resets.delete(partition);
    this.failed.delete(partition);
    if (!unknown || !revocation.lost) this.revoked.set(partition, revocation);
  }

  /** Tells what `older` told and nobody heard, and then this. */
  precede(older: PollNews): void {
    const gone = new Set(this.revoked.keys());
    for (const [partition, revocation] of older.revoked) {
      if (!gone.has(partition)) this.revoked.set(partition, revocation);
    }
    for (const kind of ['assigned', 'resets', 'failed'] as const) {
      const mine: Map<PartitionKey, unknown> = this[kind];
      for (const [partition, news] of older[kind]) {
        if (!mine.has(partition) && !gone.has(partition)) mine.set(partition, news);
      }
    }
  }
}
