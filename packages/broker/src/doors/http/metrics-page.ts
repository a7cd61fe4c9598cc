/**
 * /metrics in Prometheus' text format. Values are plain counters where they are counted, and read when somebody asks, so
 * that hot paths pay nothing.
 */
import { collectDefaultMetrics, Counter, Gauge, Registry } from 'prom-client';

export interface Measurement {
  /** Without the `naru_` prefix; counters end in `_total`. */
  readonly name: string;
  readonly help: string;
  readonly kind: 'counter' | 'gauge';
  readonly read: () => number;
}

export class MetricsPage {
  readonly #registry = new Registry();

  constructor(measurements: readonly Measurement[]) {
    collectDefaultMetrics({ register: this.#registry, prefix: 'naru_' });
    for (const { name, help, kind, read } of measurements) this.#add(`naru_${name}`, help, kind, read);
  }

  async render(): Promise<{ contentType: string; text: string }> {
    return { contentType: this.#registry.contentType, text: await this.#registry.metrics() };
  }

  #add(name: string, help: string, kind: Measurement['kind'], read: () => number): void {
    const registers: Registry[] = [];
    const metric =
      kind === 'gauge'
        ? new Gauge({
            name,
            help,
            registers,
            collect() {
              this.set(read());
            },
          })
        : new Counter({
            name,
            help,
            registers,
            collect() {
              this.reset();
              this.inc(read());
            },
          });
    this.#registry.registerMetric(metric);
  }
}
