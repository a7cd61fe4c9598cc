/** What every part of verifying a log has: the disk, where findings go, counts and progress. */
import type { Disk } from '@naru/base';
import { diskErrorCode } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import type { FindingSink } from './finding.ts';
import { finding } from './finding.ts';

/** How far verifying has come. Both in bytes; the total may still grow a little. */
export interface VerifyProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

/** What was looked at. */
export interface VerifyCounts {
  partitions: number;
  segments: number;
  batches: number;
  /** Decoded; 0 unless records were asked for. */
  records: number;
  journalFrames: number;
  /** Bytes of segments, indexes and journal. */
  bytes: number;
}

export interface VerifyContextOptions {
  readonly disk: Disk;
  readonly report: FindingSink;
  readonly onProgress?: ((progress: VerifyProgress) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Decodes all records of a batch that matches its checksum and returns how many; throws NaruError. Default: not done. */
  readonly decode?: ((batch: Uint8Array) => number) | undefined;
}

export class VerifyContext {
  readonly disk: Disk;
  readonly report: FindingSink;
  /** Problems reported so far. */
  problems = 0;
  readonly decode: ((batch: Uint8Array) => number) | undefined;
  readonly counts: VerifyCounts = { partitions: 0, segments: 0, batches: 0, records: 0, journalFrames: 0, bytes: 0 };
  totalBytes = 0;
  readonly #onProgress: ((progress: VerifyProgress) => void) | undefined;
  readonly #signal: AbortSignal | undefined;

  constructor(options: VerifyContextOptions) {
    this.disk = options.disk;
    this.report = (one) => {
      if (one.severity === 'problem') this.problems += 1;
      options.report(one);
    };
    this.decode = options.decode;
    this.#onProgress = options.onProgress;
    this.#signal = options.signal;
  }

  /** @throws NaruError ABORTED when the caller's signal says so */
  checkSignal(): void {
    if (this.#signal?.aborted === true) throw new NaruError('ABORTED', 'verifying was stopped before it was done');
  }

  /** That many bytes more were looked at. @throws NaruError ABORTED */
  advance(bytes: number): void {
    this.counts.bytes += bytes;
    this.totalBytes = Math.max(this.totalBytes, this.counts.bytes);
    this.#onProgress?.({ doneBytes: this.counts.bytes, totalBytes: this.totalBytes });
    this.checkSignal();
  }
}

/** A failure of the disk as a finding; other errors are thrown again. */
export function reportUnreadable(context: VerifyContext, path: string, error: unknown): void {
  const code = diskErrorCode(error);
  if (code === undefined || isNaruError(error)) throw error;
  const advice =
    code === 'EACCES' || code === 'EPERM'
      ? 'Run this as the user that the broker runs as'
      : 'Check the disk and the file system; restore the file from a backup if it stays unreadable';
  context.report(finding('problem', path, `it cannot be read (${code}), so it was not verified`, advice));
}

/** A file or directory that nothing here made. */
export function reportStranger(context: VerifyContext, path: string): void {
  const cause = 'it belongs to nothing that a broker keeps here';
  context.report(finding('info', path, cause, 'Move it away if it is not yours; the broker leaves it alone'));
}
