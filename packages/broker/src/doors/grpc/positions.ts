/** Start positions and partitions of the wire as the runtime's. */
import { create } from '@bufbuild/protobuf';
import {
  partitionKey,
  splitPartitionKey,
  toSafeInteger,
  topicIdFromBytes,
  topicIdToBytes,
  type PartitionKey,
} from '@naru/base';
import { NaruError } from '@naru/protocol';
import { IsolationLevel, PartitionRefSchema, type PartitionRef, type StartPosition } from '@naru/protocol/proto';
import type { OffsetPosition } from '../../runtime/commands.ts';

/** Null when nothing was said. */
export function toOffsetPosition(position: StartPosition | undefined): OffsetPosition | null {
  const choice = position?.position;
  switch (choice?.case) {
    case 'beginning':
      return { at: 'beginning' };
    case 'end':
      return { at: 'end' };
    case 'offset':
      return { at: 'offset', offset: wireInteger(choice.value, 'an offset') };
    case 'timestampMs':
      return { at: 'time', timestampMs: wireInteger(choice.value, 'a timestamp') };
    default:
      return null;
  }
}

/** @throws NaruError INVALID_REQUEST for a level that is not known */
export function isUncommitted(level: IsolationLevel): boolean {
  if (IsolationLevel[level] === undefined)
    throw new NaruError('INVALID_REQUEST', `there is no isolation level ${level}`);
  return level === IsolationLevel.UNCOMMITTED;
}

export function toPartitionKey(ref: PartitionRef | undefined): PartitionKey {
  if (ref === undefined || ref.topicId.length !== 16 || ref.partition < 0) {
    throw new NaruError('INVALID_REQUEST', 'a partition is named by a topic id of 16 bytes and a number from 0 on');
  }
  return partitionKey(topicIdFromBytes(ref.topicId), ref.partition);
}

export function toPartitionRef(key: PartitionKey): PartitionRef {
  const { topicId, partition } = splitPartitionKey(key);
  return create(PartitionRefSchema, { topicId: topicIdToBytes(topicId), partition });
}

export function wireInteger(value: bigint, what: string): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new NaruError('INVALID_REQUEST', `${what} is 0 to ${Number.MAX_SAFE_INTEGER}, not ${value}`);
  }
  return toSafeInteger(value, what);
}
