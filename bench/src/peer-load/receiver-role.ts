/** Subscribes with a Node client, in a process of its own; handlers parse the event and count it. */
import { latencyHistogram, latencyOf, recordMs, sharedNowMs } from '../measurement.ts';
import type { Latency } from '../measurement.ts';
import { clients } from '../peer-clients/clients.ts';
import type { ClientName } from '../peer-clients/clients.ts';
import type { TopicSpec } from '../peer-clients/peer-client.ts';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { sentAtMs } from './sample-events.ts';

export interface ReceiverOptions {
  readonly client: ClientName;
  readonly address: ServerAddress;
  readonly topic: TopicSpec;
  /** Members of each group, in this process; each has a connection of its own. */
  readonly members: number;
}

/** Joins the topic's groups. */
export async function openReceiver({ client, address, topic, members }: ReceiverOptions) {
  const open = await clients[client]();
  const received = new ReceivedEvents();
  const peers = await Promise.all(Array.from({ length: members }, async () => open(address)));
  for (const peer of peers) {
    for (const group of topic.groups) await peer.subscribe(topic, group, (value) => received.add(value));
  }
  return {
    ready: {},
    commands: {
      /** Resolves when so many came since the beginning, those of all groups together. */
      until: ({ events }: { events: number }) => received.until(events),
      /** Time from making to handling an event, since the last call. */
      takeLatency: () => received.takeLatency(),
    },
    close: async () => {
      await Promise.all(peers.map((peer) => peer.close()));
    },
  };
}

class ReceivedEvents {
  #count = 0;
  #histogram = latencyHistogram();
  #waiting: { readonly events: number; readonly resolve: () => void } | null = null;

  add(value: object): void {
    this.#count += 1;
    recordMs(this.#histogram, sharedNowMs() - sentAtMs(value));
    if (this.#waiting !== null && this.#count >= this.#waiting.events) this.#waiting.resolve();
  }

  async until(events: number): Promise<number> {
    if (this.#count < events) await new Promise<void>((resolve) => (this.#waiting = { events, resolve }));
    return this.#count;
  }

  takeLatency(): Latency {
    const latency = latencyOf(this.#histogram);
    this.#histogram = latencyHistogram();
    return latency;
  }
}
