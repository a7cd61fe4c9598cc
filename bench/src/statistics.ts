/** Medians, spreads, and how sure a ratio is. */

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summary(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  const median = sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2;
  return { median, min: sorted[0] ?? Number.NaN, max: sorted.at(-1) ?? Number.NaN };
}

export interface RatioSummary {
  /** Of the medians. */
  readonly ratio: number;
  /** Of the rounds' own ratios, 95 %; null with fewer than three rounds. */
  readonly interval: readonly [low: number, high: number] | null;
}

/** Two-sided 95 % of Student's t, by degrees of freedom from 1. */
const STUDENT_T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
const STUDENT_T_MANY = 2.1;
const MIN_ROUNDS = 3;

/**
 * How many times better `subject` is than `peer`: above 1 where it is better.
 *
 * Values of the same index were measured one after the other, so what slowed both is not counted: the interval is that of the mean
 * of the logarithms of their ratios.
 */
export function ratioOf(subject: readonly number[], peer: readonly number[], better: 'more' | 'less'): RatioSummary {
  const [a, b] = better === 'more' ? [subject, peer] : [peer, subject];
  const ratio = summary(a).median / summary(b).median;
  const rounds = Math.min(a.length, b.length);
  const logarithms = Array.from({ length: rounds }, (_, index) => Math.log((a[index] ?? 0) / (b[index] ?? 0)));
  if (rounds < MIN_ROUNDS || !logarithms.every(Number.isFinite)) return { ratio, interval: null };
  const mean = logarithms.reduce((sum, one) => sum + one, 0) / rounds;
  const variance = logarithms.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (rounds - 1);
  const margin = (STUDENT_T[rounds - 2] ?? STUDENT_T_MANY) * Math.sqrt(variance / rounds);
  return { ratio, interval: [Math.exp(mean - margin), Math.exp(mean + margin)] };
}
