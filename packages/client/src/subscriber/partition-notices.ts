/** News of a partition that its user may want to know of, or that ends the consumption where nobody does. */
import { NaruError } from '@naru/protocol';
import type { Error as WireError, PositionReset } from '@naru/protocol/proto';
import type { Runtime } from '../runtime.ts';
import { fromWireError } from '../transport/wire-errors.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { Consumer, PartitionFailure, PositionJump } from './consumer.ts';

export interface NoticeListeners {
  readonly runtime: Runtime;
  readonly consumer: Consumer;
  /** Told once for each jump; what it throws ends the consumption. */
  readonly jumped?: ((jump: PositionJump) => unknown) | undefined;
  /** Told of it, in place of ending the consumption: other partitions go on. */
  readonly partitionFailed?: ((failure: PartitionFailure) => unknown) | undefined;
}

/** The position was outside the log: it goes on elsewhere. */
export function tellOfReset(listeners: NoticeListeners, held: AssignedPartition, { from, to }: PositionReset): void {
  const { runtime, consumer, jumped } = listeners;
  const { topic, partition } = held;
  runtime.logger.warn({ topic, partition, from, to }, 'position was outside the log');
  held.moveTo(Number(to));
  void Promise.resolve({ topic, partition, from, to })
    .then(jumped)
    .catch((error: unknown) => consumer.failed(error as Error));
}

/** The broker cannot read on. */
export function tellOfFailure(listeners: NoticeListeners, held: AssignedPartition, wire: WireError): void {
  const { runtime, consumer, partitionFailed } = listeners;
  const { topic, partition, fetchPosition: offset } = held;
  const cause = fromWireError(wire);
  const message = `${topic}/${partition} cannot be read on at offset ${offset}: ${cause.message}`;
  const error = new NaruError(cause.code, message, { cause });
  const fields = { topic, partition, offset, code: error.code, error: cause.message };
  runtime.logger.error(fields, 'the broker cannot read on in this partition');
  // A topic that was deleted is taken away in due course; anything else somebody has to look at.
  if (error.code === 'UNKNOWN_TOPIC_OR_PARTITION') return;
  if (partitionFailed === undefined) {
    consumer.failed(error);
    return;
  }
  void Promise.resolve({ topic, partition, offset: BigInt(offset), error })
    .then(partitionFailed)
    .catch((thrown: unknown) => consumer.failed(thrown as Error));
}
