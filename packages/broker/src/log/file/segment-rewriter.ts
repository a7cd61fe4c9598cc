/**
 * Compaction of a partition's files: reads closed segments, writes what a rewriter makes of their batches to new files, and
 * puts these in the place of the old ones.
 *
 * Owns the rewrite under way, one at a time. New files are made in a directory of their own, synced, and come into the
 * partition's directory and list in one step between the segment writer's steps, all together; so what fails before that
 * has changed nothing. The old files stay until a checkpoint that does not list them is durable (Checkpointer): until then a
 * crash takes the rewrite back, which is as good as if it had not been.
 *
 * What happens to the partition meanwhile wins: a truncate throws away what was made of offsets at and beyond it, a removal
 * of expired segments leaves those out, a delete ends the rewrite.
 *
 * Failures: the output is thrown away and the rewrite rejects; the store stays as it is, also when a sync failed, for
 * nothing else has been built on what that should have made durable.
 *
 * Space: the output of the whole partition beside what it replaces, until the next checkpoint.
 */
import type { Disk } from '@naru/base';
import { assert, diskErrorCode } from '@naru/base';
import { BATCH_HEADER_BYTES } from '@naru/protocol/batch';
import { rewrittenBatch, unknownPartition } from '../append-entry.ts';
import type { Rewriter, StoredBatch } from '../log-store.ts';
import type { ClosedSegment } from './compaction-status.ts';
import { rewritableSegments } from './compaction-status.ts';
import { storageError } from './data-directory.ts';
import type { HandleCache } from './handle-cache.ts';
import type { FileLogLimits } from './limits.ts';
import type { PartitionLog } from './partition-log.ts';
import { RewrittenFile } from './rewritten-file.ts';
import { Segment, checkedBatch, damaged, readStoredHeader } from './segment.ts';
import type { SegmentReader } from './segment-reader.ts';
import type { SegmentWriter } from './segment-writer.ts';
import type { TailCache } from './tail-cache.ts';

export interface SegmentRewriterOptions {
  readonly disk: Disk;
  /** Where output is made. Nothing else is in it, and recovery empties it. */
  readonly directory: string;
  readonly limits: FileLogLimits;
  readonly handles: HandleCache;
  readonly reader: SegmentReader;
  readonly writer: SegmentWriter;
  readonly cache: TailCache;
}

/** Consecutive segments that become one. */
interface Group {
  readonly segments: Segment[];
  /** Offset after the last one. */
  end: number;
  readonly output: RewrittenFile;
  /** Whether replacing makes a difference. */
  isChanged: boolean;
}

/** One call. */
interface Rewrite {
  readonly log: PartitionLog;
  readonly rewriter: Rewriter;
  /** Holds the partition's newest batch as its last one; null when that is not among the input. */
  readonly newestIn: Segment | null;
}

export class SegmentRewriter {
  readonly #options: SegmentRewriterOptions;
  #running: Promise<void> | null = null;
  #stopped: Error | null = null;

  constructor(options: SegmentRewriterOptions) {
    this.#options = options;
  }

