/** One line on stderr that is written over and over while something long goes on. Only on a terminal. */
import type { Terminal } from '../terminal.ts';

const INTERVAL_MS = 200;
/** Carriage return, and erase to the end of the line (ECMA-48 EL). */
const CLEAR_LINE = '\r\x1b[K';

export class Progress {
  readonly #terminal: Terminal;
  readonly #isShown: boolean;
  #shownMs: number;
  #isLineOpen = false;

  /** @param isShown false to show nothing, as where data goes to the same terminal */
  constructor(terminal: Terminal, isShown: boolean) {
    this.#terminal = terminal;
    this.#isShown = isShown && terminal.stderr.isTTY === true && terminal.environment['TERM'] !== 'dumb';
    // Short work shows none.
    this.#shownMs = terminal.clock.monotonicMs();
  }

  /** Call it as often as there is news; `text` is asked for when it is shown. */
  update(text: () => string): void {
    if (!this.#isShown) return;
    const nowMs = this.#terminal.clock.monotonicMs();
    if (nowMs - this.#shownMs < INTERVAL_MS) return;
    this.#shownMs = nowMs;
    this.#isLineOpen = true;
    this.#terminal.stderr.write(`${CLEAR_LINE}${text()}`);
  }

  /** Takes the line away. Call it before anything else is said. */
  clear(): void {
    if (this.#isLineOpen) this.#terminal.stderr.write(CLEAR_LINE);
    this.#isLineOpen = false;
  }
}
