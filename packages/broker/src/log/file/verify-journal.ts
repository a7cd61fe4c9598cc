/**
 * Verifies the journal after a checkpoint: the chain of frames, the batches in them, and that what they do fits what there
 * was. Goes on behind a damaged frame, so that the report names what is lost with it.
 *
 * Owns a model of the partitions that is as simple as can be: where each begins and ends.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { crc32c } from '@naru/protocol/batch';
import type { OffsetRange } from '../finding.ts';
import { finding, offsetRange } from '../finding.ts';
import type { StoredBatch } from '../log-store.ts';
import { readUint32 } from './byte-fields.ts';
import type { Checkpoint } from './checkpoint.ts';
import { DamagedFileError } from './damaged-file-error.ts';
import type { DataPaths } from './data-directory.ts';
import { readUnsyncedMark } from './data-directory.ts';
import { journalFileName } from './journal-files.ts';
import type { FrameEntry } from './journal-frame.ts';
import { ENTRY, alignUp } from './journal-frame.ts';
import type { FrameLocation, FrameVisitor, JournalPlace } from './journal-recovery.ts';
import { JournalReader } from './journal-recovery.ts';
import { JournalHistory } from './recovery-plan.ts';
import { readStoredHeader } from './segment.ts';
import type { VerifyContext } from '../verify-context.ts';
import { reportUnreadable } from '../verify-context.ts';

const CRC_AT = 17;
const CRC_START = 21;

const DAMAGED =
  'A broker refuses to start. Restore the whole data directory from a backup, or ask for help with a copy of it; change nothing ' +
  'in it, for the segments may hold some of these events already';
const UNFIT =
  'A broker refuses to start. Restore the whole data directory from one backup; do not mix files of several';

/** Where a partition begins, and offset after its last record. */
export interface PartitionEnds {
  logStartOffset: number;
  endOffset: number;
}

export interface VerifiedJournal {
  readonly history: JournalHistory;
  /** As they are after the last frame. */
  readonly partitions: ReadonlyMap<PartitionKey, PartitionEnds>;
  /** Sequence of the last intact frame that follows its predecessor; the checkpoint's when there is none. */
  readonly reached: number;
  /** False when frames are damaged, or could not be read. */
  readonly isWhole: boolean;
}

export async function verifyJournal(
  context: VerifyContext,
  paths: DataPaths,
  checkpoint: Checkpoint,
): Promise<VerifiedJournal> {
  const model = new JournalModel(context, paths.journal, checkpoint);
  const verified = { history: model.history, partitions: model.partitions };
  let reader: JournalReader;
  try {
    reader = await JournalReader.open(context.disk, paths.journal, checkpoint.journalId);
  } catch (error) {
    reportUnreadable(context, paths.journal, error);
    return { ...verified, reached: checkpoint.sequence, isWhole: false };
  }
  try {
    return { ...verified, ...(await model.read(reader, await readUnsyncedMark(context.disk, paths))) };
  } catch (error) {
    reportUnreadable(context, paths.journal, error);
    return { ...verified, reached: checkpoint.sequence, isWhole: false };
  } finally {
    await reader.close();
  }
}

class JournalModel {
  readonly history = new JournalHistory();
  readonly partitions = new Map<PartitionKey, PartitionEnds>();
  readonly #context: VerifyContext;
  readonly #directory: string;
  readonly #checkpoint: Checkpoint;
  /** The frame read last. */
  #sequence: number;
  #end: JournalPlace;
  /** Where frames are missing, the first of them: partitions of {@link #checked} were seen since. */
  #gap: { readonly place: JournalPlace; readonly checked: Set<PartitionKey> } | null = null;

  constructor(context: VerifyContext, directory: string, checkpoint: Checkpoint) {
    this.#context = context;
    this.#directory = directory;
    this.#checkpoint = checkpoint;
    this.#sequence = checkpoint.sequence;
    this.#end = checkpoint.journalPlace;
    for (const { key, logStartOffset, endOffset } of checkpoint.partitions) {
      this.partitions.set(key, { logStartOffset, endOffset });
    }
  }