  /** As LogStore.rewrite. */
  rewrite(log: PartitionLog, endOffset: number, rewriter: Rewriter): Promise<void> {
    if (this.#stopped !== null) return Promise.reject(this.#stopped);
    assert(this.#running === null, 'one rewrite at a time');
    const run = this.#run(log, endOffset, rewriter);
    const settled = (): void => {
      this.#running = null;
    };
    this.#running = run.then(settled, settled);
    return run;
  }

  /** Ends the rewrite under way with `reason`. */
  stop(reason: Error): void {
    this.#stopped ??= reason;
  }

  /** After {@link stop}: settles when nothing touches the disk any more. */
  async stopped(): Promise<void> {
    await this.#running;
  }

  async #run(log: PartitionLog, endOffset: number, rewriter: Rewriter): Promise<void> {
    const input = rewritableSegments(log, endOffset);
    const inputEnd = input.at(-1)?.end ?? 0;
    const filled = input.findLast(({ segment }) => segment.sizeBytes > 0);
    if (filled === undefined) return;
    log.rewriteCut = log.pendingCut;
    const newestIn = log.endOffset <= inputEnd ? filled.segment : null;
    const groups: Group[] = [];
    try {
      await this.#produce({ log, rewriter, newestIn }, input, groups);
      await this.#options.writer.between(log, () => this.#replace(log, groups));
    } catch (error) {
      if (this.#stopped !== null) throw this.#stopped;
      throw diskErrorCode(error) === undefined ? error : storageError(error, `compacting partition ${log.key}`);
    } finally {
      await discardOutputs(groups);
    }
  }

  #checkWanted(log: PartitionLog): void {
    if (this.#stopped !== null) throw this.#stopped;
    if (log.deleted) throw unknownPartition(log.key);
  }

  /** Makes the output, segment by segment; into one file as long as another whole segment surely fits. */
  async #produce(rewrite: Rewrite, input: readonly ClosedSegment[], groups: Group[]): Promise<void> {
    const { disk, directory, limits } = this.#options;
    const { log } = rewrite;
    for (const { segment, end } of input) {
      let group = groups.at(-1);
      if (group !== undefined && group.output.sizeBytes + segment.sizeBytes <= limits.segmentBytes)
        group.isChanged = true;
      else {
        await group?.output.finish();
        const output = new RewrittenFile(disk, `${directory}/${groups.length}`, limits);
        group = { segments: [], end, output, isChanged: false };
        groups.push(group);
        await output.create();
      }
      group.segments.push(segment);
      group.end = end;
      await this.#copy(rewrite, segment, group);
      // The files are being cut: neither this output nor any after it will be used.
      if (log.rewriteCut <= end) return;
    }
    await groups.at(-1)?.output.finish();
  }

  async #copy(rewrite: Rewrite, segment: Segment, group: Group): Promise<void> {
    const { rewriteChunkBytes } = this.#options.limits;
    const { sizeBytes } = segment;
    // Expired, or cut: then the whole output is thrown away.
    const isGone = (): boolean => segment.removed || segment.sizeBytes !== sizeBytes;
    for (let at = 0, length = rewriteChunkBytes; at < sizeBytes;) {
      this.#checkWanted(rewrite.log);
      const bytes = Buffer.allocUnsafeSlow(Math.min(length, sizeBytes - at));
      try {
        await this.#read(segment, bytes, at);
      } catch (error) {
        if (!isGone() && !rewrite.log.deleted) throw error;
      }
      this.#checkWanted(rewrite.log);
      if (isGone()) return;
      const taken = take(rewrite, segment, bytes, at, group.output);
      if (taken.isChanged) group.isChanged = true;
      at += taken.consumed;
      length = Math.max(rewriteChunkBytes, taken.needed);
      await group.output.write();
    }
  }

