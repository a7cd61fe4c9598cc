/** What one run of a scenario found. */
import { createHistogram } from 'node:perf_hooks';
import type { RecordableHistogram } from 'node:perf_hooks';

/** Milliseconds. */
export interface Latency {
  readonly count: number;
  readonly p50: number;
  readonly p99: number;
  readonly p999: number;
  readonly max: number;
}

/** What a process used while it was measured. */
export interface ProcessUse {
  readonly process: string;
  readonly cpuSeconds: number;
  /** Since it began. */
  readonly peakRssBytes: number;
}

export interface Measurement {
  readonly events: number;
  /** Bytes of the events' values. */
  readonly bytes: number;
  readonly seconds: number;
  readonly latency?: Latency | undefined;
  readonly processes: readonly ProcessUse[];
  /** What else is worth knowing, such as the journal's cycles. */
  readonly notes?: Readonly<Record<string, number>> | undefined;
}

/** What a load tells: the part of a measurement that it can know. */
export type LoadResult = Pick<Measurement, 'events' | 'bytes' | 'seconds' | 'latency' | 'notes'>;

/** Microsecond resolution up to a minute. */
export function latencyHistogram(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: 60_000_000, figures: 3 });
}

/** @param ms below 1 µs counts as 1 µs */
export function recordMs(histogram: RecordableHistogram, ms: number): void {
  histogram.record(Math.max(1, Math.round(ms * 1_000)));
}

export function latencyOf(histogram: RecordableHistogram): Latency {
  const at = (percentile: number): number => histogram.percentile(percentile) / 1_000;
  return { count: histogram.count, p50: at(50), p99: at(99), p999: at(99.9), max: histogram.max / 1_000 };
}

/** Milliseconds of a clock that all processes of a machine share. */
export function sharedNowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}
