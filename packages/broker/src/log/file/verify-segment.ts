/**
 * Verifies one segment: every batch of it, and its index.
 *
 * After a bad batch it looks for the next place where a batch stands that is intact and fits the offsets, so that the
 * report names the events that cannot be read, no more. Gaps between offsets are legal: compaction leaves them.
 *
 * The checksum of a batch does not cover its base offset; an offset that has rotted shows by not fitting its neighbours.
 */
import type { DiskFile, PartitionKey } from '@naru/base';
import { diskErrorCode } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { BATCH_HEADER_BYTES, crc32c } from '@naru/protocol/batch';
import { finding, offsetRange } from '../finding.ts';
import { readUint32 } from './byte-fields.ts';
import type { Segment, StoredHeader } from './segment.ts';
import { readStoredHeader } from './segment.ts';
import { IndexVerifier } from './verify-index.ts';
import type { VerifyContext } from '../verify-context.ts';
import { reportUnreadable } from '../verify-context.ts';
import { FileWindow, WINDOW_BYTES } from './verify-window.ts';

/** Where a batch has its checksum, what it covers, and the byte that tells the format. */
const CRC_AT = 17;
const CRC_START = 21;
const MAGIC_AT = 16;
const MAGIC = 2;
/** Bytes of places that looked like a batch and were none, in one segment, beyond which the search gives up. */
const MAX_SEARCH_BYTES = 1024 ** 3;

const RESTORE =
  'The broker serves everything else and answers DATA_CORRUPT for these. Restore the file from a backup, with the broker ' +
  'stopped; do not edit it';
const REFUSED = 'A broker refuses to start. Restore the file from a backup; keep everything else as it is';
const UNNEEDED = 'Nothing: retention has removed these events, and the file goes when its last ones do';

/** What is known of a segment from the checkpoint and the journal. */
export interface ExpectedSegment {
  readonly partition: PartitionKey;
  readonly segment: Segment;
  /** Offset after its last batch. */
  readonly endOffset: number;
  /** Where the partition begins that can be read. */
  readonly logStartOffset: number;
  /** The file was cut at {@link endOffset}: what is behind it is of no account. */
  readonly endsInside: boolean;
}

export async function verifySegment(context: VerifyContext, expected: ExpectedSegment): Promise<void> {
  const { segment, partition, endOffset } = expected;
  const path = segment.logPath;
  context.counts.segments += 1;
  let file: DiskFile;
  try {
    file = await context.disk.open(path, 'read');
  } catch (error) {
    if (diskErrorCode(error) !== 'ENOENT') return reportUnreadable(context, path, error);
    const offsets = offsetRange(segment.baseOffset, endOffset);
    context.report(finding('problem', path, 'the file is missing', REFUSED, { partition, offsets }));
    return;
  }
  try {
    const index = new IndexVerifier(context, segment, partition);
    if (segment.sealed) await index.load();
    const walk = new SegmentWalk(context, expected, file, await file.size(), index);
    await walk.run();
  } finally {
    await file.close();
  }
}

class SegmentWalk {
  readonly #context: VerifyContext;
  readonly #expected: ExpectedSegment;
  readonly #path: string;
  readonly #file: DiskFile;
  readonly #window: FileWindow;
  readonly #isShort: boolean;
  /** Where the batches end. */
  readonly #end: number;
  readonly #index: IndexVerifier;
  /** The last batch whose offsets fit, and the end offset before it. */
  #previous: StoredHeader | null = null;
  #endBefore: number;
  /** Offset after {@link #previous}. */
  #nextOffset: number;
  #saidTimestamp = false;
  #searchedBytes = 0;
  #countedTo = 0;

  constructor(
    context: VerifyContext,
    expected: ExpectedSegment,
    file: DiskFile,
    fileBytes: number,
    index: IndexVerifier,
  ) {
    const { segment } = expected;
    this.#context = context;
    this.#expected = expected;
    this.#path = segment.logPath;
    this.#file = file;
    this.#index = index;
    this.#isShort = fileBytes < segment.sizeBytes && !expected.endsInside;
    this.#end = Math.min(fileBytes, segment.sizeBytes);
    this.#endBefore = segment.baseOffset;
    this.#nextOffset = segment.baseOffset;
    this.#window = new FileWindow(file, fileBytes, (position) => this.#count(position));
  }