  async #read(segment: Segment, bytes: Uint8Array, at: number): Promise<void> {
    const read = await this.#options.handles.withFile(segment.logPath, 'read', (file) => file.read(bytes, at));
    if (read < bytes.length) throw damaged(segment.logPath, at + read, 'the file ends before its batches do');
  }

  /** Between two steps of the segment writer: nothing is cut or removed meanwhile, though it may be asked for. */
  async #replace(log: PartitionLog, groups: readonly Group[]): Promise<void> {
    this.#checkWanted(log);
    const placed = new Map<Group, Segment>();
    try {
      for (const group of groups) {
        if (log.rewriteCut <= group.end) break;
        await this.#place(log, group, placed);
      }
      this.#checkWanted(log);
    } catch (error) {
      await this.#unplace(log, [...placed.values()]);
      throw error;
    }
    // From here to the end of the list nothing waits: readers see the old segments or the new ones.
    this.#options.writer.dirtyDirectories.add(log);
    let cleanEnd = log.cleanEnd;
    for (const group of groups) {
      if (log.rewriteCut <= group.end) break;
      this.#swap(log, group, placed.get(group));
      placed.delete(group);
      cleanEnd = group.end;
    }
    log.cleanEnd = Math.max(log.cleanEnd, cleanEnd);
    await this.#unplace(log, [...placed.values()]);
  }

  /** Moves the output, when there is any to use, into the partition's directory, under a name that nothing else has. */
  async #place(log: PartitionLog, group: Group, placed: Map<Group, Segment>): Promise<void> {
    const { output, isChanged, segments } = group;
    if (!isChanged || output.sizeBytes === 0 || segments.every(({ removed }) => removed)) return;
    const { baseOffset } = segments[0] as Segment;
    const { sizeBytes, maxTimestampMs } = output;
    const createdMs = Math.min(...segments.map((segment) => segment.createdMs));
    const state = { baseOffset, generation: log.takeGeneration(), sizeBytes, maxTimestampMs, createdMs };
    const segment = new Segment(log.directory, state, this.#options.limits.indexIntervalBytes);
    segment.closed = true;
    segment.sealed = true;
    segment.index = output.index;
    segment.indexedFrom = 0;
    placed.set(group, segment);
    await output.moveTo(segment.path);
  }

  #swap(log: PartitionLog, group: Group, replacement: Segment | undefined): void {
    if (!group.isChanged) return;
    const { reader, cache, writer } = this.#options;
    const replaced = group.segments.filter(({ removed }) => !removed);
    const [first] = replaced;
    if (first === undefined) return;
    const index = log.segments.indexOf(first);
    const found = log.segments.splice(index, replaced.length, ...(replacement === undefined ? [] : [replacement]));
    assert(index >= 0 && found.at(-1) === replaced.at(-1), 'what is replaced stands together in the list');
    log.segmentBytes += replacement?.sizeBytes ?? 0;
    for (const segment of replaced) {
      log.segmentBytes -= segment.sizeBytes;
      reader.forget(segment);
    }
    writer.supersede(log, replaced);
    if (replacement !== undefined) reader.noteSealed(replacement);
    const evicted: StoredBatch[] = [];
    for (
      let oldest = log.tail.first();
      oldest !== undefined && oldest.lastOffset < group.end;
      oldest = log.tail.first()
    ) {
      evicted.push(log.evict());
    }
    cache.noteRemoved(evicted);
    log.epoch += 1;
  }

  /** Removes files that did not come into the list. Should that fail, recovery does it: no checkpoint names them. */
  async #unplace(log: PartitionLog, segments: readonly Segment[]): Promise<void> {
    for (const { logPath, indexPath } of segments) {
      if (log.deleted) return;
      await this.#options.disk.remove(logPath).catch(() => undefined);
      await this.#options.disk.remove(indexPath).catch(() => undefined);
    }
  }
}

/** Takes whole batches from `bytes`, which stand at `position` in the file, into `output`. */
function take(
  { log, rewriter, newestIn }: Rewrite,
  segment: Segment,
  bytes: Uint8Array,
  position: number,
  output: RewrittenFile,
): { consumed: number; needed: number; isChanged: boolean } {
  let isChanged = false;
  let at = 0;
  for (; at < bytes.length;) {
    const atEnd = position + bytes.length === segment.sizeBytes;
    if (bytes.length - at < BATCH_HEADER_BYTES && !atEnd)
      return { consumed: at, needed: BATCH_HEADER_BYTES, isChanged };
    const header = readStoredHeader(bytes, at, position + at);
    if (header === null || position + at + header.sizeBytes > segment.sizeBytes) {
      throw damaged(segment.logPath, position + at, 'no whole record batch begins here');
    }
    if (at + header.sizeBytes > bytes.length) return { consumed: at, needed: header.sizeBytes, isChanged };
    const batch = checkedBatch(bytes, at, header, segment.logPath);
    at += header.sizeBytes;
    // Below the log start offset: gone for readers already.
    if (batch.lastOffset < log.logStartOffset) continue;
    const isNewest = segment === newestIn && position + at === segment.sizeBytes;
    const rewritten = rewrittenBatch(batch, rewriter(batch)) ?? (isNewest ? batch : null);
    if (rewritten !== batch) isChanged = true;
    if (rewritten !== null) output.add(rewritten);
  }
  return { consumed: at, needed: 0, isChanged };
}

/** Best effort: the next rewrite writes over what is left, recovery removes it. */
async function discardOutputs(groups: readonly Group[]): Promise<void> {
  for (const { output } of groups) await output.remove().catch(() => undefined);
}

/** What a rewrite left that a crash ended. */
export async function clearRewriteDirectory(disk: Disk, directory: string): Promise<void> {
  for (const name of await disk.list(directory)) await disk.remove(`${directory}/${name}`);
}