  async read(reader: JournalReader, mayHaveHoles: boolean): Promise<Pick<VerifiedJournal, 'reached' | 'isWhole'>> {
    let reached: number | null = null;
    for (;;) {
      try {
        const visit: FrameVisitor = (entries, location) => this.#visit(entries, location);
        await reader.scan(this.#sequence, this.#end, visit, mayHaveHoles);
        break;
      } catch (error) {
        if (!(error instanceof DamagedFileError)) throw error;
        reached ??= this.#sequence;
        this.#context.report(finding('problem', error.path, error.what, DAMAGED, { position: error.position }));
        if (!(await this.#skip(reader))) break;
      }
    }
    if (mayHaveHoles) await this.#tellHole(reader);
    else if (reached === null) await this.#tellTornTail(reader);
    return { reached: reached ?? this.#sequence, isWhole: reached === null };
  }

  /** Goes on with the next intact frame, if there is one. */
  async #skip(reader: JournalReader): Promise<boolean> {
    // At least one further: the frame may be intact and yet have no proper entries.
    const later = await reader.findLater(this.#end, this.#sequence + 2);
    if (later === null) return false;
    this.#gap = { place: this.#end, checked: new Set() };
    this.#sequence = later.sequence - 1;
    this.#end = { fileNumber: later.fileNumber, position: later.position };
    return true;
  }

  /** Without a synced journal a power cut may leave later frames and not this one: then none of them counts. */
  async #tellHole(reader: JournalReader): Promise<void> {
    const later = await reader.findLater(this.#end, this.#sequence + 1);
    if (later === null) return;
    const cause = `frame ${this.#sequence + 1} is missing and later ones are there: the recovery log was not synced`;
    const advice = 'what was stored after it is lost; the broker starts without it';
    const path = `${this.#directory}/${journalFileName(this.#end.fileNumber)}`;
    this.#context.report(finding('warning', path, cause, advice, { position: this.#end.position }));
  }

  async #tellTornTail(reader: JournalReader): Promise<void> {
    const next = this.#sequence + 1;
    if (!(await reader.wasBegun(this.#end, next))) return;
    const cause = `frame ${next} was being written when the broker ended: none of it was acknowledged`;
    const advice = 'Nothing: the next start writes over it';
    this.#context.report(finding('info', this.#path(this.#end), cause, advice, { position: this.#end.position }));
  }

  #path({ fileNumber }: JournalPlace): string {
    return `${this.#directory}/${journalFileName(fileNumber)}`;
  }

  #visit(entries: FrameEntry[], location: FrameLocation): void {
    this.history.visit(entries);
    for (const entry of entries) this.#apply(entry, location);
    const bytes = alignUp(location.frameBytes);
    this.#sequence = location.sequence;
    this.#end = { fileNumber: location.fileNumber, position: location.position + bytes };
    this.#context.counts.journalFrames += 1;
    this.#context.advance(bytes);
  }

  #apply(entry: FrameEntry, location: FrameLocation): void {
    const { type, partition: key, offset, batch } = entry;
    const isFirstSinceGap = this.#gap !== null && !this.#gap.checked.has(key);
    this.#gap?.checked.add(key);
    let ends = this.partitions.get(key);
    if (type === ENTRY.create) {
      if (ends !== undefined) this.#unfit(key, location, 'it creates a partition that exists');
      this.partitions.set(key, { logStartOffset: offset, endOffset: offset });
      return;
    }
    if (ends === undefined) {
      if (!isFirstSinceGap) this.#unfit(key, location, 'it names a partition that does not exist');
      ends = { logStartOffset: 0, endOffset: offset };
      this.partitions.set(key, ends);
    }
    if (type === ENTRY.append && batch !== null) this.#append(key, ends, batch, location, isFirstSinceGap);
    else if (type === ENTRY.truncate) ends.endOffset = Math.min(ends.endOffset, offset);
    else if (type === ENTRY.deleteBefore) ends.logStartOffset = Math.max(ends.logStartOffset, offset);
    else if (type === ENTRY.delete) this.partitions.delete(key);
    else this.#unfit(key, location, `it holds an entry of unknown type ${type}`);
  }

  #append(
    key: PartitionKey,
    ends: PartitionEnds,
    batch: StoredBatch,
    location: FrameLocation,
    isFirstSinceGap: boolean,
  ): void {
    const { baseOffset, lastOffset } = batch;
    this.#context.counts.batches += 1;
    this.#checkBatch(key, batch, location);
    const gap = this.#gap;
    if (baseOffset < ends.endOffset) {
      this.#unfit(
        key,
        location,
        `it writes offset ${baseOffset} a second time`,
        offsetRange(baseOffset, lastOffset + 1),
      );
    } else if (isFirstSinceGap && gap !== null && baseOffset > ends.endOffset) {
      const offsets = offsetRange(ends.endOffset, baseOffset);
      const place = { position: gap.place.position, partition: key, offsets };
      const cause = 'events are lost with the frames that are missing or damaged here';
      this.#context.report(finding('problem', this.#path(gap.place), cause, DAMAGED, place));
    }
    ends.endOffset = Math.max(ends.endOffset, lastOffset + 1);
  }

  /** The frame's checksum says that it is what was written; this, that what was written is a batch. */
  #checkBatch(key: PartitionKey, batch: StoredBatch, location: FrameLocation): void {
    const { baseOffset, lastOffset, records } = batch;
    const header = readStoredHeader(records, 0, 0);
    const isWhole =
      header !== null &&
      header.sizeBytes === records.length &&
      header.baseOffset === baseOffset &&
      header.lastOffset === lastOffset &&
      crc32c(records.subarray(CRC_START)) === readUint32(records, CRC_AT);
    const offsets = offsetRange(baseOffset, lastOffset + 1);
    const position = location.position;
    const path = this.#path(location);
    if (!isWhole) {
      const cause = `frame ${location.sequence} is intact, but a batch in it is not`;
      const advice =
        'It was damaged before it was written: check the memory of the machine. Keep a copy of the directory';
      this.#context.report(finding('problem', path, cause, advice, { position, partition: key, offsets }));
      return;
    }
    if (this.#context.decode === undefined) return;
    try {
      this.#context.counts.records += this.#context.decode(records);
    } catch (error) {
      if (!isNaruError(error)) throw error;
      const cause = `a batch matches its checksum, but its records cannot be decoded: ${error.message}`;
      const advice = 'It was stored as it was sent: subscribers fail at it. Find out which publisher sent it';
      this.#context.report(finding('problem', path, cause, advice, { position, partition: key, offsets }));
    }
  }

  #unfit(key: PartitionKey, location: FrameLocation, what: string, offsets: OffsetRange | null = null): void {
    const place = { position: location.position, partition: key, offsets };
    const cause = `frame ${location.sequence} does not fit checkpoint ${this.#checkpoint.sequence}: ${what}`;
    this.#context.report(finding('problem', this.#path(location), cause, UNFIT, place));
  }
}