  async run(): Promise<void> {
    try {
      await this.#walk();
    } catch (error) {
      reportUnreadable(this.#context, this.#path, error);
    }
    this.#count(this.#end);
  }

  async #walk(): Promise<void> {
    const { endsInside, endOffset } = this.#expected;
    let at = 0;
    while (at < this.#end) {
      if (endsInside && this.#nextOffset >= endOffset) return;
      const header = await this.#headerAt(at);
      if (header !== null && (await this.#matchesChecksum(header))) {
        await this.#accept(header);
        at += header.sizeBytes;
        continue;
      }
      const next = await this.#nextIntact(at, header);
      if (next === null) return this.#reportRest(at, header);
      this.#reportDamage(at, header, next.baseOffset);
      at = next.position;
    }
    if (this.#isShort) this.#reportRest(at, null);
    else if (this.#previous !== null) this.#index.check(this.#previous);
  }

  /** Progress counts each byte once, however often it is read. */
  #count(position: number): void {
    const upTo = Math.min(position, this.#end);
    if (upTo <= this.#countedTo) return this.#context.checkSignal();
    const bytes = upTo - this.#countedTo;
    this.#countedTo = upTo;
    this.#context.advance(bytes);
  }

  async #headerAt(at: number): Promise<StoredHeader | null> {
    if (at + BATCH_HEADER_BYTES > this.#end) return null;
    const bytes = this.#window.view(at, BATCH_HEADER_BYTES) ?? (await this.#window.load(at, BATCH_HEADER_BYTES));
    const header = readStoredHeader(bytes, 0, at);
    return header !== null && at + header.sizeBytes <= this.#end ? header : null;
  }

  async #matchesChecksum(header: StoredHeader): Promise<boolean> {
    const whole = this.#window.view(header.position, header.sizeBytes);
    if (whole !== null) return crc32c(whole.subarray(CRC_START)) === readUint32(whole, CRC_AT);
    const head = await this.#window.load(header.position, BATCH_HEADER_BYTES);
    const wanted = readUint32(head, CRC_AT);
    let crc = 0;
    const end = header.position + header.sizeBytes;
    for (let at = header.position + CRC_START; at < end;) {
      const bytes = await this.#window.load(at, Math.min(WINDOW_BYTES, end - at));
      if (bytes.length === 0) return false;
      crc = crc32c(bytes, crc);
      at += bytes.length;
    }
    return crc === wanted;
  }

  /** A batch that matches its checksum. */
  async #accept(header: StoredHeader): Promise<void> {
    this.#context.counts.batches += 1;
    const { segment, endOffset } = this.#expected;
    if (header.maxTimestampMs > segment.maxTimestampMs && !this.#saidTimestamp) {
      this.#saidTimestamp = true;
      const cause = `a batch has timestamp ${header.maxTimestampMs}, later than the checkpoint says of the segment (${segment.maxTimestampMs})`;
      const advice = 'Reading by offset is right; reading from a time on may miss events of this segment';
      this.#report('warning', header.position, cause, advice);
    }
    if (this.#context.decode !== undefined) await this.#decode(header, this.#context.decode);
    if (header.baseOffset < this.#nextOffset || header.lastOffset >= endOffset) {
      if (!this.#blamePrevious(header)) return;
    } else {
      // Only now is it known that the batch before has the right offsets.
      if (this.#previous !== null) this.#index.check(this.#previous);
      this.#endBefore = this.#nextOffset;
    }
    this.#previous = header;
    this.#nextOffset = header.lastOffset + 1;
  }

  /** Offsets do not fit. True when it is the batch before that has wrong ones: then this one counts. */
  #blamePrevious(header: StoredHeader): boolean {
    const { endOffset } = this.#expected;
    const previous = this.#previous;
    const fitsWithout = header.baseOffset >= this.#endBefore && header.lastOffset < endOffset;
    if (previous !== null && fitsWithout) {
      const cause = `the batch says that it holds offsets ${span(previous)}, and one with ${span(header)} follows`;
      this.#report('problem', previous.position, cause, RESTORE, this.#endBefore, header.baseOffset);
      return true;
    }
    const cause = `the batch says that it holds offsets ${span(header)}, at a place for ${this.#nextOffset} to ${endOffset - 1}`;
    this.#report('problem', header.position, cause, RESTORE);
    return false;
  }

  async #decode(header: StoredHeader, decode: (batch: Uint8Array) => number): Promise<void> {
    const { position, sizeBytes, baseOffset, lastOffset } = header;
    let bytes = sizeBytes <= WINDOW_BYTES ? await this.#window.load(position, sizeBytes) : new Uint8Array(sizeBytes);
    if (sizeBytes > WINDOW_BYTES) bytes = bytes.subarray(0, await this.#file.read(bytes, position));
    try {
      this.#context.counts.records += decode(bytes);
    } catch (error) {
      if (!isNaruError(error)) throw error;
      const cause = `the batch matches its checksum, but its records cannot be decoded: ${error.message}`;
      const advice = 'It was stored as it was sent: subscribers fail at it. Find out which publisher sent it';
      this.#report('problem', position, cause, advice, baseOffset, lastOffset + 1);
    }
  }

  /** The next batch after the bad one at `at` that is intact and whose offsets fit. */
  async #nextIntact(at: number, bad: StoredHeader | null): Promise<StoredHeader | null> {
    // Often only the records are damaged, and the size is right.
    const behind = bad === null ? null : await this.#headerAt(at + bad.sizeBytes);
    if (behind !== null && this.#fits(behind) && (await this.#matchesChecksum(behind))) return behind;
    for (let from = at + 1; from + BATCH_HEADER_BYTES <= this.#end;) {
      const bytes = await this.#window.load(from, Math.min(WINDOW_BYTES, this.#end - from));
      const found = this.#candidate(bytes, from);
      if (found === null) {
        if (bytes.length < BATCH_HEADER_BYTES) return null;
        from += bytes.length - BATCH_HEADER_BYTES + 1;
        continue;
      }
      if (await this.#matchesChecksum(found)) return found;
      this.#searchedBytes += found.sizeBytes;
      if (this.#searchedBytes > MAX_SEARCH_BYTES) return null;
      from = found.position + 1;
    }
    return null;
  }

  /** The first place in `bytes`, which stand at `from`, where a header may be whose offsets fit. */
  #candidate(bytes: Uint8Array, from: number): StoredHeader | null {
    const last = bytes.length - BATCH_HEADER_BYTES;
    for (let magic = bytes.indexOf(MAGIC, MAGIC_AT); magic >= 0; magic = bytes.indexOf(MAGIC, magic + 1)) {
      const i = magic - MAGIC_AT;
      if (i > last) return null;
      const header = readStoredHeader(bytes, i, from + i);
      if (header !== null && header.position + header.sizeBytes <= this.#end && this.#fits(header)) return header;
    }
    return null;
  }

  #fits(header: StoredHeader): boolean {
    return header.baseOffset >= this.#nextOffset && header.lastOffset < this.#expected.endOffset;
  }

  /** Nothing from `at` on can be read. */
  #reportRest(at: number, bad: StoredHeader | null): void {
    const { segment, endOffset } = this.#expected;
    if (!this.#isShort || bad !== null) return this.#reportDamage(at, bad, endOffset);
    const cause = `the file ends at byte ${this.#end}; the checkpoint says that it has ${segment.sizeBytes}`;
    // Of the last one, recovery compares the size.
    this.#report('problem', at, cause, segment.sealed ? RESTORE : REFUSED, this.#nextOffset, endOffset);
  }

  #reportDamage(at: number, bad: StoredHeader | null, endOffset: number): void {
    const cause = bad === null ? 'no whole record batch begins here' : 'the batch does not match its checksum';
    this.#report('problem', at, cause, RESTORE, this.#nextOffset, endOffset);
    this.#endBefore = this.#nextOffset;
    this.#previous = null;
    this.#nextOffset = Math.max(this.#nextOffset, Math.min(endOffset, this.#expected.endOffset));
  }

  #report(severity: 'problem' | 'warning', position: number, cause: string, advice: string, first = 0, end = 0): void {
    const { partition, logStartOffset } = this.#expected;
    const offsets = offsetRange(first, end);
    if (severity === 'problem') this.#index.stop();
    const isNeeded = offsets === null || offsets.last >= logStartOffset;
    const place = { position, partition, offsets };
    this.#context.report(
      finding(isNeeded ? severity : 'warning', this.#path, cause, isNeeded ? advice : UNNEEDED, place),
    );
  }
}

function span(header: StoredHeader): string {
  return `${header.baseOffset} to ${header.lastOffset}`;
}
