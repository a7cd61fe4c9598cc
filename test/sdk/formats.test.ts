/** The SDK's formats through a whole broker, with the broker's own schema registry, beside a Kafka client's registry serializer. */
import { SchemaRegistry, SchemaType } from '@kafkajs/confluent-schema-registry';
import { Broker } from '@naru/broker';
import type { Naru, NaruEvent, Serde } from '@naru/client';
import { connect, serdes } from '@naru/client';
import { beforeEach, expect, it, onTestFinished } from 'vitest';

const TOPIC = 'orders';
let naru: Naru;
let kafka: SchemaRegistry;

beforeEach(async () => {
  const broker = await Broker.start({ storage: 'memory', port: 0 });
  naru = await connect({ brokers: [broker.bootstrap] });
  kafka = new SchemaRegistry({ host: `http://${broker.bootstrap}` });
  onTestFinished(async () => {
    await naru.close();
    await broker.close();
  });
  await naru.admin.createTopic(TOPIC, { partitions: 1 });
});

/** The first `count` events of the topic. */
async function received(serde: Serde<unknown>, count: number): Promise<NaruEvent[]> {
  const events: NaruEvent[] = [];
  const { promise: done, resolve } = Promise.withResolvers<void>();
  const subscriber = naru.subscriber('readers', { pollWaitMs: 50 });
  const handler = (event: NaruEvent): void => {
    if (events.push(event) === count) resolve();
  };
  subscriber.handle(TOPIC, handler, { serde });
  const running = subscriber.run();
  await done;
  await subscriber.close();
  await running;
  return events;
}

const avro = { type: 'record', name: 'Order', fields: [{ name: 'id', type: 'int' }] };
const newer = {
  ...avro,
  fields: [
    { name: 'id', type: 'long' },
    { name: 'state', type: 'string', default: 'new' },
  ],
};
const json = { title: 'Order', type: 'object', properties: { id: { type: 'integer' }, state: { default: 'new' } } };
const proto = 'syntax = "proto3"; package shop; message Order { int32 id = 1; string state = 2; }';

it.each([
  [
    'AVRO',
    JSON.stringify(avro),
    () => serdes.avro({ schema: avro }),
    () => serdes.avro({ schema: newer }),
    { id: 1n, state: 'new' },
  ],
  [
    'JSON',
    JSON.stringify(json),
    () => serdes.jsonSchema({ schema: json }),
    () => serdes.jsonSchema({ schema: json }),
    { id: 1, state: 'new' },
  ],
  [
    'PROTOBUF',
    proto,
    () => serdes.protobuf({ schema: proto }),
    () => serdes.protobuf({ schema: proto }),
    { id: 1, state: '' },
  ],
] as const)(
  '%s from either side is read by the other, in the version that the reader has',
  async (type, schema, write, read, seen) => {
    const client = naru.schemaRegistry();
    const serde = serdes.withRegistry<unknown>(await write(), { client });
    const { id } = await kafka.register({ type: SchemaType[type], schema }, { subject: `${TOPIC}-value` });
    const sent = [
      naru.publish(TOPIC, { id: 1 }, { key: 'a', serde }),
      naru.publish(TOPIC, await kafka.encode(id, { id: 1 }), { key: 'a', serde: serdes.bytes }),
    ];
    await Promise.all(sent);
    const reader = serdes.withRegistry<unknown>(await read(), { client });
    const events = await received(reader, 2);
    expect(events.map(({ value }) => value)).toMatchObject([seen, seen]);
    expect(((await kafka.decode(Buffer.from(events[0]?.valueBytes ?? []))) as { id: number }).id).toBe(1);
  },
);

it('refuses what does not fit before it is sent', async () => {
  const serde = serdes.withRegistry(await serdes.avro({ schema: avro }), { client: naru.schemaRegistry() });
  await expect(naru.publish(TOPIC, { id: 'x' }, { serde })).rejects.toMatchObject({
    code: 'SERIALIZATION',
    path: '/id',
    message: `value for ${TOPIC} is not avro: subject ${TOPIC}-value: /id: expected int, got "x"`,
  });
});
