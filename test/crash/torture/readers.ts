/**
 * The readers of a torture test, in its own process: one of all topics without a group, which follows the log, and members of a
 * group, which come and go.
 */
import { connect, serdes } from '@naru/client';
import type { Naru, NaruEvent } from '@naru/client';
import type { HistoryChecker, PipelineChecker } from '@naru/testkit';
import type { Conditions } from '../condition.ts';
import { monotonicNs } from './client-log.ts';
import { BULK, INPUT, OUTPUT, valueIn } from './values.ts';

export const TAIL = 'tail';
export const SHARED = 'shared';

export interface ReadersOptions {
  readonly address: string;
  readonly history: HistoryChecker;
  readonly pipeline: PipelineChecker;
  readonly conditions: Conditions;
  readonly failed: (text: string) => void;
}

interface Member {
  readonly name: string;
  readonly naru: Naru;
}

export class Readers {
  readonly #options: ReadersOptions;
  readonly #clients: Naru[] = [];
  readonly #members: Member[] = [];
  /** By reader and value, of those values that somebody waits for. */
  readonly #marks = new Map<number, Set<string>>();
  #memberCount = 0;
  #outputs = 0;
  #inputs = 0;

  constructor(options: ReadersOptions) {
    this.#options = options;
  }

  /** Events that the tail has read of the output. */
  get outputs(): number {
    return this.#outputs;
  }

  get inputs(): number {
    return this.#inputs;
  }

  get memberCount(): number {
    return this.#members.length;
  }

  /** Follows all topics. */
  async start(): Promise<void> {
    const naru = await this.#connect(TAIL);
    this.#tail(naru).catch((error: unknown) => this.#options.failed(`tail: ${String(error)}`));
  }

  async addMember(): Promise<void> {
    const { history, failed, conditions } = this.#options;
    const name = `member-${this.#memberCount++}`;
    const naru = await this.#connect(name);
    this.#members.push({ name, naru });
    const subscriber = naru.subscriber(SHARED, { serde: serdes.bytes, autoCommitIntervalMs: 50, maxBatchEvents: 500 });
    const reposition = (partitions: readonly { topic: string; partition: number }[]): void => {
      for (const { topic, partition } of partitions) history.repositioned(name, `${topic}/${partition}`);
    };
    subscriber.onAssigned(reposition).onRevoked(reposition);
    for (const topic of [BULK, INPUT]) {
      subscriber.handleBatch<Uint8Array>(topic, (events) => {
        this.#polled(SHARED, name, events);
        conditions.changed();
      });
    }
    subscriber.run().catch((error: unknown) => failed(`${name}: ${String(error)}`));
  }

  /** The oldest member leaves; or goes without a word, as when its process is killed. */
  async removeMember(isGraceful: boolean): Promise<void> {
    const member = this.#members.shift();
    await member?.naru.close(isGraceful ? {} : { timeoutMs: 0 });
  }

  /** Whether the value has come to the reader: asked for with {@link watch} before it can. */
  has(reader: string, value: number): boolean {
    return this.#marks.get(value)?.has(reader) === true;
  }

  watch(value: number): void {
    this.#marks.set(value, new Set());
  }

  /** Reads everything from the beginning. @returns how many events there are before the watched values, with those */
  async countAll(topics: readonly string[], until: (topic: string, partition: number, value: number) => boolean) {
    const naru = await this.#connect('recount');
    let count = 0;
    for await (const { topic, partition, events } of naru.poll<Uint8Array>({ topics, serde: serdes.bytes })) {
      this.#options.history.polled(TAIL, 'recount', `${topic}/${partition}`, events.map(polledEvent), monotonicNs());
      count += events.length;
      if (events.some(({ value }) => until(topic, partition, valueIn(value)))) break;
    }
    return count;
  }

  async close(): Promise<void> {
    await Promise.all(this.#clients.map((naru) => naru.close({ timeoutMs: 0 })));
  }

  async #tail(naru: Naru): Promise<void> {
    const { pipeline, conditions } = this.#options;
    const poller = naru.poll<Uint8Array>({ topics: [BULK, INPUT, OUTPUT], serde: serdes.bytes });
    for await (const { topic, partition, events } of poller) {
      if (topic === OUTPUT) {
        this.#outputs += events.length;
        for (const { offset, value } of events)
          pipeline.output(valueIn(value), `${topic}/${partition}`, Number(offset));
      } else {
        if (topic === INPUT) this.#inputs += events.length;
        this.#polled(TAIL, TAIL, events);
      }
      conditions.changed();
    }
  }

  #polled(group: string, member: string, events: readonly NaruEvent<Uint8Array>[]): void {
    const first = events[0] as NaruEvent<Uint8Array>;
    const polled = events.map(polledEvent);
    this.#options.history.polled(group, member, `${first.topic}/${first.partition}`, polled, monotonicNs());
    if (this.#marks.size === 0) return;
    for (const { value } of polled) this.#marks.get(value)?.add(group);
  }

  async #connect(clientId: string): Promise<Naru> {
    const naru = await connect({
      brokers: [this.#options.address],
      clientId,
      reconnect: { initial: '20ms', max: '200ms' },
      subscriber: { sessionTimeoutMs: '6s' },
    });
    this.#clients.push(naru);
    return naru;
  }
}

function polledEvent({ offset, value }: NaruEvent<Uint8Array>): { offset: number; value: number } {
  return { offset: Number(offset), value: valueIn(value) };
}
