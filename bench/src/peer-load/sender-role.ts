/** Publishes with a Node client, in a process of its own. */
import { latencyHistogram, latencyOf, recordMs } from '../measurement.ts';
import type { LoadResult } from '../measurement.ts';
import { pace } from '../load/pace.ts';
import { clients } from '../peer-clients/clients.ts';
import type { ClientName } from '../peer-clients/clients.ts';
import type { PeerPublisher, TopicSpec } from '../peer-clients/peer-client.ts';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { EVENT_BYTES, sampleEvent } from './sample-events.ts';

/** Events that are offered together. */
const OFFERED = 200;

export interface SenderOptions {
  readonly client: ClientName;
  readonly address: ServerAddress;
  readonly topic: TopicSpec;
}

/** Creates the topic. */
export async function openSender({ client, address, topic }: SenderOptions) {
  const open = await clients[client]();
  const peer = await open(address);
  await peer.createTopic(topic);
  const publisher = await peer.publisher(topic);
  const load = new SenderLoad(publisher);
  return {
    ready: {},
    commands: {
      /** As fast as it goes, until the last is acknowledged. */
      pump: ({ events }: { events: number }) => load.pump(events),
      /** Each awaited, begun at a steady rate. */
      paced: ({ seconds, perSecond }: { seconds: number; perSecond: number }) => load.paced(seconds, perSecond),
      /** One after the other, until one fails: for a server that will be killed. */
      pumpUntilFailure: ({ seconds }: { seconds: number }) => load.pumpUntilFailure(seconds),
    },
    close: () => peer.close(),
  };
}

class SenderLoad {
  readonly #publisher: PeerPublisher;
  #next = 0;

  constructor(publisher: PeerPublisher) {
    this.#publisher = publisher;
  }

  async pump(events: number): Promise<LoadResult> {
    const startMs = performance.now();
    for (let sent = 0; sent < events; sent += OFFERED) {
      await this.#publisher.offer(Array.from({ length: Math.min(OFFERED, events - sent) }, () => this.#event()));
    }
    await this.#publisher.flush();
    return { events, bytes: events * EVENT_BYTES, seconds: (performance.now() - startMs) / 1_000 };
  }

  async paced(seconds: number, perSecond: number): Promise<LoadResult> {
    const histogram = latencyHistogram();
    const pending: Promise<void>[] = [];
    const startMs = performance.now();
    const events = await pace(seconds, perSecond, () => {
      const beginMs = performance.now();
      const acknowledged = this.#publisher.publish(this.#event());
      pending.push(acknowledged.then(() => recordMs(histogram, performance.now() - beginMs)));
    });
    await Promise.all(pending);
    const elapsed = (performance.now() - startMs) / 1_000;
    return { events, bytes: events * EVENT_BYTES, seconds: elapsed, latency: latencyOf(histogram) };
  }

  /** Returns how many were sent at most. Some clients wait for the server for ever: so `seconds` at most. */
  async pumpUntilFailure(seconds: number): Promise<number> {
    const first = this.#next;
    const pumping = this.pump(Number.MAX_SAFE_INTEGER).catch(() => undefined);
    await Promise.race([pumping, new Promise((resolve) => setTimeout(resolve, seconds * 1_000))]);
    return this.#next - first;
  }

  #event() {
    const event = sampleEvent(this.#next);
    this.#next += 1;
    return event;
  }
}
