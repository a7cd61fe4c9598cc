/** Live progress on stderr: one block that is drawn over itself on a terminal, else a line now and then. */
import type { WriteStream } from 'node:tty';

const TERMINAL_INTERVAL_MS = 100;
const PLAIN_INTERVAL_MS = 2_000;
const BAR_WIDTH = 24;
const SECOND_MS = 1_000;

export interface ProgressRow {
  readonly name: string;
  readonly count: number;
  readonly note: string;
}

export interface ProgressState {
  readonly broker: string;
  readonly total: number;
  readonly rows: readonly ProgressRow[];
  readonly footer: string;
}

export class Progress {
  readonly #stream: WriteStream;
  readonly #state: () => ProgressState;
  readonly #startedMs = performance.now();
  readonly #timer: NodeJS.Timeout;
  #drawnLines = 0;
  #isStopped = false;
  /** About a second ago, for the rates. */
  #before: { readonly atMs: number; readonly counts: readonly number[] } = { atMs: this.#startedMs, counts: [] };
  #rates: readonly number[] = [];

  constructor(stream: WriteStream, state: () => ProgressState) {
    this.#stream = stream;
    this.#state = state;
    const intervalMs = stream.isTTY ? TERMINAL_INTERVAL_MS : PLAIN_INTERVAL_MS;
    this.#timer = setInterval(() => this.#draw(), intervalMs);
  }

  /** Something happened that is worth a line of its own. */
  say(text: string): void {
    if (this.#isStopped) return;
    this.#erase();
    this.#stream.write(`${seconds(performance.now() - this.#startedMs)}  ${text}\n`);
    if (this.#stream.isTTY) this.#draw();
  }

  /** Draws for the last time. */
  stop(): void {
    clearInterval(this.#timer);
    this.#isStopped = true;
    this.#draw();
  }

  #draw(): void {
    const { broker, total, rows, footer } = this.#state();
    this.#measure(rows);
    const elapsed = seconds(performance.now() - this.#startedMs);
    if (!this.#stream.isTTY) {
      const counts = rows.map(({ name, count }) => `${name} ${number(count)}`).join(' · ');
      this.#stream.write(`${elapsed}  of ${number(total)}: ${counts} · ${footer}\n`);
      return;
    }
    const lines = rows.map(({ name, count, note }, index) => {
      const rate = `${number(Math.round(this.#rates[index] ?? 0))}/s`;
      return `  ${name.padEnd(16)}${bar(count / total)}${number(count).padStart(9)}${rate.padStart(10)}  ${note}`;
    });
    const block = [`${elapsed}  ${broker}`, ...lines, `  ${footer}`];
    const width = Math.max(20, this.#stream.columns - 1);
    this.#erase();
    this.#stream.write(`${block.map((line) => line.slice(0, width)).join('\n')}\n`);
    this.#drawnLines = block.length;
  }

  #measure(rows: readonly ProgressRow[]): void {
    const nowMs = performance.now();
    const { atMs, counts } = this.#before;
    if (nowMs - atMs < SECOND_MS) return;
    this.#rates = rows.map(({ count }, index) => ((count - (counts[index] ?? 0)) / (nowMs - atMs)) * SECOND_MS);
    this.#before = { atMs: nowMs, counts: rows.map(({ count }) => count) };
  }

  #erase(): void {
    if (this.#drawnLines === 0) return;
    this.#stream.moveCursor(0, -this.#drawnLines);
    this.#stream.cursorTo(0);
    this.#stream.clearScreenDown();
    this.#drawnLines = 0;
  }
}

function bar(share: number): string {
  const filled = Math.round(Math.min(1, share) * BAR_WIDTH);
  return '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled);
}

function seconds(ms: number): string {
  return `${(ms / SECOND_MS).toFixed(1).padStart(5)} s`;
}

export function number(value: number): string {
  return value.toLocaleString('en');
}
