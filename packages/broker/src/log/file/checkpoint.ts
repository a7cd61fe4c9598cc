/**
 * A checkpoint: the state from which recovery goes on, as one file.
 *
 * It has two sides. The *logical* side is exact: partitions and the caller's snapshot as they were after frame `sequence`.
 * The *physical* side says what the segment files surely hold, and may be later: a partition's files end at `fileEnd`,
 * which is its end offset or beyond. Below it only when a truncate after `sequence` is in the journal.
 *
 * ```
 * magic "NCKP" uint32 · version uint32 · journalId 8 bytes · sequence int64 · journal file uint32, position int64
 * partition count uint32, then each:
 *   topic id 16 bytes · partition int32 · logStart int64 · end int64 · fileEnd int64 · cleanEnd int64 · flags uint32 (0)
 *   segment count uint32, then each: base int64 · bytes int64 · maxTimestampMs int64 · createdMs int64 · generation int64
 * has snapshot uint32 · version uint32 · bytes uint32 · data
 * CRC-32C of everything before, uint32
 * ```
 *
 * It is also the manifest of the segments: a file that it does not list is no part of the log. Compaction rests on that: a
 * rewritten segment is a new file beside the old one, and which of them counts is what the newest checkpoint says.
 *
 * Version 1, before compaction, has no cleanEnd, flags and generation; it is read still.
 */
import type { Disk, PartitionKey } from '@naru/base';
import { crc32c } from '@naru/protocol/batch';
import type { Snapshot } from '../log-store.ts';
import { KEY_BYTES, keyFromBytes, keyToBytes, readInt64, readUint32, writeInt64, writeUint32 } from './byte-fields.ts';
import type { JournalPlace } from './journal-recovery.ts';

const MAGIC = 0x4e434b50;
const VERSION = 2;
const HEAD_BYTES = 40;
/** By version. */
const PARTITION_BYTES: Readonly<Record<number, number>> = { 1: KEY_BYTES + 28, 2: KEY_BYTES + 40 };
const SEGMENT_BYTES: Readonly<Record<number, number>> = { 1: 32, 2: 40 };
const SNAPSHOT_HEAD_BYTES = 12;
const NAME_DIGITS = 20;

export interface CheckpointSegment {
  readonly baseOffset: number;
  /** See {@link Segment.generation}; 0 in version 1. */
  readonly generation: number;
  readonly sizeBytes: number;
  readonly maxTimestampMs: number;
  readonly createdMs: number;
}

export interface CheckpointPartition {
  readonly key: PartitionKey;
  readonly logStartOffset: number;
  readonly endOffset: number;
  readonly fileEndOffset: number;
  /** Part of the physical side: what lies below was compacted. The log start offset in version 1. */
  readonly cleanEndOffset: number;
  readonly segments: readonly CheckpointSegment[];
}

export interface Checkpoint {
  readonly journalId: Uint8Array;
  readonly sequence: number;
  /** Where frame `sequence` ends. */
  readonly journalPlace: JournalPlace;
  readonly partitions: readonly CheckpointPartition[];
  readonly snapshot: Snapshot | null;
}

export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array[] {
  let headBytes = HEAD_BYTES + SNAPSHOT_HEAD_BYTES;
  const { partitionBytes, segmentBytes } = layoutOf(VERSION);
  for (const { segments } of checkpoint.partitions) headBytes += partitionBytes + segments.length * segmentBytes;
  const head = new Uint8Array(headBytes);
  writeUint32(head, 0, MAGIC);
  writeUint32(head, 4, VERSION);
  head.set(checkpoint.journalId, 8);
  writeInt64(head, 16, checkpoint.sequence);
  writeUint32(head, 24, checkpoint.journalPlace.fileNumber);
  writeInt64(head, 28, checkpoint.journalPlace.position);
  writeUint32(head, 36, checkpoint.partitions.length);
  let at = HEAD_BYTES;
  for (const partition of checkpoint.partitions) at = writePartition(head, at, partition);
  const { snapshot } = checkpoint;
  writeUint32(head, at, snapshot === null ? 0 : 1);
  writeUint32(head, at + 4, snapshot?.version ?? 0);
  writeUint32(head, at + 8, snapshot?.data.length ?? 0);
  const buffers = snapshot === null ? [head] : [head, snapshot.data];
  const tail = new Uint8Array(4);
  writeUint32(
    tail,
    0,
    buffers.reduce((crc, buffer) => crc32c(buffer, crc), 0),
  );
  return [...buffers, tail];
}

function writePartition(head: Uint8Array, start: number, partition: CheckpointPartition): number {
  let at = start;
  head.set(keyToBytes(partition.key), at);
  writeInt64(head, at + 20, partition.logStartOffset);
  writeInt64(head, at + 28, partition.endOffset);
  writeInt64(head, at + 36, partition.fileEndOffset);
  writeInt64(head, at + 44, partition.cleanEndOffset);
  writeUint32(head, at + 56, partition.segments.length);
  const { partitionBytes, segmentBytes } = layoutOf(VERSION);
  at += partitionBytes;
  for (const segment of partition.segments) {
    writeInt64(head, at, segment.baseOffset);
    writeInt64(head, at + 8, segment.sizeBytes);
    writeInt64(head, at + 16, segment.maxTimestampMs);
    writeInt64(head, at + 24, segment.createdMs);
    writeInt64(head, at + 32, segment.generation);
    at += segmentBytes;
  }
  return at;
}

