/**
 * What recovery finds and decides before it changes anything: the checkpoint's partitions against their files and against
 * what the journal did to them since.
 *
 * The journal is read once for its history: the lowest truncate, the highest deleteBefore and a delete of each partition
 * explain files that end earlier, or are missing, compared with the checkpoint. What nothing explains is damage: the plan
 * is refused with DATA_CORRUPT and nothing is changed.
 *
 * A partition's files are cut to the checkpoint's physical end, or to the lowest later truncate if that is lower:
 * everything beyond is in the journal and is written again. (Nothing is appended to a file that was cut, until a checkpoint
 * lists it as it is: up to the size in the checkpoint, a file holds what it held then, or ends at a truncate's place.)
 *
 * Of compaction the journal says nothing, and the plan needs nothing: files that replaced others since the checkpoint are not
 * on its list and go, those that they replaced are there, whole, whatever was done to their successors.
 */
import type { Disk, Logger, PartitionKey } from '@naru/base';

import { NaruError } from '@naru/protocol';
import type { CheckpointPartition, CheckpointSegment } from './checkpoint.ts';
import type { FrameEntry } from './journal-frame.ts';
import { ENTRY } from './journal-frame.ts';
import type { FileLogLimits } from './limits.ts';
import { PartitionLog, partitionDirectoryName } from './partition-log.ts';
import { Segment, damaged, segmentBaseOffset, segmentGeneration, segmentName } from './segment.ts';
import { positionInFile } from './segment-reader.ts';

/** Files that are looked at or changed together. */
const AT_ONCE = 32;

interface PartitionHistory {
  lowestTruncate: number;
  highestDeleteBefore: number;
  deleted: boolean;
  created: boolean;
}

/** What the journal after the checkpoint did to files. */
export class JournalHistory {
  readonly #partitions = new Map<PartitionKey, PartitionHistory>();

  visit(entries: readonly FrameEntry[]): void {
    for (const { type, partition, offset } of entries) {
      if (type === ENTRY.append) continue;
      const history = this.of(partition);
      this.#partitions.set(partition, history);
      if (type === ENTRY.truncate) history.lowestTruncate = Math.min(history.lowestTruncate, offset);
      if (type === ENTRY.deleteBefore) history.highestDeleteBefore = Math.max(history.highestDeleteBefore, offset);
      if (type === ENTRY.delete) history.deleted = true;
      if (type === ENTRY.create) history.created = true;
    }
  }

  of(partition: PartitionKey): PartitionHistory {
    const none = { lowestTruncate: Infinity, highestDeleteBefore: -Infinity, deleted: false, created: false };
    return this.#partitions.get(partition) ?? none;
  }

  get created(): PartitionKey[] {
    return [...this.#partitions].filter(([, history]) => history.created).map(([key]) => key);
  }
}

export interface PlannedPartition {
  readonly log: PartitionLog;
  /** Replay lets the segment writer have it again when it has come to this truncate; Infinity when it is not held. */
  readonly heldUntil: number;
}

export class RecoveryPlan {
  readonly partitions: PlannedPartition[] = [];
  /** Partitions from whose directories files are removed: the next checkpoint makes that durable. */
  readonly cleaned = new Set<PartitionLog>();
  readonly #changes: (() => Promise<void>)[] = [];
  readonly #disk: Disk;
  readonly #segmentsDirectory: string;
  readonly #limits: FileLogLimits;
  readonly #history: JournalHistory;

  constructor(disk: Disk, segmentsDirectory: string, limits: FileLogLimits, history: JournalHistory) {
    this.#disk = disk;
    this.#segmentsDirectory = segmentsDirectory;
    this.#limits = limits;
    this.#history = history;
  }

  /** @throws NaruError DATA_CORRUPT */
  async make(partitions: readonly CheckpointPartition[], logger: Logger): Promise<void> {
    const present = new Set(await this.#disk.list(this.#segmentsDirectory));
    await this.#planAll(partitions, present);
    for (const { key } of partitions) present.delete(partitionDirectoryName(key));
    for (const key of this.#history.created) {
      const directory = partitionDirectoryName(key);
      // Created after the checkpoint: the journal has all of it.
      if (present.delete(directory)) this.#removeDirectory(directory);
    }
    // Before a checkpoint is written, directories of deleted partitions are gone for good. So nothing explains these.
    for (const directory of present)
      logger.warn({ directory }, 'a directory among the segments belongs to no partition');
  }

  /** Several at a time: with a thousand partitions it is the waiting for the disk that takes long. */
  async #planAll(partitions: readonly CheckpointPartition[], present: ReadonlySet<string>): Promise<void> {
    const planned: PlannedPartition[] = [];
    await severalAtOnce(partitions, async (partition, index) => {
      planned[index] = await this.#planPartition(partition, present.has(partitionDirectoryName(partition.key)));
    });
    this.partitions.push(...planned);
  }

