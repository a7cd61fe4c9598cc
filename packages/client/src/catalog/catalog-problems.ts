/** What is wrong with a catalog, gathered, so that all of it is told at once. */
import { NaruError } from '@naru/protocol';

/** Of one report. */
const MAX_PROBLEMS = 100;

export class CatalogProblems {
  readonly #lines: string[] = [];

  /** @param line `file:line:column: what` */
  add(line: string): void {
    this.#lines.push(line);
  }

  /** @throws NaruError INVALID_CONFIGURATION with a line for each problem */
  throwIfAny(): void {
    if (this.#lines.length > 0) throw CatalogProblems.error(this.#lines);
  }

  static error(lines: readonly string[]): NaruError {
    const more = lines.length > MAX_PROBLEMS ? [`and ${lines.length - MAX_PROBLEMS} more`] : [];
    return new NaruError('INVALID_CONFIGURATION', [...lines.slice(0, MAX_PROBLEMS), ...more].join('\n'));
  }
}
