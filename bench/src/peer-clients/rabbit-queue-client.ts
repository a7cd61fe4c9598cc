/** RabbitMQ's quorum queues with amqplib: publisher confirms, and an ack for each event; a queue for each group. */
import { connect } from 'amqplib';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight, failureOf } from './in-flight.ts';
import type { PeerClient } from './peer-client.ts';

const PUBLISHES_IN_FLIGHT = 1_000;
const PREFETCH = 500;
const PERSISTENT = { persistent: true } as const;

export async function openRabbitQueue({ host, port }: ServerAddress): Promise<PeerClient> {
  const connection = await connect(`amqp://guest:guest@${host}:${port}`);
  const queueOf = (topic: string, group: string): string => `${topic}.${group}`;
  return {
    createTopic: async ({ name, groups }) => {
      const channel = await connection.createChannel();
      await channel.assertExchange(name, 'fanout', { durable: true });
      for (const group of groups) {
        const queue = queueOf(name, group);
        await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
        await channel.bindQueue(queue, name, '');
      }
      await channel.close();
    },
    publisher: async ({ name }) => {
      const channel = await connection.createConfirmChannel();
      const inFlight = new InFlight(PUBLISHES_IN_FLIGHT);
      const send = (value: object, done: (error: unknown) => void): boolean =>
        channel.publish(name, '', Buffer.from(JSON.stringify(value)), PERSISTENT, done);
      return {
        publish: ({ value }) =>
          new Promise((resolve, reject) => {
            send(value, (error) => (error === null || error === undefined ? resolve() : reject(failureOf(error))));
          }),
        offer: async (events) => {
          for (const { value } of events) {
            await inFlight.room();
            inFlight.begin();
            send(value, (error) => inFlight.end(error));
          }
        },
        flush: () => inFlight.empty(),
      };
    },
    subscribe: async ({ name }, group, handler) => {
      const channel = await connection.createChannel();
      await channel.prefetch(PREFETCH);
      await channel.consume(queueOf(name, group), (message) => {
        if (message === null) return;
        handler(JSON.parse(message.content.toString()) as object);
        channel.ack(message);
      });
    },
    close: () => connection.close(),
  };
}
