/** @platformatic/kafka: it batches what one call has, so events go in batches, several at once. */
import {
  Admin,
  Consumer,
  MessagesStreamModes,
  ProduceAcks,
  Producer,
  jsonDeserializer,
  jsonSerializer,
  stringDeserializer,
  stringSerializer,
} from '@platformatic/kafka';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight } from './in-flight.ts';
import type { PeerClient } from './peer-client.ts';

const BATCHES_IN_FLIGHT = 5;
const COMMIT_EVERY_MS = 100;

export function openPlatformatic({ host, port }: ServerAddress): PeerClient {
  const settings = { clientId: 'bench', bootstrapBrokers: [`${host}:${port}`], retries: 100, retryDelay: 100 };
  const open: { close(): Promise<void> }[] = [];
  const keep = <T extends { close(): Promise<void> }>(client: T): T => {
    open.unshift(client);
    return client;
  };
  return {
    createTopic: async ({ name, partitions }) => {
      const admin = new Admin(settings);
      await admin.createTopics({ topics: [name], partitions, replicas: 1 });
      await admin.close();
    },
    publisher: ({ name: topic }) => {
      const serializers = {
        key: stringSerializer,
        value: jsonSerializer<object>,
        headerKey: stringSerializer,
        headerValue: stringSerializer,
      };
      const producer = keep(
        new Producer<string, object, string, string>({ ...settings, serializers, acks: ProduceAcks.ALL }),
      );
      const inFlight = new InFlight(BATCHES_IN_FLIGHT);
      return Promise.resolve({
        publish: async ({ key, value }) => {
          await producer.send({ messages: [{ topic, key, value }] });
        },
        offer: async (events) => {
          await inFlight.room();
          inFlight.add(producer.send({ messages: events.map(({ key, value }) => ({ topic, key, value })) }));
        },
        flush: () => inFlight.empty(),
      });
    },
    subscribe: async ({ name }, groupId, handler) => {
      const deserializers = {
        key: stringDeserializer,
        value: jsonDeserializer<object>,
        headerKey: stringDeserializer,
        headerValue: stringDeserializer,
      };
      const consumer = new Consumer<string, object, string, string>({ ...settings, groupId, deserializers });
      keep({ close: () => consumer.close(true) });
      const mode = MessagesStreamModes.COMMITTED;
      const stream = await consumer.consume({
        topics: [name],
        mode,
        fallbackMode: 'earliest',
        autocommit: COMMIT_EVERY_MS,
      });
      stream.on('data', ({ value }) => handler(value));
      stream.on('error', (error) => console.error(`platformatic ${groupId}:`, error));
    },
    close: async () => {
      for (const client of open) await client.close();
    },
  };
}
