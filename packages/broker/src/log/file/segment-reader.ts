/**
 * Reads batches from segment files, and keeps the indexes that this needs.
 *
 * Owns loading and dropping of indexes. Every batch that it returns has matched its checksum.
 *
 * A partition may lose segments while a read waits for the disk: the caller compares the partition's epoch and asks again.
 */
import type { Disk, DiskFile } from '@naru/base';
import { diskErrorCode } from '@naru/base';
import { BATCH_HEADER_BYTES } from '@naru/protocol/batch';
import type { StoredBatch } from '../log-store.ts';
import { readWholeFile } from './checkpoint.ts';
import type { HandleCache } from './handle-cache.ts';
import type { FileLogLimits } from './limits.ts';
import type { PartitionLog } from './partition-log.ts';
import { ReadBudget } from './read-budget.ts';
import type { Segment, StoredHeader } from './segment.ts';
import { batchOrDamage, checkedBatch, damaged, readStoredHeader, walkBatches } from './segment.ts';
import { isIntact, nextIntactBatch, walkAroundRot } from './segment-rot.ts';
import { DamagedFileError } from './damaged-file-error.ts';
import { NO_TIMESTAMP, SparseIndex } from './sparse-index.ts';

/** What one read looks for. */
interface Wanted {
  readonly offset: number;
  readonly maxBytes: number;
  /** Batches that reach it are not returned. */
  readonly limitOffset: number;
}

/** Where parsing of a read's bytes came to. */
interface Parsed {
  readonly batches: StoredBatch[];
  /** Bytes that were looked at. */
  readonly consumed: number;
  /** Bytes that the batch after them needs; 0 when the limit was reached. */
  readonly needed: number;
  /** Position of the last batch that was passed, in the file; null when there was none. */
  readonly lastAt: number | null;
}

/** What looking for a time came to in one segment. */
interface Seen {
  found: StoredHeader | null;
  /** The first batch that is not to be looked at, by its header. */
  beyond: StoredHeader | null;
  /** Damage right before the end of the search: it may be what is looked for. */
  rot: DamagedFileError | null;
}

/** The first thing that one read looks for is damaged. */
interface Rotten {
  readonly damage: DamagedFileError;
  readonly lastAt: number | null;
}

export class SegmentReader {
  readonly #disk: Disk;
  readonly #handles: HandleCache;
  readonly #limits: FileLogLimits;
  readonly #budget: ReadBudget;
  /** Closed segments whose index is loaded, in order of use. */
  readonly #loaded = new Set<Segment>();

  constructor(disk: Disk, handles: HandleCache, limits: FileLogLimits) {
    this.#disk = disk;
    this.#handles = handles;
    this.#limits = limits;
    this.#budget = new ReadBudget(limits.readingBytes);
  }

