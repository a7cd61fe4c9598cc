/**
 * nats.js with JetStream: a stream for each topic, a durable pull consumer for each group, every event acknowledged. Many events are
 * published in atomic batches, which are many times as fast as single publishes in flight, above all with a sync for each of those.
 */
import { AckPolicy, DeliverPolicy, RetentionPolicy, StorageType, jetstream } from '@nats-io/jetstream';
import type { JetStreamClient } from '@nats-io/jetstream';
import { connect } from '@nats-io/transport-node';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight } from './in-flight.ts';
import type { Outgoing, PeerClient } from './peer-client.ts';

const BATCHES_IN_FLIGHT = 4;
const PULLED = 1_000;
const PENDING_ACKS = 10_000;

export async function openNats({ host, port }: ServerAddress): Promise<PeerClient> {
  const connection = await connect({ servers: `${host}:${port}` });
  const stream = jetstream(connection);
  return {
    createTopic: async ({ name, groups, kind }) => {
      const admin = await stream.jetstreamManager();
      const retention = kind === 'queue' ? RetentionPolicy.Workqueue : RetentionPolicy.Limits;
      await admin.streams.add({ name, subjects: [name], storage: StorageType.File, retention, allow_atomic: true });
      for (const group of groups) {
        await admin.consumers.add(name, {
          durable_name: group,
          ack_policy: AckPolicy.Explicit,
          deliver_policy: DeliverPolicy.All,
          max_ack_pending: PENDING_ACKS,
        });
      }
    },
    publisher: ({ name }) => {
      const inFlight = new InFlight(BATCHES_IN_FLIGHT);
      return Promise.resolve({
        publish: async ({ value }) => {
          await stream.publish(name, JSON.stringify(value));
        },
        offer: async (events) => {
          await inFlight.room();
          inFlight.add(publishBatch(stream, name, events));
        },
        flush: () => inFlight.empty(),
      });
    },
    subscribe: async ({ name }, group, handler) => {
      const consumer = await stream.consumers.get(name, group);
      await consumer.consume({
        max_messages: PULLED,
        callback: (message) => {
          handler(message.json<object>());
          message.ack();
        },
      });
    },
    close: () => connection.close(),
  };
}

async function publishBatch(stream: JetStreamClient, name: string, events: readonly Outgoing[]): Promise<void> {
  const values = events.map(({ value }) => JSON.stringify(value));
  const last = values.pop() ?? '';
  const first = values.shift();
  if (first === undefined) {
    await stream.publish(name, last);
    return;
  }
  const batch = await stream.startBatch(name, first);
  for (const value of values) batch.add(name, value);
  await batch.commit(name, last);
}
