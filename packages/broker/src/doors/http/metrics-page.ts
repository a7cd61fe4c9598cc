/**
 * /metrics in Prometheus' text format. Values are plain counters where they are counted, and read when somebody asks, so
 * that hot paths pay nothing. Node's own (event loop, collector, memory) are gathered from the first time that somebody asks: what
 * gathers them wakes the process many times a second.
 */
import type { Registry } from 'prom-client';

export interface Measurement {
  /** Without the `naru_` prefix; counters end in `_total`. */
  readonly name: string;
  readonly help: string;
  readonly kind: 'counter' | 'gauge';
  readonly read: () => number;
}

export class MetricsPage {
  readonly #measurements: readonly Measurement[];
  #registry: Promise<Registry> | null = null;

  constructor(measurements: readonly Measurement[]) {
    this.#measurements = measurements;
  }

  async render(): Promise<{ contentType: string; text: string }> {
    this.#registry ??= registryOf(this.#measurements);
    const registry = await this.#registry;
    return { contentType: registry.contentType, text: await registry.metrics() };
  }
}

async function registryOf(measurements: readonly Measurement[]): Promise<Registry> {
  const { collectDefaultMetrics, Counter, Gauge, Registry } = await import('prom-client');
  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'naru_' });
  for (const { name, help, kind, read } of measurements) {
    const described = { name: `naru_${name}`, help, registers: [] };
    const metric =
      kind === 'gauge'
        ? new Gauge({
            ...described,
            collect() {
              this.set(read());
            },
          })
        : new Counter({
            ...described,
            collect() {
              this.reset();
              this.inc(read());
            },
          });
    registry.registerMetric(metric);
  }
  return registry;
}
