/** All Node clients, by name; loaded when asked for. */
import type { Durability, ServerName } from '../peer-servers/server-kind.ts';
import type { OpenClient } from './peer-client.ts';

export type ClientName =
  | 'naru'
  | 'platformatic'
  | 'kafkajs'
  | 'librdkafka'
  | 'nats'
  | 'redis-streams'
  | 'rabbit-quorum'
  | 'rabbit-stream'
  | 'bullmq';

export const clients: Readonly<Record<ClientName, () => Promise<OpenClient>>> = {
  naru: async () => (await import('./naru-client.ts')).openNaru,
  platformatic: async () => (await import('./platformatic-client.ts')).openPlatformatic,
  kafkajs: async () => (await import('./kafkajs-client.ts')).openKafkajs,
  librdkafka: async () => (await import('./kafkajs-client.ts')).openLibrdkafka,
  nats: async () => (await import('./nats-client.ts')).openNats,
  'redis-streams': async () => (await import('./redis-client.ts')).openRedis,
  'rabbit-quorum': async () => (await import('./rabbit-queue-client.ts')).openRabbitQueue,
  'rabbit-stream': async () => (await import('./rabbit-stream-client.ts')).openRabbitStream,
  bullmq: async () => (await import('./bullmq-client.ts')).openBullmq,
};

/** What the client's way of using the server makes of the server's durability. */
export function durabilityOf(client: ClientName, server: Durability): Durability {
  return client === 'rabbit-stream' ? 'no-fsync' : server;
}

/** Libraries behind the clients, by package name. */
export const clientPackages: readonly string[] = [
  '@platformatic/kafka',
  'kafkajs',
  '@nats-io/jetstream',
  'ioredis',
  'amqplib',
  'rabbitmq-stream-js-client',
  'bullmq',
];

export const clientServers: Readonly<Record<ClientName, ServerName>> = {
  naru: 'naru',
  platformatic: 'kafka',
  kafkajs: 'kafka',
  librdkafka: 'kafka',
  nats: 'nats',
  'redis-streams': 'redis',
  'rabbit-quorum': 'rabbitmq',
  'rabbit-stream': 'rabbitmq',
  bullmq: 'redis',
};
