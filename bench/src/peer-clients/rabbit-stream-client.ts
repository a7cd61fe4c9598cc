/** RabbitMQ's streams with its stream client: one stream for each topic; groups are names with stored offsets. */
import { Offset, connect } from 'rabbitmq-stream-js-client';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight, failureOf } from './in-flight.ts';
import type { PeerClient } from './peer-client.ts';

const PUBLISHES_IN_FLIGHT = 5_000;
const CHUNK_EVENTS = 100;
const STORE_OFFSET_EVERY = 500;

export async function openRabbitStream({ host, streamPort = 0 }: ServerAddress): Promise<PeerClient> {
  const account = { username: 'guest', password: 'guest', vhost: '/' };
  const client = await connect({ hostname: host, port: streamPort, ...account });
  return {
    createTopic: async ({ name }) => {
      await client.createStream({ stream: name });
    },
    publisher: async ({ name: stream }) => {
      const publisher = await client.declarePublisher({ stream, maxChunkLength: CHUNK_EVENTS });
      const inFlight = new InFlight(PUBLISHES_IN_FLIGHT);
      const waiting = new Map<bigint, (error: unknown) => void>();
      publisher.on('publish_confirm', (error, ids) => {
        for (const id of ids) {
          const settle = waiting.get(id);
          waiting.delete(id);
          settle?.(error);
        }
      });
      let next = 0n;
      const send = (value: object, settle: (error: unknown) => void): Promise<unknown> => {
        next += 1n;
        waiting.set(next, settle);
        return publisher.basicSend(next, Buffer.from(JSON.stringify(value)));
      };
      return {
        publish: async ({ value }) => {
          const confirmed = new Promise<void>((resolve, reject) => {
            send(value, (error) => (error === null ? resolve() : reject(failureOf(error)))).catch(reject);
          });
          await confirmed;
        },
        offer: async (events) => {
          for (const { value } of events) {
            await inFlight.room();
            inFlight.begin();
            await send(value, (error) => inFlight.end(error));
          }
        },
        flush: async () => {
          await publisher.flush();
          await inFlight.empty();
        },
      };
    },
    subscribe: async ({ name: stream }, consumerRef, handler) => {
      let taken = 0;
      const consumer = await client.declareConsumer(
        { stream, offset: Offset.first(), consumerRef },
        ({ content, offset }) => {
          handler(JSON.parse(content.toString()) as object);
          taken += 1;
          if (taken % STORE_OFFSET_EVERY === 0 && offset !== undefined) void consumer.storeOffset(offset);
        },
      );
    },
    close: () => client.close(),
  };
}
