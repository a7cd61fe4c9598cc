/** What the SDK's formats cost beside the bare libraries: one event of about 1 KiB, written or read again and again. */
import type { Comparison, Scenario } from '../scenario.ts';
import type { CodecName } from '../serialization/serializer-role.ts';

type Direction = 'write' | 'read';

function serialization(codec: CodecName, direction: Direction, what: string): Scenario {
  return {
    name: `${codec}-${direction}`,
    what,
    async run(bench) {
      const { seconds, warmUpSeconds } = bench.settings;
      const serializer = await bench.start('serializer', { codec }, 'serializer');
      await serializer.call(direction, { seconds: warmUpSeconds });
      return bench.measure(() => serializer.call(direction, { seconds }));
    },
  };
}

type Rows = readonly (readonly [codec: CodecName, what: string])[];

const formats: readonly (readonly [name: string, title: string, subjects: Rows, limits: Rows])[] = [
  ['json', 'JSON', [['json', 'serdes.json']], [['bare-json', 'JSON.stringify and JSON.parse, with a Buffer']]],
  [
    'json-schema',
    'JSON with a JSON Schema',
    [['json-schema', 'serdes.jsonSchema']],
    [['bare-ajv', 'the same, and ajv']],
  ],
  [
    'avro',
    'Avro',
    [
      ['avro', 'serdes.avro: longs are bigints, lengths are checked'],
      ['avro-registry', 'the same in Confluent’s wire format, serdes.withRegistry'],
    ],
    [['bare-avsc', 'avsc: longs are numbers']],
  ],
  [
    'protobuf',
    'Protobuf from a .proto file',
    [['protobuf', 'serdes.protobuf: protobuf-es, values are checked']],
    [
      ['bare-protobuf-es', 'protobuf-es: works from descriptors'],
      ['bare-protobufjs', 'protobufjs: compiles code, 64-bit integers are objects'],
    ],
  ],
];

export const serializations: readonly Comparison[] = formats.flatMap(([name, title, subjects, limits]) =>
  (['write', 'read'] as const).map((direction) => {
    const rows = (all: Rows): Scenario[] => all.map(([codec, what]) => serialization(codec, direction, what));
    return {
      name: `serialization-${name}-${direction}`,
      title: `Serialization: ${title}, ${direction === 'write' ? 'writing' : 'reading'} an order of ten lines`,
      kind: 'throughput' as const,
      subjects: rows(subjects),
      limits: rows(limits),
      targets: [],
    };
  }),
);
