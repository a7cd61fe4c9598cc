/** Publishes with the SDK. */
import { connect, serdes } from '@naru/client';
import type { SdkSettings } from '../scenario.ts';
import type { Naru } from '@naru/client';
import { latencyHistogram, latencyOf, recordMs, sharedNowMs } from '../measurement.ts';
import type { LoadResult } from '../measurement.ts';
import { VALUE_BYTES, keys, values } from '../payload.ts';
import { pace } from './pace.ts';

const serde = serdes.bytes;
/** Events between looks at the clock. */
const EVENTS_PER_LOOK = 64;

export interface PublisherOptions {
  readonly bootstrap: string;
  readonly settings: SdkSettings;
  readonly topic: string;
  readonly partitions: number;
  /** Default: ordered. */
  readonly type?: 'ordered' | 'parallel' | undefined;
  /** Different keys. Default 1,000. */
  readonly keyCount?: number | undefined;
}

export async function openPublisher({
  bootstrap,
  settings,
  topic,
  partitions,
  type = 'ordered',
  keyCount,
}: PublisherOptions) {
  const naru = await connect({ ...settings, brokers: [bootstrap] });
  await naru.admin.createTopic(topic, { partitions, type });
  const load = new PublishLoad(naru, topic, keyCount);
  return {
    ready: {},
    commands: {
      /** As fast as it goes for `seconds`, and until the last is stored. */
      enqueueFor: ({ seconds }: { seconds: number }) => load.enqueue({ seconds, events: Number.POSITIVE_INFINITY }),
      enqueueSome: ({ events }: { events: number }) => load.enqueue({ seconds: Number.POSITIVE_INFINITY, events }),
      /** One at a time, each awaited, the next `pauseMs` after the one before. */
      publishAwaited: ({ seconds, pauseMs }: { seconds: number; pauseMs: number }) => load.awaited(seconds, pauseMs),
      /** At a rate, stamped with the time. */
      publishPaced: ({ seconds, perSecond }: { seconds: number; perSecond: number }) => load.paced(seconds, perSecond),
      /** So many events at a time, all of them awaited; several such groups at once. */
      publishGroups: (groups: PublishGroups) => load.groups(groups),
      /** Events stored in the topic, as the broker counts them. */
      stored: () => load.stored(),
    },
    close: () => naru.close(),
  };
}

interface PublishGroups {
  readonly seconds: number;
  readonly events: number;
  readonly atOnce: number;
  readonly isTransactional: boolean;
}

class PublishLoad {
  readonly #naru: Naru;
  readonly #topic: string;
  readonly #values = values();
  readonly #keys: readonly string[];
  #next = 0;

  constructor(naru: Naru, topic: string, keyCount?: number) {
    this.#keys = keys(keyCount);
    this.#naru = naru;
    this.#topic = topic;
  }

  async enqueue({ seconds, events }: { seconds: number; events: number }): Promise<LoadResult> {
    const naru = this.#naru;
    const startMs = performance.now();
    const endMs = startMs + seconds * 1_000;
    let sent = 0;
    while (sent < events && performance.now() < endMs) {
      const goal = Math.min(events, sent + EVENTS_PER_LOOK);
      while (sent < goal) {
        const { value, key } = this.#event();
        if (naru.enqueue(this.#topic, value, { key, serde })) sent += 1;
        else await naru.ready();
      }
    }
    await naru.flush();
    return { events: sent, bytes: sent * VALUE_BYTES, seconds: (performance.now() - startMs) / 1_000 };
  }

  async awaited(seconds: number, pauseMs: number): Promise<LoadResult> {
    const histogram = latencyHistogram();
    const startMs = performance.now();
    const endMs = startMs + seconds * 1_000;
    let sent = 0;
    for (; performance.now() < endMs; sent++) {
      const { value, key } = this.#event();
      const beginMs = performance.now();
      await this.#naru.publish(this.#topic, value, { key, serde });
      recordMs(histogram, performance.now() - beginMs);
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    const elapsed = (performance.now() - startMs) / 1_000;
    return { events: sent, bytes: sent * VALUE_BYTES, seconds: elapsed, latency: latencyOf(histogram) };
  }

  async groups({ seconds, events, atOnce, isTransactional }: PublishGroups): Promise<LoadResult> {
    const naru = this.#naru;
    const startMs = performance.now();
    const endMs = startMs + seconds * 1_000;
    let groups = 0;
    const publishAll = (publisher: Pick<Naru, 'publish'>): Promise<unknown>[] =>
      Array.from({ length: events }, () => {
        const { value, key } = this.#event();
        return publisher.publish(this.#topic, value, { key, serde });
      });
    const loop = async (): Promise<void> => {
      for (; performance.now() < endMs; groups++) {
        // A transaction waits for its events itself.
        if (isTransactional) await naru.transaction((tx) => void publishAll(tx));
        else await Promise.all(publishAll(naru));
      }
    };
    await Promise.all(Array.from({ length: atOnce }, loop));
    const sent = groups * events;
    return { events: sent, bytes: sent * VALUE_BYTES, seconds: (performance.now() - startMs) / 1_000 };
  }

  async paced(seconds: number, perSecond: number): Promise<LoadResult> {
    const histogram = latencyHistogram();
    const pending: Promise<void>[] = [];
    const startMs = performance.now();
    const sent = await pace(seconds, perSecond, () => {
      const { key } = this.#event();
      const value = new Uint8Array(VALUE_BYTES);
      new DataView(value.buffer).setFloat64(0, sharedNowMs());
      const beginMs = performance.now();
      const published = this.#naru.publish(this.#topic, value, { key, serde });
      pending.push(published.then(() => recordMs(histogram, performance.now() - beginMs)));
    });
    await Promise.all(pending);
    const elapsed = (performance.now() - startMs) / 1_000;
    return { events: sent, bytes: sent * VALUE_BYTES, seconds: elapsed, latency: latencyOf(histogram) };
  }

  async stored(): Promise<number> {
    const { partitionDetails } = await this.#naru.admin.describeTopic(this.#topic);
    return partitionDetails.reduce((sum, { highWatermark }) => sum + Number(highWatermark), 0);
  }

  #event(): { value: Uint8Array; key: string } {
    const index = this.#next;
    this.#next += 1;
    return {
      value: this.#values[index % this.#values.length] as Uint8Array,
      key: this.#keys[index % this.#keys.length] as string,
    };
  }
}
