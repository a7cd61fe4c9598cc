/**
 * The journal: makes operations durable in the order in which they are submitted, many at a time.
 *
 * One commit cycle is one gathered write of one frame; operations that arrive while it runs go into the next frame. There
 * is never more than one write outstanding, so that after a crash at most the frame after the last acknowledged one can be
 * there in part: recovery rests on it (see journal-recovery.ts).
 *
 * Owns the queue, the sequence and the frames. Does not own what operations mean: `onDurable` applies them.
 *
 * Invariants:
 * - Frame sequences rise by one. A sequence that became durable is never given again.
 * - After a failed write nothing is written any more (a failed sync is never tried again).
 */
import type { Clock } from '@naru/base';
import { assert, toError } from '@naru/base';
import type { JournalFile, JournalFiles } from './journal-files.ts';
import type { JournalOperation } from './journal-frame.ts';
import {
  ENTRY,
  FRAME_ALIGNMENT,
  FRAME_ENTRY_BYTES,
  FRAME_HEADER_BYTES,
  alignUp,
  encodeFrameHead,
  entryCountOf,
  operationBytes,
} from './journal-frame.ts';
import type { FileLogLimits } from './limits.ts';

/** Frames up to this size are copied into one buffer: cheaper than a gathered write. */
const COPY_BYTES = 64 * 1024;
const PADDING = new Uint8Array(FRAME_ALIGNMENT);

/** Called in its place between operations, when everything before it is durable. */
interface Barrier {
  readonly reached: (sequence: number) => void;
  readonly failed: (error: Error) => void;
}

export interface JournalOptions<T extends JournalOperation> {
  readonly files: JournalFiles;
  readonly journalId: Uint8Array;
  /** Sequence of the last frame in the files. */
  readonly lastSequence: number;
  readonly limits: FileLogLimits;
  readonly clock: Clock;
  /** Files are written without being durable at once. Default false. */
  readonly unsynced?: boolean | undefined;
  readonly onDurable: (operations: readonly T[]) => void;
  /** The write failed, or {@link Journal.fail} was called; `operations` are all that were not durable. */
  readonly onFailure: (error: unknown, operations: readonly T[]) => void;
}

export class Journal<T extends JournalOperation> {
  readonly #options: JournalOptions<T>;
  #queue: (T | Barrier)[] = [];
  #barriers = 0;
  #sequence: number;
  #running = false;
  #cycle: Promise<void> | null = null;
  #failure: Error | null = null;
  #scratch: Uint8Array = new Uint8Array(COPY_BYTES);
  #pendingBytes = 0;
  #cycles = 0;
  #commitMs = 0;
  #writtenBytes = 0;

  constructor(options: JournalOptions<T>) {
    this.#options = options;
    this.#sequence = options.lastSequence;
  }

  /** Upper bound of the journal bytes that what is queued will take. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Frame bytes written since the journal was opened. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  get cycles(): number {
    return this.#cycles;
  }

  /** Milliseconds that all commit cycles took together. */
  get commitMs(): number {
    return this.#commitMs;
  }

