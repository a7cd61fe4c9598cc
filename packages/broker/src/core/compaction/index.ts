/** Compaction's decisions: when a partition is compacted, and what becomes of its batches. Pure. */
export { compactableRecords, makeRewriter } from './batch-rewriter.ts';
export type { AbortedBatches, CompactableBatch, RewriterOptions, Supersession } from './batch-rewriter.ts';
export { MIN_SEAL_BYTES, dirtyRatio, isCompactionDue, isSealDue, uncompactedFromMs } from './compaction-policy.ts';
export type { CompactionConfig, DirtyStatus } from './compaction-policy.ts';
export { KeyOffsets, MAX_SHARE_BITS } from './key-offsets.ts';
export type { KeyOffsetsOptions, KeyShare } from './key-offsets.ts';
export { SupersededOffsets } from './superseded-offsets.ts';
