/** What verifying stored data finds. */
import type { PartitionKey } from '@naru/base';

/**
 * - `problem`: data is lost or unreadable, or a broker refuses to start.
 * - `warning`: something is not as it should be, but nothing is lost by it.
 * - `info`: worth knowing; also what a killed broker leaves and the next start puts right.
 */
export type FindingSeverity = 'info' | 'warning' | 'problem';

/** Event offsets, both included. Compaction may have removed some of them before. */
export interface OffsetRange {
  readonly first: number;
  readonly last: number;
}

export interface Finding {
  readonly severity: FindingSeverity;
  /** Path of the file or directory. */
  readonly file: string;
  /** Byte of the file; null when it is about the file as a whole. */
  readonly position: number | null;
  readonly partition: PartitionKey | null;
  /** Offsets that cannot be read; null when there are none, or none are known. */
  readonly offsets: OffsetRange | null;
  /** What is wrong, as one sentence without a full stop. */
  readonly cause: string;
  /** What to do, as a sentence without a full stop. */
  readonly advice: string;
}

/** Takes findings one by one. */
export type FindingSink = (finding: Finding) => void;

/** A finding from what is known of it. */
export function finding(
  severity: FindingSeverity,
  file: string,
  cause: string,
  advice: string,
  place: Partial<Pick<Finding, 'position' | 'partition' | 'offsets'>> = {},
): Finding {
  return { severity, file, position: null, partition: null, offsets: null, ...place, cause, advice };
}

/** The range, or null when it holds nothing. */
export function offsetRange(first: number, endOffset: number): OffsetRange | null {
  return first < endOffset ? { first, last: endOffset - 1 } : null;
}
