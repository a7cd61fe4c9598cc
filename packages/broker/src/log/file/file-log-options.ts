import type { Clock, Disk, Logger, Random, Timers } from '@naru/base';
import type { FileLogLimits } from './limits.ts';

/** What a file log store is made from. */
export interface FileLogStoreOptions {
  readonly disk: Disk;
  /** The data directory; created when missing. Its caller holds the lock (data-dir-lock.ts). */
  readonly path: string;
  readonly clock: Clock;
  readonly timers: Timers;
  readonly random: Random;
  /** Default: silent. */
  readonly logger?: Logger | undefined;
  /**
   * Whether an operation waits until the journal has it on the disk. False: until the operating system has it, so that a kill of
   * the process loses nothing and a power cut may lose what was acknowledged last. Default true.
   */
  readonly syncJournal?: boolean | undefined;
  /** Defaults: DEFAULT_FILE_LOG_LIMITS. */
  readonly limits?: Partial<FileLogLimits> | undefined;
}
