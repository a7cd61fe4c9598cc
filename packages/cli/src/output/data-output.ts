/**
 * stdout as a command uses it: data only, at the reader's pace.
 *
 * Invariant: never more than one write is under way, so memory is bounded by what the command hands over at a time.
 */
import type { Terminal } from '../terminal.ts';

export class DataOutput {
  readonly #stream: Terminal['stdout'];
  #isClosed = false;

  constructor(terminal: Terminal) {
    this.#stream = terminal.stdout;
  }

  /** Nobody reads any more, as after `| head`. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /**
   * Resolves when the reader's side has taken the text: true; or when nobody reads any more: false.
   *
   * @throws the platform's error when it cannot be written for another reason, such as a full disk
   */
  write(text: string): Promise<boolean> {
    if (this.#isClosed) return Promise.resolve(false);
    return new Promise((resolve, reject) => {
      this.#stream.write(text, (error) => {
        const code = (error as { code?: string } | null | undefined)?.code;
        if (error === null || error === undefined) return resolve(true);
        if (code !== 'EPIPE' && code !== 'ERR_STREAM_DESTROYED') return reject(error);
        this.#isClosed = true;
        resolve(false);
      });
    });
  }
}
