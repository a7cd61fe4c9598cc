/**
 * Publishers and subscribers that go on whatever happens to their broker, and tell a history checker what they see.
 *
 * Event sizes vary, so that batches and segments end anywhere.
 */
import { connect, serdes } from '@naru/client';
import type { Naru, NaruEvent } from '@naru/client';
import type { HistoryChecker, SeededRandom } from '@naru/testkit';
import type { Conditions } from './condition.ts';

export const TOPIC = 'crash';
/** Values of one call. */
const MAX_BURST = 8;
const MAX_PADDING_BYTES = 2_000;
const KEYS = 24;
/** What a publisher leaves unacknowledged. */
const MAX_UNACKNOWLEDGED = 40;
const MAX_FAILURES = 3;

export interface LoadOptions {
  readonly address: string;
  readonly history: HistoryChecker;
  readonly random: SeededRandom;
  readonly conditions: Conditions;
}

export class CrashLoad {
  readonly #options: LoadOptions;
  readonly #clients: Naru[] = [];
  readonly #publishing: Promise<void>[] = [];
  /** By group and partition: the offset after the last event that was handled. */
  readonly #positions = new Map<string, number>();
  #isPublishing = true;
  #acknowledged = 0;
  /** What must not happen: publishes that were refused, members that ended; at most {@link MAX_FAILURES}. */
  readonly failures: unknown[] = [];

  constructor(options: LoadOptions) {
    this.#options = options;
  }

  get acknowledged(): number {
    return this.#acknowledged;
  }

  async addPublisher(name: string): Promise<void> {
    const naru = await this.#connect(name);
    this.#publishing.push(this.#publish(naru, name));
  }

  /** A member in push form, whose handler gets what a poll brought. */
  async addMember(group: string, name: string): Promise<void> {
    const naru = await this.#connect(name);
    const { history, conditions } = this.#options;
    const subscriber = naru.subscriber(group, { serde: serdes.bytes, autoCommitIntervalMs: 50, maxBatchEvents: 100 });
    const reposition = (partitions: readonly { partition: number }[]): void => {
      for (const { partition } of partitions) history.repositioned(name, partitionName(partition));
    };
    subscriber.onAssigned(reposition).onRevoked(reposition);
    subscriber.handleBatch<Uint8Array>(TOPIC, (events) => {
      const first = events[0] as NaruEvent<Uint8Array>;
      history.polled(group, name, partitionName(first.partition), events.map(polledEvent));
      const next = Number(events.at(-1)?.offset) + 1;
      const position = `${group}/${first.partition}`;
      this.#positions.set(position, Math.max(this.#positions.get(position) ?? 0, next));
      conditions.changed();
    });
    subscriber.run().catch((error: unknown) => this.#failed(error));
  }

  /** The offset after the last event of `partition` that `group` has handled. */
  position(group: string, partition: number): number {
    return this.#positions.get(`${group}/${partition}`) ?? 0;
  }

  /** Resolves when everything that was published is acknowledged. */
  async stopPublishing(): Promise<void> {
    this.#isPublishing = false;
    this.#options.conditions.changed();
    await Promise.all(this.#publishing);
  }

  async close(): Promise<void> {
    await Promise.all(this.#clients.map((naru) => naru.close({ timeoutMs: 0 })));
  }

  async #connect(clientId: string): Promise<Naru> {
    const naru = await connect({
      brokers: [this.#options.address],
      clientId,
      reconnect: { initial: '20ms', max: '200ms' },
      // Far beyond what a restart takes: publishing that hangs is to fail, before the test's time is over.
      publisher: { deliveryTimeoutMs: '90s' },
    });
    this.#clients.push(naru);
    return naru;
  }

  async #publish(naru: Naru, name: string): Promise<void> {
    const { history, random, conditions } = this.#options;
    const writer = history.writer(name);
    let unacknowledged = 0;
    while (this.#isPublishing && this.failures.length === 0) {
      await conditions.until(() => unacknowledged < MAX_UNACKNOWLEDGED || !this.#isPublishing);
      for (const value of history.sending(writer, 1 + random.integer(MAX_BURST))) {
        unacknowledged += 1;
        const options = { key: `key-${random.integer(KEYS)}`, serde: serdes.bytes };
        naru.publish(TOPIC, payload(value, random), options).then(
          ({ partition, offset }) => {
            unacknowledged -= 1;
            this.#acknowledged += 1;
            history.acknowledged(value, partitionName(partition), Number(offset));
            conditions.changed();
          },
          (error: unknown) => this.#failed(error),
        );
      }
      // Lets acknowledgements and answers in between.
      await new Promise((resolve) => setImmediate(resolve));
    }
    await conditions.until(() => unacknowledged === 0 || this.failures.length > 0);
  }

  #failed(error: unknown): void {
    if (this.failures.length < MAX_FAILURES) this.failures.push(error);
    this.#options.conditions.changed();
  }
}

export function partitionName(partition: number): string {
  return `${TOPIC}/${partition}`;
}

/** 8 bytes of value, then padding. */
function payload(value: number, random: SeededRandom): Uint8Array {
  const bytes = new Uint8Array(8 + random.integer(MAX_PADDING_BYTES));
  new DataView(bytes.buffer).setFloat64(0, value);
  return bytes;
}

export function polledEvent({ offset, value }: NaruEvent<Uint8Array>): { offset: number; value: number } {
  return { offset: Number(offset), value: new DataView(value.buffer, value.byteOffset).getFloat64(0) };
}
