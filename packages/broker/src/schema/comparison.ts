/** What comparing two schemas of any format needs. */

/** Pairs of types that are looked at for two schemas. Beyond it they count as incompatible: nothing is waved through. */
export const MAX_COMPARISONS = 50_000;

/** How messages call the two: `new` and `old`, depending on who reads whom. */
export interface ComparedNames {
  readonly reader: 'new' | 'old';
  readonly writer: 'new' | 'old';
}
