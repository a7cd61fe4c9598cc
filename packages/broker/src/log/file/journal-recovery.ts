/**
 * Reading the journal after a crash: which frames count, and whether their end is a torn tail or damage.
 *
 * Frames are read from the one after the checkpoint's, sequence by sequence: each stands right behind the one before, or
 * at the beginning of another file. The first place where the next sequence is not found intact is the end.
 *
 * Why that end can be trusted:
 * - One write is outstanding at a time, and frame n + 1 is written only after frame n is durable. So after a crash at most
 *   the frame after the last durable one is there in part; it was never acknowledged. Frames begin on 4096-byte boundaries,
 *   so its torn sectors are not those of an acknowledged frame.
 * - Therefore an intact frame with a *higher* sequence anywhere after the end proves that the frame that is missing had
 *   been durable: damage. Then the store refuses to open and changes nothing.
 * - A stale frame (from before its file was recycled) is intact, but has a sequence that a checkpoint covers, hence a lower
 *   one. A sequence that was durable is never given again, and one that was not has no intact frame: the new frame of the
 *   same sequence goes to the same place, and what was left of the torn one behind it is not a frame, because frames
 *   carry the place where they stand, the random journal id and a CRC.
 * - A failing read is never taken for a torn tail: it rejects.
 *
 * A process that was killed leaves frames in the page cache that are not durable yet; {@link scanJournal}'s caller syncs the
 * files it found frames in before it builds on them.
 */
import type { Disk, DiskFile } from '@naru/base';
import { DamagedFileError } from './damaged-file-error.ts';
import { journalFileName, journalFileNumber } from './journal-files.ts';
import type { FrameEntry, FrameHeader } from './journal-frame.ts';
import {
  FRAME_ALIGNMENT,
  FRAME_HEADER_BYTES,
  alignUp,
  decodeEntries,
  decodeFrameHeader,
  frameIntact,
} from './journal-frame.ts';

/** Read from a journal file at a time. */
const WINDOW_BYTES = 4 * 1024 * 1024;

export interface JournalPlace {
  readonly fileNumber: number;
  readonly position: number;
}

export interface FrameLocation extends JournalPlace {
  readonly sequence: number;
  /** Without padding. */
  readonly frameBytes: number;
}

export interface JournalScan {
  /** Frames after the checkpoint, in order. */
  readonly frames: readonly FrameLocation[];
  /** Where the next frame goes. */
  readonly end: JournalPlace;
}

export type FrameVisitor = (entries: FrameEntry[], location: FrameLocation) => void;

/** An existing journal file, opened for reading, read through a window. */
export class JournalFileReader {
  readonly number: number;
  readonly sizeBytes: number;
  readonly file: DiskFile;
  #window = new Uint8Array(0);
  #windowAt = 0;

  constructor(number: number, file: DiskFile, sizeBytes: number) {
    this.number = number;
    this.file = file;
    this.sizeBytes = sizeBytes;
  }

  /** Up to `length` bytes from `position`; fewer at the end of the file. The bytes stay valid. */
  async bytes(position: number, length: number): Promise<Uint8Array> {
    const from = position - this.#windowAt;
    if (from >= 0 && from + length <= this.#window.length) return this.#window.subarray(from, from + length);
    const wanted = Math.min(Math.max(length, WINDOW_BYTES), Math.max(0, this.sizeBytes - position));
    const window = Buffer.allocUnsafeSlow(wanted);
    const read = await this.file.read(window, position);
    this.#window = window.subarray(0, read);
    this.#windowAt = position;
    return this.#window.subarray(0, Math.min(length, read));
  }
}

export class JournalReader {
  readonly #files = new Map<number, JournalFileReader>();
  readonly #journalId: Uint8Array;
  readonly #directory: string;

  private constructor(directory: string, journalId: Uint8Array) {
    this.#directory = directory;
    this.#journalId = journalId;
  }

  static async open(disk: Disk, directory: string, journalId: Uint8Array): Promise<JournalReader> {
    const reader = new JournalReader(directory, journalId);
    for (const name of await disk.list(directory)) {
      const number = journalFileNumber(name);
      if (number === null) continue;
      const file = await disk.open(`${directory}/${name}`, 'read');
      reader.#files.set(number, new JournalFileReader(number, file, await file.size()));
    }
    return reader;
  }

