/** Ascending whole numbers, kept and shown as ranges. */

type Range = [from: number, to: number];

export class NumberRanges {
  readonly #ranges: Range[] = [];
  readonly #maxRanges: number;
  #isCut = false;

  /** @param maxRanges what comes after that many is not kept, and shown as `…` */
  constructor(maxRanges = Number.POSITIVE_INFINITY) {
    this.#maxRanges = maxRanges;
  }

  /** @param number above all that were added before */
  add(number: number): void {
    const last = this.#ranges.at(-1);
    if (last !== undefined && number === last[1] + 1 && !this.#isCut) last[1] = number;
    else if (this.#ranges.length < this.#maxRanges) this.#ranges.push([number, number]);
    else this.#isCut = true;
  }

  toString(): string {
    const shown = this.#ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`));
    return [...shown, ...(this.#isCut ? ['…'] : [])].join(',');
  }
}

/** `[0, 1, 2, 5]` → `0-2,5`. */
export function numberRanges(numbers: readonly number[]): string {
  const ranges = new NumberRanges();
  for (const number of [...new Set(numbers)].sort((a, b) => a - b)) ranges.add(number);
  return ranges.toString();
}