  /** Batches from the one that holds `offset` (or the next) on, with lastOffset below `limitOffset`. */
  async read(log: PartitionLog, offset: number, maxBytes: number, limitOffset: number): Promise<StoredBatch[]> {
    const wanted = { offset, maxBytes: Math.min(maxBytes, this.#limits.readBytes), limitOffset };
    const { epoch } = log;
    let segment = segmentFor(log, offset);
    while (segment !== undefined) {
      const batches = await this.#readSegment(segment, wanted);
      if (batches.length > 0 || log.epoch !== epoch) return batches;
      segment = segmentAfter(log, segment);
    }
    return [];
  }

  /** The first batch with `timestampMs` or later, from the log start offset on, with lastOffset below `limitOffset`. */
  async findByTimestamp(log: PartitionLog, timestampMs: number, limitOffset: number): Promise<StoredBatch | null> {
    const { epoch } = log;
    const from = log.logStartOffset;
    let segment = segmentFor(log, from);
    while (segment !== undefined && log.epoch === epoch) {
      if (segment.maxTimestampMs >= timestampMs) {
        const found = await this.#findInSegment(segment, timestampMs, from, limitOffset);
        if (found !== null) return found;
      }
      segment = segmentAfter(log, segment);
    }
    return null;
  }

  /** Position of the first batch of `segment` that holds `offset` or is beyond it; its size when there is none. */
  async positionOf(segment: Segment, offset: number): Promise<number> {
    await this.ensureIndex(segment);
    return this.#handles.withFile(segment.logPath, 'read', (file) =>
      positionInFile(file, segment.logPath, segment.index.positionOfOffset(offset), segment.sizeBytes, offset),
    );
  }

  /** Offset and position of the first batch of `segment` at `position` or beyond it; null when there is none. */
  async batchAt(segment: Segment, position: number): Promise<{ baseOffset: number; position: number } | null> {
    await this.ensureIndex(segment);
    const from = segment.index.positionBefore(position);
    return this.#handles.withFile(segment.logPath, 'read', async (file) => {
      let found: StoredHeader | null = null;
      await walkAroundRot(file, segment.logPath, from, segment.sizeBytes, (header) => {
        if (header.position < position) return undefined;
        found = header;
        return false;
      });
      return found;
    });
  }

  /** A segment was closed: its index, which is in memory, counts from now on. */
  noteSealed(segment: Segment): void {
    this.#touch(segment);
  }

  forget(segment: Segment): void {
    this.#loaded.delete(segment);
  }

  async #readSegment(segment: Segment, wanted: Wanted): Promise<StoredBatch[]> {
    await this.ensureIndex(segment);
    const end = segment.sizeBytes;
    let at = segment.index.positionOfOffset(wanted.offset);
    let lastAt = at - 1;
    let length = wanted.maxBytes + this.#limits.indexIntervalBytes;
    return this.#budget.use(Math.min(length, end), () =>
      this.#handles.withFile(segment.logPath, 'read', async (file) => {
        while (at < end) {
          const bytes = Buffer.allocUnsafeSlow(Math.min(Math.max(length, BATCH_HEADER_BYTES), end - at));
          const read = await file.read(bytes, at);
          if (read < bytes.length) throw damaged(segment.logPath, at + read, 'the file ends before its batches do');
          const parsed = parse(bytes, at, segment.logPath, wanted);
          if ('damage' in parsed) {
            at = await behindRot(file, parsed.damage, parsed.lastAt ?? lastAt, end, wanted.offset);
            continue;
          }
          lastAt = parsed.lastAt ?? lastAt;
          if (parsed.batches.length > 0 || parsed.needed === 0) return parsed.batches;
          at += parsed.consumed;
          if (at < end && at + parsed.needed > end) {
            const damage = damaged(segment.logPath, at, 'no whole record batch begins here');
            at = await behindRot(file, damage, lastAt, end, wanted.offset);
            continue;
          }
          length = Math.max(parsed.needed, wanted.maxBytes);
        }
        return [];
      }),
    );
  }

  async #findInSegment(
    segment: Segment,
    timestampMs: number,
    from: number,
    limitOffset: number,
  ): Promise<StoredBatch | null> {
    await this.ensureIndex(segment);
    const { index } = segment;
    const start = Math.max(index.positionOfTimestamp(timestampMs), index.positionOfOffset(from));
    return this.#handles.withFile(segment.logPath, 'read', async (file) => {
      const seen: Seen = { found: null, beyond: null, rot: null };
      const visit = (header: StoredHeader): boolean | undefined => {
        if (header.lastOffset >= limitOffset) seen.beyond = header;
        else if (header.lastOffset >= from && header.maxTimestampMs >= timestampMs) seen.found = header;
        else seen.rot = null;
        return seen.beyond === null && seen.found === null ? undefined : false;
      };
      for (let at = start; ;) {
        await walkAroundRot(file, segment.logPath, at, segment.sizeBytes, visit, (damage) => {
          seen.rot = damage;
        });
        const { beyond } = seen;
        if (beyond === null || (await isIntact(file, beyond))) break;
        seen.beyond = null;
        seen.rot = damaged(segment.logPath, beyond.position, 'the batch does not match its checksum');
        const next = await nextIntactBatch(file, beyond.position + 1, segment.sizeBytes);
        if (next === null) break;
        at = next.position;
      }
      if (seen.rot !== null) throw seen.rot;
      return seen.found === null ? null : await readBatch(file, seen.found, segment.logPath);
    });
  }

  /** Makes the index of `segment` complete, from its file or by walking the segment. */
  async ensureIndex(segment: Segment): Promise<void> {
    while (segment.indexedFrom > 0) {
      segment.loading ??= this.#load(segment).finally(() => {
        segment.loading = null;
      });
      await segment.loading;
    }
    if (segment.sealed) this.#touch(segment);
  }

  #touch(segment: Segment): void {
    this.#loaded.delete(segment);
    this.#loaded.add(segment);
    if (this.#loaded.size <= this.#limits.loadedIndexes) return;
    const [oldest] = this.#loaded;
    if (oldest === undefined) return;
    this.#loaded.delete(oldest);
    if (!oldest.sealed) return;
    oldest.index = new SparseIndex(this.#limits.indexIntervalBytes);
    oldest.indexedFrom = oldest.sizeBytes;
  }

  async #load(segment: Segment): Promise<void> {
    const upTo = segment.indexedFrom;
    const stored = segment.sealed && upTo === segment.sizeBytes ? await this.#readIndexFile(segment) : null;
    if (stored !== null) {
      if (segment.indexedFrom !== upTo) return;
      segment.index = stored;
      segment.indexedFrom = 0;
      return;
    }
    const before = new SparseIndex(this.#limits.indexIntervalBytes);
    let maxTimestampMs = NO_TIMESTAMP;
    // A read that comes to a damaged place meets it again; what lies before it and behind it stays readable.
    await this.#handles.withFile(segment.logPath, 'read', (file) =>
      walkAroundRot(
        file,
        segment.logPath,
        0,
        upTo,
        (header) => {
          before.note(header.baseOffset, header.position, maxTimestampMs);
          maxTimestampMs = Math.max(maxTimestampMs, header.maxTimestampMs);
          return undefined;
        },
        () => {
          // Nobody knows what times are there: who looks for a time has to come past it.
          maxTimestampMs = Number.MAX_SAFE_INTEGER;
        },
      ),
    );
    if (segment.indexedFrom !== upTo) return;
    segment.index.prepend(before, maxTimestampMs);
    segment.indexedFrom = 0;
  }

  async #readIndexFile(segment: Segment): Promise<SparseIndex | null> {
    try {
      const bytes = await readWholeFile(this.#disk, segment.indexPath);
      return SparseIndex.decode(bytes, segment.sizeBytes, this.#limits.indexIntervalBytes);
    } catch (error) {
      if (diskErrorCode(error) === undefined) throw error;
      return null;
    }
  }
}