  get files(): readonly JournalFileReader[] {
    return [...this.#files.values()];
  }

  async close(): Promise<void> {
    for (const { file } of this.#files.values()) await file.close();
  }

  /**
   * Finds the frames after `sequence`, whose frame ends at `place`.
   *
   * @param visit gets the entries of each, and where it stands
   * @param mayHaveHoles frames were written without being durable: those beyond one that is missing count no more
   * @throws NaruError DATA_CORRUPT when a frame is damaged that had been durable
   */
  async scan(sequence: number, place: JournalPlace, visit: FrameVisitor, mayHaveHoles = false): Promise<JournalScan> {
    const frames: FrameLocation[] = [];
    let end = place;
    for (let next = sequence + 1; ; next++) {
      const found = (await this.#frameAt(end, next)) ?? (await this.#frameAtBeginning(next));
      if (found === null) {
        if (!mayHaveHoles) await this.#refuseDamage(end, next);
        return { frames, end };
      }
      frames.push(found);
      visit(await this.entries(found), found);
      end = { fileNumber: found.fileNumber, position: found.position + alignUp(found.frameBytes) };
    }
  }

  /** Entries of a frame that was found. */
  async entries(location: FrameLocation): Promise<FrameEntry[]> {
    const file = this.#files.get(location.fileNumber) as JournalFileReader;
    const frame = await file.bytes(location.position, location.frameBytes);
    const header = decodeFrameHeader(frame, this.#journalId, file.number, location.position);
    const entries = header === null ? null : decodeEntries(frame, header);
    if (entries === null) throw this.#corrupt(location, `frame ${location.sequence} has no proper entries`);
    return entries;
  }

  async #frameAt(place: JournalPlace, sequence: number): Promise<FrameLocation | null> {
    const file = this.#files.get(place.fileNumber);
    if (file === undefined) return null;
    const header = await this.#intactHeader(file, place.position, sequence);
    if (header === null || header.sequence !== sequence) return null;
    return { ...place, sequence, frameBytes: FRAME_HEADER_BYTES + header.payloadBytes };
  }

  async #frameAtBeginning(sequence: number): Promise<FrameLocation | null> {
    for (const { number } of this.#files.values()) {
      const found = await this.#frameAt({ fileNumber: number, position: 0 }, sequence);
      if (found !== null) return found;
    }
    return null;
  }

  /** The header of an intact frame at `position` whose sequence is at least `minSequence`, or null. */
  async #intactHeader(file: JournalFileReader, position: number, minSequence: number): Promise<FrameHeader | null> {
    const head = await file.bytes(position, FRAME_HEADER_BYTES);
    const header = decodeFrameHeader(head, this.#journalId, file.number, position);
    if (header === null || header.sequence < minSequence) return null;
    const frameBytes = FRAME_HEADER_BYTES + header.payloadBytes;
    if (position + frameBytes > file.sizeBytes) return null;
    return frameIntact(await file.bytes(position, frameBytes), header) ? header : null;
  }

  async #refuseDamage(end: JournalPlace, sequence: number): Promise<void> {
    const later = await this.findLater(end, sequence);
    if (later === null) return;
    const proof = `${journalFileName(later.fileNumber)} holds frame ${later.sequence} at byte ${later.position}`;
    throw this.#corrupt(end, `frame ${sequence} is missing or damaged, although ${proof}`);
  }

  /** The intact frame with the lowest sequence from `sequence` on, after frames that end at `end`; null when there is none. */
  async findLater(end: JournalPlace, sequence: number): Promise<FrameLocation | null> {
    let lowest: FrameLocation | null = null;
    for (const file of this.#files.values()) {
      const from = await this.#suspectFrom(file, end, sequence);
      for (let at = from; at + FRAME_HEADER_BYTES <= file.sizeBytes; at += FRAME_ALIGNMENT) {
        const header = await this.#intactHeader(file, at, sequence);
        if (header === null || (lowest !== null && header.sequence >= lowest.sequence)) continue;
        const frameBytes = FRAME_HEADER_BYTES + header.payloadBytes;
        lowest = { fileNumber: file.number, position: at, sequence: header.sequence, frameBytes };
      }
    }
    return lowest;
  }

  /** Every intact frame from `sequence` on, wherever it stands: what is left beyond a hole. */
  async allFrom(sequence: number): Promise<FrameLocation[]> {
    const found: FrameLocation[] = [];
    for (const file of this.#files.values()) {
      for (let position = 0; position + FRAME_HEADER_BYTES <= file.sizeBytes; position += FRAME_ALIGNMENT) {
        const header = await this.#intactHeader(file, position, sequence);
        if (header === null) continue;
        const frameBytes = FRAME_HEADER_BYTES + header.payloadBytes;
        found.push({ fileNumber: file.number, position, sequence: header.sequence, frameBytes });
      }
    }
    return found;
  }

  /** Whether frame `sequence`, the one after `end`, was begun there: its header stands there, and perhaps not the rest. */
  async wasBegun(end: JournalPlace, sequence: number): Promise<boolean> {
    const file = this.#files.get(end.fileNumber);
    if (file === undefined) return false;
    const head = await file.bytes(end.position, FRAME_HEADER_BYTES);
    return decodeFrameHeader(head, this.#journalId, file.number, end.position)?.sequence === sequence;
  }

  /**
   * From where a file may hold frames later than the end. A file is written from its beginning; when its first frame is
   * an intact one with a lower sequence, all of the file was written before the file in which the end is.
   */
  async #suspectFrom(file: JournalFileReader, end: JournalPlace, sequence: number): Promise<number> {
    if (file.number === end.fileNumber) return end.position;
    const first = await this.#intactHeader(file, 0, 0);
    return first !== null && first.sequence < sequence ? file.sizeBytes : 0;
  }

  #corrupt(place: JournalPlace, what: string): DamagedFileError {
    const path = `${this.#directory}/${journalFileName(place.fileNumber)}`;
    return new DamagedFileError('the journal is', path, place.position, what);
  }
}
