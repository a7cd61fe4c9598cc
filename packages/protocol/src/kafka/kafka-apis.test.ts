/** Every API in every version: what is encoded comes back, and no bytes do more harm than a typed error. */
import type { TopicId } from '@naru/base';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { NaruError } from '../errors.ts';
import { kafkaApiByKey, kafkaApis } from './kafka-apis.ts';
import { decodeRequest, decodeRequestHeader, decodeResponse, encodeRequest, encodeResponse } from './kafka-frames.ts';
import { decodeStruct } from './schema/decode-struct.ts';
import type { KafkaApi } from './schema/kafka-api.ts';
import { WireReader } from './schema/wire-reader.ts';
import { sampleMessage } from './testing/sample-message.ts';
import type { ValueSource } from './testing/sample-message.ts';

const apis: readonly KafkaApi[] = Object.values(kafkaApis);
const versionsOf = ({ served: [min, max] }: KafkaApi): number[] =>
  Array.from({ length: max - min + 1 }, (_, i) => min + i);
/** Those in which lengths are written differently, first and last. */
const distinctVersionsOf = (api: KafkaApi): number[] =>
  versionsOf(api).filter((v) => api.served.includes(v) || v === api.flexibleFrom || v === api.flexibleFrom - 1);
const messages = apis.flatMap((api) => versionsOf(api).map((version) => ({ api, version })));

/** Values that shrink. */
function generatedBy(g: fc.GeneratorValue): ValueSource {
  return {
    integer: (min, max) => g(fc.integer, { min, max }),
    boolean: () => g(fc.boolean),
    // Long ones have more than one byte of length in both encodings.
    text: () => g(fc.string, { unit: 'grapheme', maxLength: g(fc.constantFrom, 5, 5, 5, 300) }),
    bytes: () => g(fc.uint8Array, { maxLength: g(fc.constantFrom, 5, 5, 5, 700) }),
    uuid: () => g(fc.uuid) as TopicId,
    takesNull: () => g(fc.boolean),
    arrayLength: () => g(fc.nat, { max: 3 }),
  };
}

/** The same small values always. */
function fixedValues(): ValueSource {
  let n = 0;
  return {
    integer: (min, max) => Math.max(min, Math.min(max, (n += 1) * 1_000_003)),
    boolean: () => true,
    text: () => `t${(n += 1)}`,
    bytes: () => new TextEncoder().encode(`b${(n += 1)}`),
    uuid: () => '01234567-89ab-cdef-0123-456789abcdef' as TopicId,
    takesNull: () => false,
    arrayLength: (path) => (path.includes('.') ? 1 : 2),
  };
}

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const frame = Buffer.concat(parts);
  expect(frame.readInt32BE(0)).toBe(frame.length - 4);
  return new Uint8Array(frame.subarray(4));
}

const header = { correlationId: 77, clientId: 'tests' };
const requestFrame = (api: KafkaApi, version: number, body: Record<string, unknown>): Uint8Array =>
  joined(encodeRequest(api, version, header, body));
const responseFrame = (api: KafkaApi, version: number, body: Record<string, unknown>): Uint8Array =>
  joined(encodeResponse(api, version, header.correlationId, body));

function readRequest(api: KafkaApi, version: number, frame: Uint8Array): unknown {
  const { bodyAt } = decodeRequestHeader(frame);
  return decodeRequest(api, version, frame, bodyAt);
}

const plain = (value: unknown): unknown =>
  JSON.parse(
    JSON.stringify(value, (_, v) => (v instanceof Uint8Array ? Buffer.from(v).toString('hex') : v) as unknown),
  );

describe('the table', () => {
  test('finds every API by its key', () => {
    for (const api of apis) expect(kafkaApiByKey(api.key)).toBe(api);
    expect(kafkaApiByKey(999)).toBeUndefined();
  });

  test('advertises more than it serves for Produce only', () => {
    expect(kafkaApis.produce.advertised).toEqual([0, 12]);
    for (const api of apis) if (api.name !== 'Produce') expect(api.advertised).toEqual(api.served);
  });

  test('plans no version that is not served', () => {
    expect(() => encodeResponse(kafkaApis.heartbeat, 5, 1, { errorCode: 0 })).toThrow(
      'version 5 of Heartbeat is served',
    );
    expect(() => decodeRequest(kafkaApis.produce, 2, new Uint8Array(9), 0)).toThrow('version 2 of Produce is served');
  });
});