/**
 * Position, from `from` on, of the first batch that holds `offset` or is beyond it; `to` when there is none. Bytes after the
 * batch that ends right before `offset` are not looked at: after a crash they may be anything.
 */
export async function positionInFile(
  file: DiskFile,
  path: string,
  from: number,
  to: number,
  offset: number,
): Promise<number> {
  let position = to;
  await walkBatches(file, path, from, to, (header) => {
    if (header.lastOffset + 1 < offset) return undefined;
    position = header.lastOffset >= offset ? header.position : header.position + header.sizeBytes;
    return false;
  });
  return position;
}

async function readBatch(file: DiskFile, header: StoredHeader, path: string): Promise<StoredBatch> {
  const bytes = Buffer.allocUnsafeSlow(header.sizeBytes);
  const read = await file.read(bytes, header.position);
  if (read < bytes.length) throw damaged(path, header.position + read, 'the file ends before its batches do');
  return checkedBatch(bytes, 0, header, path);
}

/**
 * Position of the next whole batch behind `damage`, when that is no later than `offset`; otherwise the damage is thrown.
 *
 * @param lastAt where the batch before it begins, which may be what is damaged: its size led here
 */
async function behindRot(
  file: DiskFile,
  damage: DamagedFileError,
  lastAt: number,
  end: number,
  offset: number,
): Promise<number> {
  const next = await nextIntactBatch(file, lastAt + 1, end);
  if (next === null || next.baseOffset > offset) throw damage;
  return next.position;
}

/**
 * Takes the batches out of `bytes`, which stand at `position` in the file and begin with a batch: those before the first
 * damage, or else the damage.
 */
function parse(bytes: Uint8Array, position: number, path: string, wanted: Wanted): Parsed | Rotten {
  const batches: StoredBatch[] = [];
  let lastAt: number | null = null;
  let total = 0;
  for (let at = 0; ;) {
    if (bytes.length - at < BATCH_HEADER_BYTES) return { batches, lastAt, consumed: at, needed: BATCH_HEADER_BYTES };
    const header = readStoredHeader(bytes, at, position + at);
    if (header === null) {
      if (batches.length > 0) return { batches, lastAt, consumed: at, needed: 0 };
      return { damage: damaged(path, position + at, 'no record batch begins here'), lastAt };
    }
    const isBeyond = header.lastOffset >= wanted.limitOffset;
    if (isBeyond && batches.length > 0) return { batches, lastAt, consumed: at, needed: 0 };
    if (at + header.sizeBytes > bytes.length) return { batches, lastAt, consumed: at, needed: header.sizeBytes };
    if (header.lastOffset >= wanted.offset) {
      const isEnough = batches.length > 0 && total + header.sizeBytes > wanted.maxBytes;
      const batch = isEnough ? null : batchOrDamage(bytes, at, header, path);
      if (batch instanceof DamagedFileError && batches.length === 0)
        return { damage: batch, lastAt: lastAt ?? position + at };
      // A header that says that the limit is reached was checked like any other: all that follows would be passed over.
      if (batch === null || batch instanceof DamagedFileError || isBeyond)
        return { batches, lastAt, consumed: at, needed: 0 };
      batches.push(batch);
      total += header.sizeBytes;
    }
    lastAt = position + at;
    at += header.sizeBytes;
  }
}

/** The segment that holds `offset`, or the first one after it. */
function segmentFor(log: PartitionLog, offset: number): Segment | undefined {
  const { segments } = log;
  let low = 0;
  let high = segments.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((segments[middle] as Segment).baseOffset <= offset) low = middle + 1;
    else high = middle;
  }
  return segments[Math.max(low - 1, 0)];
}

function segmentAfter(log: PartitionLog, segment: Segment): Segment | undefined {
  const next = segmentFor(log, segment.baseOffset);
  const index = next === undefined ? -1 : log.segments.indexOf(next);
  return log.segments[index + 1];
}