  submit(operation: T): void {
    assert(this.#failure === null, 'nothing is submitted to a failed journal');
    this.#queue.push(operation);
    this.#pendingBytes += footprint(operation);
    this.#wake();
  }

  /**
   * Calls `reached` as soon as everything submitted before is durable and applied, and nothing submitted later is.
   * It gets the sequence of the last frame before it.
   */
  barrier(reached: (sequence: number) => void, failed: (error: Error) => void): void {
    if (this.#failure !== null) {
      failed(this.#failure);
      return;
    }
    this.#queue.push({ reached, failed });
    this.#barriers += 1;
    if (this.#barriers === 1) this.#options.files.allowOverBudget();
    this.#wake();
  }

  fail(error: Error): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    // A running cycle finishes first: its frame may yet become durable, and is then reported as such.
    if (!this.#running) this.#rejectAll([]);
  }

  /** Settles when no write is under way any more. */
  async idle(): Promise<void> {
    while (this.#cycle !== null) await this.#cycle;
  }

  #wake(): void {
    if (this.#running) return;
    this.#running = true;
    // Everything that is called in the same turn goes into one frame.
    this.#cycle = Promise.resolve()
      .then(() => this.#run())
      .finally(() => {
        this.#running = false;
        this.#cycle = null;
        if (this.#failure !== null) this.#rejectAll([]);
        else if (this.#queue.length > 0) this.#wake();
      });
  }

  async #run(): Promise<void> {
    for (;;) {
      this.#passBarriers();
      if (this.#queue.length === 0 || this.#failure !== null) break;
      const operations = this.#gather();
      try {
        await this.#write(operations);
      } catch (error) {
        this.#failure ??= toError(error);
        this.#rejectAll(operations);
        return;
      }
      for (const operation of operations) this.#pendingBytes -= footprint(operation);
      this.#options.onDurable(operations);
    }
  }

  #passBarriers(): void {
    let passed = 0;
    for (let head = this.#queue[0]; head !== undefined && 'reached' in head; head = this.#queue[passed]) {
      passed += 1;
      this.#barriers -= 1;
      head.reached(this.#sequence);
    }
    if (passed > 0) this.#queue.splice(0, passed);
  }

  /** The operations of the next frame: up to the next barrier or the size limit, one at least. */
  #gather(): T[] {
    const { mergedFrameBytes } = this.#options.limits;
    const operations: T[] = [];
    let bytes = 0;
    for (const item of this.#queue) {
      if ('reached' in item) break;
      const size = operationBytes(item);
      if (operations.length > 0 && bytes + size > mergedFrameBytes) break;
      operations.push(item);
      bytes += size;
    }
    if (operations.length === this.#queue.length) this.#queue = [];
    else this.#queue.splice(0, operations.length);
    return operations;
  }

  async #write(operations: readonly T[]): Promise<void> {
    let entryCount = 0;
    let recordBytes = 0;
    for (const operation of operations) {
      entryCount += entryCountOf(operation);
      recordBytes += operation.recordBytes;
    }
    const headBytes = FRAME_HEADER_BYTES + entryCount * FRAME_ENTRY_BYTES;
    const frameBytes = alignUp(headBytes + recordBytes);
    const { files } = this.#options;
    const target = files.tryReserve(frameBytes) ?? (await files.reserve(frameBytes));
    if (this.#failure !== null) throw this.#failure;
    const startMs = this.#options.clock.monotonicMs();
    await target.file.write(this.#encode(target, operations, headBytes, recordBytes, frameBytes), target.position);
    this.#sequence += 1;
    target.position += frameBytes;
    target.lastSequence = this.#sequence;
    this.#cycles += 1;
    this.#writtenBytes += frameBytes;
    if (this.#options.unsynced === true) await this.#syncWhenNeeded(operations);
    this.#commitMs += this.#options.clock.monotonicMs() - startMs;
  }

  /**
   * Without durable frames: what cuts or removes files is durable all the same before that happens, so that a power cut takes back
   * appends only, and never leaves files that no journal explains. And at most one file's frames are at risk.
   */
  async #syncWhenNeeded(operations: readonly T[]): Promise<void> {
    const { files } = this.#options;
    if (files.hasUnsynced || operations.some(({ type }) => type !== ENTRY.append)) await files.sync();
  }

  #encode(
    target: JournalFile,
    operations: readonly T[],
    headBytes: number,
    recordBytes: number,
    frameBytes: number,
  ): Uint8Array[] {
    const place = {
      journalId: this.#options.journalId,
      sequence: this.#sequence + 1,
      fileNumber: target.number,
      position: target.position,
    };
    // The scratch buffer is free: there is one write at a time.
    if (this.#scratch.length < headBytes) this.#scratch = new Uint8Array(headBytes * 2);
    const scratch = this.#scratch;
    encodeFrameHead(scratch, place, operations);
    if (frameBytes <= COPY_BYTES) {
      let at = headBytes;
      for (const operation of operations) {
        for (const entry of operation.entries) {
          scratch.set(entry.records, at);
          at += entry.records.length;
        }
      }
      return [scratch.fill(0, at, frameBytes).subarray(0, frameBytes)];
    }
    const buffers: Uint8Array[] = [scratch.subarray(0, headBytes)];
    for (const operation of operations) {
      for (const entry of operation.entries) buffers.push(entry.records);
    }
    const padding = frameBytes - headBytes - recordBytes;
    if (padding > 0) buffers.push(PADDING.subarray(0, padding));
    return buffers;
  }

  #rejectAll(first: readonly T[]): void {
    const failure = this.#failure as Error;
    const operations = [...first];
    const queue = this.#queue;
    if (operations.length === 0 && queue.length === 0) return;
    this.#queue = [];
    for (const item of queue) if (!('reached' in item)) operations.push(item);
    this.#pendingBytes = 0;
    this.#options.onFailure(failure, operations);
    for (const item of queue) if ('reached' in item) item.failed(failure);
  }
}

/** Room that an operation needs in the journal if it gets a frame of its own. */
function footprint(operation: JournalOperation): number {
  return alignUp(operationBytes(operation) + FRAME_HEADER_BYTES);
}
