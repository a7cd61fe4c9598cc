/** Verifies a segment's index: the file, and each entry against the batches as somebody walks them. */
import { diskErrorCode } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import type { PartitionKey } from '@naru/base';
import { finding } from '../finding.ts';
import type { VerifyContext } from '../verify-context.ts';
import { readWholeFile } from './checkpoint.ts';
import { DEFAULT_FILE_LOG_LIMITS } from './limits.ts';
import type { Segment, StoredHeader } from './segment.ts';
import { SparseIndex } from './sparse-index.ts';

export class IndexVerifier {
  readonly #context: VerifyContext;
  readonly #segment: Segment;
  readonly #partition: PartitionKey;
  /** Null when there is none, or nothing more is to be said about it. */
  #index: SparseIndex | null = null;
  /** Position that the index gave last. */
  #position = 0;

  constructor(context: VerifyContext, segment: Segment, partition: PartitionKey) {
    this.#context = context;
    this.#segment = segment;
    this.#partition = partition;
  }

  /** Reads the file; one that is bad is a warning, for it is not needed. */
  async load(): Promise<void> {
    const path = this.#segment.indexPath;
    try {
      const bytes = await readWholeFile(this.#context.disk, path);
      this.#context.advance(bytes.length);
      this.#index = SparseIndex.decode(bytes, this.#segment.sizeBytes, DEFAULT_FILE_LOG_LIMITS.indexIntervalBytes);
      if (this.#index === null) this.#warn('the index is damaged, or was made for another segment');
    } catch (error) {
      const code = diskErrorCode(error);
      if (code === undefined || isNaruError(error)) throw error;
      this.#warn(code === 'ENOENT' ? 'the index is missing' : `the index cannot be read (${code})`);
    }
  }

  #warn(cause: string): void {
    const advice = 'Nothing: it is rebuilt from the segment when it is needed';
    const place = { partition: this.#partition };
    this.#context.report(finding('warning', this.#segment.indexPath, cause, advice, place));
  }

  /** From here on entries may stand for batches that cannot be read, or have wrong offsets. */
  stop(): void {
    this.#index = null;
  }

  /** The next batch. The entry of the index changes at the batch that it stands for, and nowhere else. */
  check(header: StoredHeader): void {
    if (this.#index === null) return;
    const position = this.#index.positionOfOffset(header.baseOffset);
    if (position === header.position || position === this.#position) {
      this.#position = position;
      return;
    }
    this.stop();
    const cause = `the index gives byte ${position} for offset ${header.baseOffset}, which is at byte ${header.position}`;
    const advice = 'Stop the broker and remove the index: it is rebuilt from the segment when it is needed';
    const place = { partition: this.#partition };
    this.#context.report(finding('problem', this.#segment.indexPath, cause, advice, place));
  }
}
