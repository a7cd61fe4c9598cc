/** Stored data that is not what was written: which file and where, for whoever shows it. */
import { NaruError } from '@naru/protocol';

/** Always DATA_CORRUPT. */
export class DamagedFileError extends NaruError {
  readonly path: string;
  /** Byte of the file. */
  readonly position: number;
  /** What is wrong there, without file and place. */
  readonly what: string;

  /** @param subject what the message says is damaged, such as `the journal is` */
  constructor(subject: string, path: string, position: number, what: string) {
    super('DATA_CORRUPT', `${subject} damaged: ${path}, byte ${position}: ${what}`);
    this.path = path;
    this.position = position;
    this.what = what;
  }
}
