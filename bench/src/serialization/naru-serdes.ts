/** The SDK's serdes as codecs. */
import { serdes } from '@naru/client';
import type { Serde } from '@naru/client';
import { avroSchema, jsonSchema, protoSchema } from './sample-order.ts';
import type { Codec } from './serializer-role.ts';

const TOPIC = { topic: 'bench' };

export const naruCodecs = {
  json: () => codecOf(serdes.json),
  'json-schema': async () => codecOf(await serdes.jsonSchema({ schema: jsonSchema })),
  avro: async () => codecOf(await serdes.avro({ schema: avroSchema })),
  'avro-registry': async () => {
    const registry = (): Promise<Response> =>
      Promise.resolve(Response.json({ id: 1, schema: JSON.stringify(avroSchema) }));
    const client = new serdes.SchemaRegistryClient({ url: 'localhost:1', fetch: registry });
    return codecOf(serdes.withRegistry(await serdes.avro({ schema: avroSchema }), { client }));
  },
  protobuf: async () => codecOf(await serdes.protobuf<unknown>({ schema: protoSchema })),
} as const satisfies Readonly<Record<string, () => Codec | Promise<Codec>>>;

/** What waits for a registry waits in the warm-up. */
function codecOf(serde: Serde<unknown>): Codec {
  return {
    write: (value) => serde.serialize(value, TOPIC) as Uint8Array | Promise<Uint8Array>,
    read: (bytes) => serde.deserialize(bytes, TOPIC),
  };
}
