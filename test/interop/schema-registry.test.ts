/** The registry client of kafkajs, unchanged, against the broker's schema registry. */
import confluent from '@kafkajs/confluent-schema-registry';
import { Broker } from '@naru/broker';
import kafkajs from 'kafkajs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const { SchemaRegistry, SchemaType, COMPATIBILITY } = confluent;

/** The client's types want a union of literals. */
type ConfluentSchema = Extract<
  Parameters<InstanceType<typeof SchemaRegistry>['getRegistryIdBySchema']>[1],
  { schema: string }
>;

let broker: Broker;
let registry: InstanceType<typeof SchemaRegistry>;

beforeEach(async () => {
  broker = await Broker.start({ storage: 'memory', port: 0 });
  registry = newRegistry();
});

afterEach(() => broker.close());

/** One that knows nothing yet. */
function newRegistry(): InstanceType<typeof SchemaRegistry> {
  return new SchemaRegistry({ host: `http://${broker.bootstrap}`, retry: { retries: 0 } });
}

const AVRO = {
  type: 'record' as const,
  name: 'Order',
  namespace: 'shop',
  fields: [{ name: 'id', type: 'string' }],
};
const JSON_SCHEMA = JSON.stringify({ type: 'object', properties: { id: { type: 'string' } }, required: ['id'] });
const PROTO = 'syntax = "proto3";\npackage shop;\nmessage Order { string id = 1; }';

describe('@kafkajs/confluent-schema-registry', () => {
  it.each([
    ['Avro', { type: SchemaType.AVRO, schema: JSON.stringify(AVRO) }],
    ['JSON Schema', { type: SchemaType.JSON, schema: JSON_SCHEMA }],
    ['Protobuf', { type: SchemaType.PROTOBUF, schema: PROTO }],
  ])('registers %s, encodes with it, and another client decodes', async (_, given) => {
    const schema = given as ConfluentSchema;
    const subject = 'orders-value';
    const { id } = await registry.register(schema, { subject });
    expect(await registry.register(schema, { subject })).toEqual({ id });
    const bytes = await registry.encode(id, { id: 'o-1' });
    expect(bytes.readInt32BE(1)).toBe(id);
    const other = newRegistry();
    expect(await other.decode(bytes)).toMatchObject({ id: 'o-1' });
    expect(await other.getLatestSchemaId(subject)).toBe(id);
    expect(await other.getRegistryId(subject, 1)).toBe(id);
    expect(await other.getRegistryIdBySchema(subject, schema)).toBe(id);
  });

  it('registers by the name of an Avro record, and sets the level of a new subject', async () => {
    await registry.register(AVRO, { compatibility: COMPATIBILITY.FULL });
    const response = await fetch(`http://${broker.bootstrap}/config/shop.Order`);
    expect(await response.json()).toEqual({ compatibilityLevel: 'FULL' });
    await expect(registry.register(AVRO, { compatibility: COMPATIBILITY.NONE })).rejects.toThrow(
      'Compatibility does not match the configuration (NONE != FULL)',
    );
  });

  it('is told that a schema is incompatible', async () => {
    await registry.register(AVRO);
    const next = { ...AVRO, fields: [...AVRO.fields, { name: 'total', type: 'long' }] };
    await expect(registry.register(next)).rejects.toMatchObject({
      status: 409,
      message: expect.stringContaining(
        "the field 'total' of record shop.Order in the new schema has no default",
      ) as string,
    });
    await expect(registry.decode(Buffer.from([0, 0, 0, 0, 99, 1]))).rejects.toMatchObject({
      status: 404,
      message: expect.stringContaining('Schema 99 not found') as string,
    });
  });

  it.each([
    [
      'Avro',
      {
        type: SchemaType.AVRO,
        schema: JSON.stringify({ type: 'record', name: 'shop.Money', fields: [{ name: 'cents', type: 'long' }] }),
      },
      { type: SchemaType.AVRO, schema: JSON.stringify({ ...AVRO, fields: [{ name: 'total', type: 'shop.Money' }] }) },
      'shop.Money',
    ],
    [
      'JSON Schema',
      {
        type: SchemaType.JSON,
        schema: '{"$id":"https://e.com/money","type":"object","properties":{"cents":{"type":"integer"}}}',
      },
      { type: SchemaType.JSON, schema: '{"type":"object","properties":{"total":{"$ref":"https://e.com/money"}}}' },
      'https://e.com/money',
    ],
    [
      'Protobuf',
      { type: SchemaType.PROTOBUF, schema: 'syntax = "proto3"; package pay; message Money { int64 cents = 1; }' },
      {
        type: SchemaType.PROTOBUF,
        schema: 'syntax = "proto3"; package shop; import "money.proto"; message Order { pay.Money total = 1; }',
      },
      'money.proto',
    ],
  ])('follows references between schemas: %s', async (_, money, order, name) => {
    await registry.register(money as ConfluentSchema, { subject: 'money' });
    const references = [{ name, subject: 'money', version: 1 }];
    const { id } = await registry.register({ ...order, references } as ConfluentSchema, { subject: 'orders' });
    const bytes = await registry.encode(id, { total: { cents: 5 } });
    const decoded = (await newRegistry().decode(bytes)) as { total: { cents: unknown } };
    expect(Number(decoded.total.cents)).toBe(5);
  });

  it('serves a Kafka producer and consumer on the same port', async () => {
    const { id } = await registry.register({ type: SchemaType.PROTOBUF, schema: PROTO }, { subject: 'orders-value' });
    const kafka = new kafkajs.Kafka({ brokers: [broker.bootstrap], logLevel: kafkajs.logLevel.NOTHING });
    const admin = kafka.admin();
    await admin.connect();
    await admin.createTopics({ topics: [{ topic: 'orders', numPartitions: 1 }] });
    await admin.disconnect();
    const producer = kafka.producer();
    await producer.connect();
    await producer.send({ topic: 'orders', messages: [{ value: await registry.encode(id, { id: 'o-1' }) }] });
    await producer.disconnect();
    const consumer = kafka.consumer({ groupId: 'billing' });
    await consumer.connect();
    await consumer.subscribe({ topic: 'orders', fromBeginning: true });
    const { promise, resolve } = Promise.withResolvers<Buffer>();
    await consumer.run({ eachMessage: ({ message }) => Promise.resolve(resolve(message.value as Buffer)) });
    expect(await newRegistry().decode(await promise)).toMatchObject({ id: 'o-1' });
    await consumer.disconnect();
  });
});