  /** Makes the files what the plan says. */
  async carryOut(): Promise<void> {
    await severalAtOnce(this.#changes, (change) => change());
  }

  async #planPartition(partition: CheckpointPartition, present: boolean): Promise<PlannedPartition> {
    const { key, logStartOffset, endOffset, fileEndOffset } = partition;
    const history = this.#history.of(key);
    const log = new PartitionLog(key, this.#segmentsDirectory, logStartOffset, endOffset);
    if (history.deleted) {
      if (present) this.#removeDirectory(partitionDirectoryName(key));
      log.held = true;
      return { log, heldUntil: Infinity };
    }
    const cut = Math.min(fileEndOffset, history.lowestTruncate);
    log.writtenEnd = cut;
    log.cleanEnd = Math.min(partition.cleanEndOffset, cut);
    log.directoryReady = present;
    await this.#planSegments(partition, log, cut);
    if (cut >= endOffset) return { log, heldUntil: Infinity };
    if (history.lowestTruncate === Infinity) {
      throw damaged(log.directory, 0, `the files end at offset ${cut}, before the partition's end ${endOffset}`);
    }
    log.held = true;
    return { log, heldUntil: history.lowestTruncate };
  }

  async #planSegments(partition: CheckpointPartition, log: PartitionLog, cut: number): Promise<void> {
    const expiredBelow = Math.max(this.#history.of(partition.key).highestDeleteBefore, partition.logStartOffset);
    const names = await this.#disk.list(log.directory);
    const kept = partition.segments.filter((segment) => segment.baseOffset < cut);
    for (const [i, state] of kept.entries()) {
      const end = kept[i + 1]?.baseOffset ?? cut;
      if (!names.includes(`${segmentName(state)}.log`)) {
        if (end <= expiredBelow) continue;
        const path = `${log.directory}/${segmentName(state)}.log`;
        throw damaged(path, 0, `the file is missing; it holds offsets ${state.baseOffset} to ${end - 1}`);
      }
      const isLast = i === kept.length - 1;
      const segment = isLast ? await this.#planLastSegment(log, state, cut, partition) : this.#segment(log, state);
      segment.sealed = !isLast;
      // Cut, or compacted whole: what is appended goes into another file.
      segment.closed = !isLast || cut < partition.fileEndOffset || log.cleanEnd >= cut;
      log.segments.push(segment);
      log.segmentBytes += segment.sizeBytes;
    }
    this.#planLeftovers(log, names);
  }

  #segment(log: PartitionLog, state: CheckpointSegment): Segment {
    return new Segment(log.directory, state, this.#limits.indexIntervalBytes);
  }

  async #planLastSegment(
    log: PartitionLog,
    state: CheckpointSegment,
    cut: number,
    partition: CheckpointPartition,
  ): Promise<Segment> {
    const path = `${log.directory}/${segmentName(state)}.log`;
    const file = await this.#disk.open(path, 'read');
    try {
      const size = await file.size();
      let wanted = state.sizeBytes;
      if (cut < partition.fileEndOffset) wanted = await positionInFile(file, path, 0, Math.min(size, wanted), cut);
      else if (size < wanted) throw damaged(path, size, `the file ends here; the checkpoint says ${wanted} bytes`);
      if (size > wanted) this.#changes.push(() => this.#cutFile(path, wanted));
      return this.#segment(log, { ...state, sizeBytes: wanted });
    } finally {
      await file.close();
    }
  }

  /** Files that are not part of the partition any more, or not yet: the checkpoint's list is complete. */
  #planLeftovers(log: PartitionLog, names: readonly string[]): void {
    const needed = new Set<string>();
    const last = log.segments.at(-1);
    for (const segment of log.segments) {
      needed.add(`${segmentName(segment)}.log`);
      // The last segment is open again; an index of it is from a later time.
      if (segment !== last) needed.add(`${segmentName(segment)}.index`);
      log.nextGeneration = Math.max(log.nextGeneration, segment.generation + 1);
    }
    for (const name of names) {
      log.nextGeneration = Math.max(log.nextGeneration, (segmentGeneration(name) ?? 0) + 1);
      if (segmentBaseOffset(name) === null || needed.has(name)) continue;
      this.#changes.push(() => this.#disk.remove(`${log.directory}/${name}`));
      this.cleaned.add(log);
    }
  }

  async #cutFile(path: string, size: number): Promise<void> {
    const file = await this.#disk.open(path, 'write');
    try {
      await file.truncate(size);
    } finally {
      await file.close();
    }
  }

  #removeDirectory(name: string): void {
    this.#changes.push(() => this.#disk.removeDirectory(`${this.#segmentsDirectory}/${name}`));
  }
}

async function severalAtOnce<T>(items: readonly T[], work: (item: T, index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      await work(items[index] as T, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
}

/** @throws NaruError DATA_CORRUPT */
export function corruptReplay(key: PartitionKey, what: string): never {
  throw new NaruError('DATA_CORRUPT', `the journal does not fit its checkpoint: partition ${key}: ${what}`);
}
