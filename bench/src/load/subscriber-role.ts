/** Subscribes with the SDK, in either form, and counts what comes. */
import { connect, serdes } from '@naru/client';
import type { SdkSettings } from '../scenario.ts';
import type { Naru } from '@naru/client';
import { Received } from './received.ts';

export interface SubscriberOptions {
  readonly bootstrap: string;
  readonly settings: SdkSettings;
  readonly topic: string;
  readonly group: string;
  readonly form: 'poll' | 'handler';
}

const CONCURRENCY = 16;

export async function openSubscriber({ bootstrap, settings, topic, group, form }: SubscriberOptions) {
  const naru = await connect({ ...settings, brokers: [bootstrap] });
  const received = new Received();
  const receive = form === 'poll' ? poll : handle;
  return {
    ready: {},
    commands: {
      /** Joins the group; what comes is counted from now on. */
      start: () => {
        receive(naru, topic, group, received).catch((error: unknown) => received.fail(error));
      },
      until: ({ events }: { events: number }) => received.until(events),
      takeLatency: () => received.takeLatency(),
    },
    close: () => naru.close(),
  };
}

async function poll(naru: Naru, topic: string, group: string, received: Received): Promise<void> {
  for await (const batch of naru.poll<Uint8Array>({ group, topics: [topic], serde: serdes.bytes, autoCommit: true })) {
    for (const event of batch) received.event(event.value);
  }
}

function handle(naru: Naru, topic: string, group: string, received: Received): Promise<void> {
  return naru
    .subscriber(group)
    .handle<Uint8Array>(topic, (event) => received.event(event.value), { serde: serdes.bytes })
    .run({ concurrency: CONCURRENCY });
}
