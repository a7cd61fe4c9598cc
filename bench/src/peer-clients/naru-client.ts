/** Naru's own SDK. */
import { connect } from '@naru/client';
import type { PeerClient, TopicSpec } from './peer-client.ts';
import type { ServerAddress } from '../peer-servers/server-kind.ts';

const CONCURRENCY = 16;

export async function openNaru({ host, port }: ServerAddress): Promise<PeerClient> {
  const naru = await connect({ brokers: [`${host}:${port}`] });
  const typeOf = ({ kind }: TopicSpec) => (kind === 'queue' ? 'parallel' : 'ordered');
  return {
    createTopic: async (topic) => {
      await naru.admin.createTopic(topic.name, { partitions: topic.partitions, type: typeOf(topic) });
    },
    publisher: ({ name }) =>
      Promise.resolve({
        publish: async ({ key, value }) => {
          await naru.publish(name, value, { key });
        },
        offer: async (events) => {
          for (const { key, value } of events) {
            while (!naru.enqueue(name, value, { key })) await naru.ready();
          }
        },
        flush: () => naru.flush(),
      }),
    subscribe: (topic, group, handler) => {
      const run = naru
        .subscriber(group)
        .handle<object>(topic.name, (event) => handler(event.value))
        .run({ concurrency: CONCURRENCY });
      run.catch((error: unknown) => console.error(`naru ${group}:`, error));
      return Promise.resolve();
    },
    close: () => naru.close(),
  };
}
