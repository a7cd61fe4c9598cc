/** What a consumption tells whoever handles its events, and the listeners of users. */
import type { NaruError } from '@naru/protocol';
import type { AssignedPartition } from './assigned-partition.ts';
import type { TopicPartition } from './event.ts';
import type { Concluded, FinishedOutputs } from './outcome-book.ts';

export interface Consumer {
  /** There may be something to take. */
  wake(): void;
  /** Milliseconds since something was finished while something is at work; 0 when nothing is. */
  stalledMs(): number;
  /** What became of these is durable. */
  concluded(partition: AssignedPartition, entries: readonly Concluded[]): void;
  /** What became of an event with this id, which was claimed, is durable; only of parallel topics. */
  idSettled(id: string): void;
  /** These were to be held and need not be: they are to be handled now. */
  takenBack(entries: readonly Concluded[]): void;
  /**
   * What a call has published can never be stored. Its events are not in a commit now.
   *
   * @returns false when it can go on no more
   */
  outputsRefused(partition: AssignedPartition, outputs: FinishedOutputs, error: NaruError): boolean;
  /** The broker will not keep failed events of the partition for now; null when it does again. */
  stalled(partition: AssignedPartition, error: NaruError | null): void;
  /** Everything is over. */
  failed(error: Error): void;
}

export interface RebalanceListeners {
  readonly assigned: ((partitions: TopicPartition[]) => unknown)[];
  readonly revoked: ((partitions: TopicPartition[], details: { lost: boolean }) => unknown)[];
}

/** Events were gone, deleted by retention or by an operator, before the subscriber came to them. */
export interface PositionJump extends TopicPartition {
  /** The offset that was next. */
  readonly from: bigint;
  /** Where the subscriber goes on, by its setting `from`. */
  readonly to: bigint;
}

/** The broker cannot read on in a partition, whose storage is damaged there, say. */
export interface PartitionFailure extends TopicPartition {
  /** The offset that is next, and cannot be read. A seek beyond what is damaged goes on. */
  readonly offset: bigint;
  readonly error: NaruError;
}
