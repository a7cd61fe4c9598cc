/**
 * What the SDK's formats stand on, used as their own documentation does: no check beyond the library's, no message of ours.
 * The copies are the SDK's, found from where it is.
 */
import { createRequire } from 'node:module';
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { serdes } from '@naru/client';
import { avroSchema, jsonSchema, protoSchema } from './sample-order.ts';
import type { Codec } from './serializer-role.ts';

const fromClient = createRequire(import.meta.resolve('@naru/client'));

interface Avsc {
  readonly Type: {
    forSchema(schema: object): { toBuffer(value: unknown): Buffer; fromBuffer(bytes: Buffer): unknown };
  };
}
interface Ajv {
  compile(schema: object): (value: unknown) => boolean;
}
interface Protobufjs {
  parse(text: string): { root: { lookupType(name: string): ProtobufjsType } };
}
interface ProtobufjsType {
  create(value: unknown): object;
  encode(message: object): { finish(): Uint8Array };
  decode(bytes: Uint8Array): object;
}

export const bareCodecs = {
  'bare-json': (): Codec => ({
    write: (value) => Buffer.from(JSON.stringify(value)),
    read: (bytes) => JSON.parse(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()) as unknown,
  }),
  'bare-ajv': (): Codec => {
    const { Ajv2020 } = fromClient('ajv/dist/2020.js') as { Ajv2020: new () => Ajv };
    const validate = new Ajv2020().compile(jsonSchema);
    const checked = (value: unknown): unknown => {
      if (!validate(value)) throw new Error('not valid');
      return value;
    };
    const json = bareCodecs['bare-json']();
    return { write: (value) => json.write(checked(value)), read: (bytes) => checked(json.read(bytes)) };
  },
  'bare-avsc': (): Codec => {
    const type = (fromClient('avsc') as Avsc).Type.forSchema(avroSchema);
    return { write: (value) => type.toBuffer(value), read: (bytes) => type.fromBuffer(bytes as Buffer) };
  },
  /** Only the descriptor is the SDK's. */
  'bare-protobuf-es': async (): Promise<Codec> => {
    const { message } = await serdes.protobuf({ schema: protoSchema });
    return {
      write: (value) => toBinary(message, create(message, value as Record<string, unknown>)),
      read: (bytes) => fromBinary(message, bytes),
    };
  },
  'bare-protobufjs': (): Codec => {
    const type = (fromClient('protobufjs') as Protobufjs).parse(protoSchema).root.lookupType('Order');
    return { write: (value) => type.encode(type.create(value)).finish(), read: (bytes) => type.decode(bytes) };
  },
} as const satisfies Readonly<Record<string, () => Codec | Promise<Codec>>>;