describe.each(messages)('$api.name v$version', ({ api, version }) => {
  const runs = { numRuns: 8 };

  test('a request comes back as it was, and nothing is left of it', () => {
    fc.assert(
      fc.property(fc.gen(), (g) => {
        const { input, output } = sampleMessage(api.request, version, generatedBy(g));
        const frame = requestFrame(api, version, input);
        const read = decodeRequestHeader(frame);
        expect(read).toMatchObject({ ...header, apiKey: api.key, apiVersion: version, api });
        const body = decodeRequest(api, version, frame, read.bodyAt);
        expect(plain(body)).toEqual(plain(output));
        expect(Object.keys(body)).toEqual(Object.keys(api.request));
        const reader = new WireReader(frame, read.bodyAt);
        decodeStruct(reader, api.requestPlan(version));
        expect(reader.position).toBe(frame.length);
      }),
      runs,
    );
  });

  test('a response comes back as it was', () => {
    fc.assert(
      fc.property(fc.gen(), (g) => {
        const { input, output } = sampleMessage(api.response, version, generatedBy(g));
        const frame = responseFrame(api, version, input);
        const { correlationId, body } = decodeResponse(api, version, frame);
        expect(correlationId).toBe(header.correlationId);
        expect(plain(body)).toEqual(plain(output));
        expect(plain(decodeResponse(api, version, responseFrame(api, version, body)).body)).toEqual(plain(body));
      }),
      runs,
    );
  });
});

describe.each(apis.flatMap((api) => distinctVersionsOf(api).map((version) => ({ api, version }))))(
  'hostile bytes as $api.name v$version',
  ({ api, version }) => {
    const sides = [
      {
        frame: requestFrame(api, version, sampleMessage(api.request, version, fixedValues()).input),
        read: (frame: Uint8Array) => readRequest(api, version, frame),
      },
      {
        frame: responseFrame(api, version, sampleMessage(api.response, version, fixedValues()).input),
        read: (frame: Uint8Array) => decodeResponse(api, version, frame),
      },
    ];

    test('a message that ends too early is INVALID_REQUEST, wherever it ends', () => {
      for (const { frame, read } of sides) {
        read(frame);
        const lengths = [...frame.keys()];
        const outcomes = lengths.map((length) => outcomeOf(() => read(frame.slice(0, length))));
        expect(outcomes).toEqual(lengths.map(() => 'INVALID_REQUEST'));
      }
    });

    test('bytes that were changed are read as something or refused', () => {
      const outcomes = new Set<string>();
      for (const { frame, read } of sides) {
        for (const at of frame.keys()) {
          for (const bytes of [...hostileBytes, [(frame[at] as number) ^ (1 << (at % 8))]]) {
            const changed = frame.slice();
            changed.set(bytes.slice(0, frame.length - at), at);
            outcomes.add(outcomeOf(() => read(changed)));
          }
        }
      }
      expect([...outcomes].toSorted()).toEqual(['INVALID_REQUEST', 'read']);
    });
  },
);

/** Lengths in both encodings: as long as can be, negative, longer than 32 bits, none. */
const hostileBytes = [
  [0x7f, 0xff, 0xff, 0xff],
  [0xff, 0xff, 0xff, 0xfe],
  [0xff, 0xff, 0xff, 0xff, 0x0f],
  [0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
  [0x00, 0x00, 0x00, 0x00],
];

/** The code of the error that it threw, or `read`. Anything but our errors goes on. */
function outcomeOf(read: () => unknown): string {
  try {
    read();
    return 'read';
  } catch (error) {
    if (error instanceof NaruError) return error.code;
    throw error;
  }
}
