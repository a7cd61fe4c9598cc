/** An event that the broker keeps for a group: waiting to be given again in its key's order, or dead. */
export interface HeldEvent {
  readonly state: 'waiting' | 'dead';
  /** As protocol's keyId; empty for an event without a key, which waits for nobody. */
  readonly keyId: string;
  /** Of the copy in the log of held events. */
  readonly copyOffset: number;
  /** Calls of handlers so far. */
  readonly attempts: number;
  /** By the wall clock; 0: at once. */
  readonly notBeforeMs: number;
  readonly reason: string;
  readonly error: string;
  readonly firstFailureMs: number;
  readonly lastFailureMs: number;
  /** When it was held or dead-lettered. */
  readonly atMs: number;
  /** How often it was redriven. */
  readonly redrives: number;
  /** Of the copy. */
  readonly sizeBytes: number;
}

export type { HeldPartition } from './held-partition.ts';
