/**
 * What the tests with Kafka's clients run against: a broker of ours in this process, or the one that NARU_INTEROP_KAFKA
 * names (host:port), which is how the tests themselves are checked against Apache Kafka.
 */
import { randomUUID } from 'node:crypto';
import { Broker } from '@naru/broker';

type BrokerSettings = NonNullable<Parameters<typeof Broker.start>[0]>;

/** Empty when the tests run against ours. */
export const outsideKafka = process.env['NARU_INTEROP_KAFKA'] ?? '';

export class KafkaTarget implements AsyncDisposable {
  readonly bootstrap: string;
  readonly #broker: Broker | null;

  private constructor(bootstrap: string, broker: Broker | null) {
    this.bootstrap = bootstrap;
    this.#broker = broker;
  }

  /** @param settings of our broker, which keeps everything in memory */
  static async start(settings: BrokerSettings = {}): Promise<KafkaTarget> {
    if (outsideKafka !== '') return new KafkaTarget(outsideKafka, null);
    const broker = await Broker.start({ storage: 'memory', port: 0, allowKeyReorder: true, ...settings });
    return new KafkaTarget(broker.bootstrap, broker);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#broker?.close();
  }
}

/** A name that no other test has, also when the broker is not ours alone. */
export function unusedName(prefix: string): string {
  return `${prefix}-${randomUUID().slice(0, 13)}`;
}

/** `count` values in order: `prefix-0`, `prefix-1`, … */
export function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, index) => `${prefix}-${index}`);
}
