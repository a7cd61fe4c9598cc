/** Big-endian integers in byte arrays, for the store's own files. 64-bit integers are safe integers here. */
import { topicIdFromBytes, topicIdToBytes, partitionKey, splitPartitionKey } from '@naru/base';
import type { PartitionKey } from '@naru/base';

const TWO_TO_32 = 2 ** 32;

/** Bytes of a partition's key in files: topic id (16) and partition (4). */
export const KEY_BYTES = 20;

export function readUint32(bytes: Uint8Array, at: number): number {
  return readInt32(bytes, at) >>> 0;
}

export function readInt32(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] as number) << 24) |
    ((bytes[at + 1] as number) << 16) |
    ((bytes[at + 2] as number) << 8) |
    (bytes[at + 3] as number)
  );
}

export function writeUint32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

export function readInt64(bytes: Uint8Array, at: number): number {
  return readInt32(bytes, at) * TWO_TO_32 + readUint32(bytes, at + 4);
}

export function writeInt64(bytes: Uint8Array, at: number, value: number): void {
  writeUint32(bytes, at, Math.floor(value / TWO_TO_32));
  writeUint32(bytes, at + 4, value >>> 0);
}

export function keyToBytes(key: PartitionKey): Uint8Array {
  const { topicId, partition } = splitPartitionKey(key);
  const bytes = new Uint8Array(KEY_BYTES);
  bytes.set(topicIdToBytes(topicId));
  writeUint32(bytes, 16, partition);
  return bytes;
}

export function keyFromBytes(bytes: Uint8Array, at: number): PartitionKey {
  return partitionKey(topicIdFromBytes(bytes.subarray(at, at + 16)), readInt32(bytes, at + 16));
}
