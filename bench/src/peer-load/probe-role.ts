/** Waits for a server that is starting, and for its first acknowledgement; the client is loaded before. */
import { clients } from '../peer-clients/clients.ts';
import type { ClientName } from '../peer-clients/clients.ts';
import type { OpenClient, TopicSpec } from '../peer-clients/peer-client.ts';
import { untilListening } from '../peer-servers/free-ports.ts';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { sampleEvent } from './sample-events.ts';

const TIMEOUT_MS = 120_000;
const ATTEMPT_MS = 2_000;
const PAUSE_MS = 5;

export interface ProbeOptions {
  readonly client: ClientName;
  readonly topic: TopicSpec;
}

export async function openProbe({ client, topic }: ProbeOptions) {
  const open = await clients[client]();
  // What connects in vain says so in many ways.
  process.on('unhandledRejection', () => undefined);
  process.on('uncaughtException', () => undefined);
  return {
    ready: {},
    commands: {
      /** Resolves when an event is acknowledged. */
      firstAck: (address: ServerAddress) => firstAck(open, address, topic),
    },
    close: () => undefined,
  };
}

async function firstAck(open: OpenClient, address: ServerAddress, topic: TopicSpec): Promise<void> {
  const endMs = performance.now() + TIMEOUT_MS;
  await untilListening(address.port, TIMEOUT_MS, () => false);
  for (;;) {
    try {
      await Promise.race([attempt(open, address, topic), rejectLater()]);
      return;
    } catch (error) {
      if (performance.now() > endMs) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

async function attempt(open: OpenClient, address: ServerAddress, topic: TopicSpec): Promise<void> {
  const peer = await open(address);
  try {
    const publisher = await peer.publisher(topic);
    await publisher.publish(sampleEvent(0));
  } finally {
    // Nobody waits for it: some take their time.
    void peer.close().catch(() => undefined);
  }
}

function rejectLater(): Promise<never> {
  return new Promise((_resolve, reject) => {
    setTimeout(() => reject(new Error(`no acknowledgement within ${ATTEMPT_MS} ms`)), ATTEMPT_MS);
  });
}
