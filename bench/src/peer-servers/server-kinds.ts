/** All servers that can be measured, by name. */
import { kafka } from './kafka.ts';
import { naru } from './naru.ts';
import { nats } from './nats.ts';
import { rabbitmq } from './rabbitmq.ts';
import { redis } from './redis.ts';
import type { ServerKind, ServerName } from './server-kind.ts';

export const serverKinds: Readonly<Record<ServerName, ServerKind>> = { naru, kafka, nats, redis, rabbitmq };