function layoutOf(version: number): { partitionBytes: number; segmentBytes: number } {
  return { partitionBytes: PARTITION_BYTES[version] as number, segmentBytes: SEGMENT_BYTES[version] as number };
}

/** Null when the bytes are not a whole, undamaged checkpoint of a known version. */
export function decodeCheckpoint(bytes: Uint8Array): Checkpoint | null {
  if (bytes.length < HEAD_BYTES + SNAPSHOT_HEAD_BYTES + 4) return null;
  const version = readUint32(bytes, 4);
  if (readUint32(bytes, 0) !== MAGIC || version < 1 || version > VERSION) return null;
  if (crc32c(bytes.subarray(0, -4)) !== readUint32(bytes, bytes.length - 4)) return null;
  const partitions: CheckpointPartition[] = [];
  const { partitionBytes, segmentBytes } = layoutOf(version);
  let at = HEAD_BYTES;
  for (let count = readUint32(bytes, 36); count > 0; count--) {
    const segments: CheckpointSegment[] = [];
    const from = at;
    at += partitionBytes;
    for (let left = readUint32(bytes, at - 4); left > 0; left--, at += segmentBytes) {
      segments.push({
        baseOffset: readInt64(bytes, at),
        generation: version === 1 ? 0 : readInt64(bytes, at + 32),
        sizeBytes: readInt64(bytes, at + 8),
        maxTimestampMs: readInt64(bytes, at + 16),
        createdMs: readInt64(bytes, at + 24),
      });
    }
    partitions.push({
      key: keyFromBytes(bytes, from),
      logStartOffset: readInt64(bytes, from + 20),
      endOffset: readInt64(bytes, from + 28),
      fileEndOffset: readInt64(bytes, from + 36),
      cleanEndOffset: readInt64(bytes, from + (version === 1 ? 20 : 44)),
      segments,
    });
  }
  const dataBytes = readUint32(bytes, at + 8);
  const dataAt = at + SNAPSHOT_HEAD_BYTES;
  const hasSnapshot = readUint32(bytes, at) === 1;
  return {
    journalId: bytes.slice(8, 16),
    sequence: readInt64(bytes, 16),
    journalPlace: { fileNumber: readUint32(bytes, 24), position: readInt64(bytes, 28) },
    partitions,
    snapshot: hasSnapshot
      ? { version: readUint32(bytes, at + 4), data: bytes.slice(dataAt, dataAt + dataBytes) }
      : null,
  };
}

export function checkpointFileName(sequence: number): string {
  return `${String(sequence).padStart(NAME_DIGITS, '0')}.ckpt`;
}

/** Sequence in the name of a checkpoint, or null for other names. */
export function checkpointFileSequence(name: string): number | null {
  const match = /^(\d{20})\.ckpt$/.exec(name);
  return match === null ? null : Number(match[1]);
}

/** Writes `buffers` to `directory/name` so that after a crash the old file is there or the new one, whole. */
export async function writeFileAtomically(
  disk: Disk,
  directory: string,
  name: string,
  buffers: readonly Uint8Array[],
): Promise<void> {
  const temporary = `${directory}/${name}.tmp`;
  const file = await disk.open(temporary, 'write');
  try {
    await file.truncate(0);
    await file.write(buffers, 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(temporary, `${directory}/${name}`);
  await disk.syncDirectory(directory);
}

export async function readWholeFile(disk: Disk, path: string): Promise<Uint8Array> {
  const file = await disk.open(path, 'read');
  try {
    const bytes = new Uint8Array(await file.size());
    return bytes.subarray(0, await file.read(bytes, 0));
  } finally {
    await file.close();
  }
}

/** What is to be kept of older checkpoints. */
export interface KeptCheckpoints {
  /** Those from this sequence on: the journal still has everything after them. */
  readonly fromSequence: number;
  readonly limit: number;
}

/** Writes a checkpoint, and removes older ones, all but those that `kept` says, once it is durable. */
export async function writeCheckpoint(
  disk: Disk,
  directory: string,
  checkpoint: Checkpoint,
  kept: KeptCheckpoints = { fromSequence: Infinity, limit: 0 },
): Promise<void> {
  const name = checkpointFileName(checkpoint.sequence);
  await writeFileAtomically(disk, directory, name, encodeCheckpoint(checkpoint));
  let left = kept.limit;
  for (const other of (await disk.list(directory)).reverse()) {
    const sequence = checkpointFileSequence(other);
    if (other === name) continue;
    if (sequence !== null && sequence >= kept.fromSequence && left-- > 0) continue;
    await disk.remove(`${directory}/${other}`);
  }
}

export interface FoundCheckpoint {
  readonly checkpoint: Checkpoint;
  /** The highest sequence that a damaged, newer checkpoint names: the journal must reach at least to it. */
  readonly mustReach: number;
}

/** The newest undamaged checkpoint; null when there is no file at all, 'damaged' when none can be read. */
export async function findCheckpoint(disk: Disk, directory: string): Promise<FoundCheckpoint | null | 'damaged'> {
  const names = (await disk.list(directory)).filter((name) => checkpointFileSequence(name) !== null).reverse();
  let mustReach = 0;
  for (const name of names) {
    const sequence = checkpointFileSequence(name) as number;
    const checkpoint = decodeCheckpoint(await readWholeFile(disk, `${directory}/${name}`));
    if (checkpoint !== null && checkpoint.sequence === sequence) return { checkpoint, mustReach };
    mustReach = Math.max(mustReach, sequence);
  }
  return names.length === 0 ? null : 'damaged';
}
