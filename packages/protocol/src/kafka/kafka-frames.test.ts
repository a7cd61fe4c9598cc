import { AssertionError } from '@naru/base';
import { describe, expect, test } from 'vitest';
import { isNaruError } from '../errors.ts';
import { kafkaApis } from './kafka-apis.ts';
import { decodeRequest, decodeRequestHeader, decodeResponse, encodeRequest, encodeResponse } from './kafka-frames.ts';
import { array, bytes, int32, string, struct } from './schema/field.ts';
import { KafkaApi } from './schema/kafka-api.ts';
import { MAX_REQUEST_ELEMENTS, MAX_STRING_BYTES } from './schema/wire-reader.ts';

const { addOffsetsToTxn, apiVersions, fetch, heartbeat, listOffsets, metadata } = kafkaApis;
const { consumerGroupDescribe, describeGroups, endTxn, offsetCommit, offsetFetch, produce } = kafkaApis;
const header = { correlationId: 7, clientId: 'tests' };

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text.replaceAll(' ', ''), 'hex'));
/** A frame as a door has it: without its size. */
const frameOf = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts).subarray(4));

function refusalOf(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (isNaruError(error, 'INVALID_REQUEST')) return error.message;
    throw error;
  }
  throw new Error('was read');
}

describe('the bytes', () => {
  const expectBytes = (parts: readonly Uint8Array[], text: string): void =>
    expect(Buffer.concat(parts).toString('hex')).toBe(text.replaceAll(' ', ''));

  test('of a flexible request', () => {
    const frame = encodeRequest(apiVersions, 3, header, { clientSoftwareName: 'naru', clientSoftwareVersion: '1' });
    expectBytes(frame, '00000018 0012 0003 00000007 0005 7465737473 00 05 6e617275 02 31 00');
  });

  test('of a response: ApiVersions has the old header, others of flexible versions the new one', () => {
    const first = encodeResponse(apiVersions, 4, 7, { errorCode: 0, apiKeys: [] });
    expectBytes(first, '0000000c 00000007 0000 01 00000000 00');
    expectBytes(encodeResponse(heartbeat, 4, 7, { errorCode: 27 }), '0000000c 00000007 00 00000000 001b 00');
    expectBytes(encodeResponse(heartbeat, 3, 7, { errorCode: 27 }), '0000000a 00000007 00000000 001b');
  });

  test('of the versions that none of the clients at hand has', () => {
    const group = { errorCode: 69, errorMessage: 'no', groupId: 'g', groupState: 'Dead' };
    const classic = { ...group, protocolType: '', protocolData: '', members: [] };
    expectBytes(
      encodeResponse(describeGroups, 6, 7, { groups: [classic] }),
      '0000001f 00000007 00 00000000 02 0045 036e6f 0267 0544656164 01 01 01 80000000 00 00',
    );
    const none = { topicPartitions: [] };
    const member = { memberId: 'm', memberEpoch: 1, clientId: 'c', clientHost: 'h', subscribedTopicNames: [] };
    const members = [{ ...member, assignment: none, targetAssignment: none, memberType: 1 }];
    const described = { ...group, groupEpoch: 1, assignmentEpoch: 2, assignorName: 'u', members };
    expectBytes(
      encodeResponse(consumerGroupDescribe, 1, 7, { groups: [described] }),
      '0000003b 00000007 00 00000000 02 0045 036e6f 0267 0544656164 00000001 00000002 0275' +
        '02 026d 00 00 00000001 0263 0268 01 00 0100 0100 01 00 80000000 00 00',
    );
    const ended = { errorCode: 0, producerId: 258, producerEpoch: 4 };
    expectBytes(encodeResponse(endTxn, 5, 7, ended), '00000016 00000007 00 00000000 0000 0000000000000102 0004 00');
    expectBytes(encodeResponse(endTxn, 4, 7, ended), '0000000c 00000007 00 00000000 0000 00');
    const refused = encodeResponse(endTxn, 5, 7, { errorCode: 90 });
    expectBytes(refused, '00000016 00000007 00 00000000 005a ffffffffffffffff ffff 00');
  });

  test('of an unsupported version of ApiVersions: a body of version 0', () => {
    const apiKeys = [{ apiKey: 18, minVersion: 0, maxVersion: 4 }];
    const answer = encodeResponse(apiVersions, 0, 7, { errorCode: 35, apiKeys });
    expectBytes(answer, '00000010 00000007 0023 00000001 0012 0000 0004');
  });
});

describe('a header', () => {
  test('of a key that nobody knows is read, so that it can be refused', () => {
    const read = decodeRequestHeader(hex('03e7 0002 00000009 ffff 0102'));
    expect(read).toEqual({
      apiKey: 999,
      apiVersion: 2,
      correlationId: 9,
      clientId: null,
      api: undefined,
      bodyAt: 10,
    });
  });

  test('of a version that is not served is read too', () => {
    const read = decodeRequestHeader(hex('0012 0063 00000009 0001 61 00 ff'));
    expect(read).toMatchObject({ api: apiVersions, apiVersion: 99, clientId: 'a', bodyAt: 12 });
    expect(read.api?.serves(read.apiVersion)).toBe(false);
  });

  test('skips tags', () => {
    const frame = hex('000c 0004 00000009 0001 61 02 00 03 010203 7f 00 0267 00000001 026d 00 00');
    const { bodyAt } = decodeRequestHeader(frame);
    expect(decodeRequest(heartbeat, 4, frame, bodyAt)).toEqual({
      groupId: 'g',
      generationId: 1,
      memberId: 'm',
      groupInstanceId: null,
    });
  });

  test('that is cut off is refused', () => {
    expect(refusalOf(() => decodeRequestHeader(hex('0012 0003 0000')))).toBe(
      'the header of a Kafka request cannot be read: byte 4: 4 bytes expected, 2 left',
    );
  });
});

describe('record batches', () => {
  const large = new Uint8Array(70_000).fill(1);
  const small = new Uint8Array(100).fill(2);
  const partition = { errorCode: 0, highWatermark: 5 };

  test('are among the buffers of the response as they are, but for small ones', () => {
    const partitions = [
      { ...partition, partitionIndex: 0, records: [large, small, large] },
      { ...partition, partitionIndex: 1, records: small },
      { ...partition, partitionIndex: 2, records: null },
      { ...partition, partitionIndex: 3, records: [] },
    ];
    for (const version of [4, 12]) {
      const parts = encodeResponse(fetch, version, 7, { responses: [{ topic: 'orders', partitions }] });
      expect(parts.filter((part) => part === large)).toHaveLength(2);
      expect(parts).not.toContain(small);
      expect(Buffer.concat(parts).readInt32BE(0)).toBe(Buffer.concat(parts).length - 4);
      const { body } = decodeResponse(fetch, version, frameOf(parts));
      const read = body.responses[0]?.partitions.map(({ records }) => records && [...records]);
      expect(read).toEqual([[...large, ...small, ...large], [...small], null, []]);
    }
  });

  test('are views of the request, and so are other bytes', () => {
    const topicData = [{ name: 'orders', partitionData: [{ index: 0, records: large }] }];
    const frame = frameOf(encodeRequest(produce, 9, header, { acks: -1, timeoutMs: 1, topicData }));
    const body = decodeRequest(produce, 9, frame, decodeRequestHeader(frame).bodyAt);
    const records = body.topicData[0]?.partitionData[0]?.records;
    expect(records?.buffer).toBe(frame.buffer);
    expect(records).toEqual(large);
  });
});

test('a response larger than a piece of memory is several buffers', () => {
  const topics = Array.from({ length: 20_000 }, (_, i) => ({ errorCode: 0, name: `topic-${i}`, partitions: [] }));
  const parts = encodeResponse(metadata, 12, 7, { brokers: [], topics });
  expect(parts.length).toBeGreaterThan(2);
  expect(parts.length).toBeLessThan(30);
  const { body } = decodeResponse(metadata, 12, frameOf(parts));
  expect(body.topics.map(({ name }) => name)).toEqual(topics.map(({ name }) => name));
});

describe('tagged fields', () => {
  const inner = { a: int32.or(-1), b: string.or('') };
  const ours = new KafkaApi({
    key: 900,
    name: 'Ours',
    served: [0, 0],
    flexibleFrom: 0,
    request: {},
    response: {
      plain: int32,
      third: array(int32).tagged(3),
      second: struct(inner).tagged(200),
      first: bytes.nullable().tagged(1).or(null),
    },
  });
  const older = new KafkaApi({
    key: 900,
    name: 'Older',
    served: [0, 0],
    flexibleFrom: 0,
    request: {},
    response: { plain: int32, first: bytes.nullable().tagged(1).or(null) },
  });
  const full = { plain: 5, third: [1, 2], second: { a: 3, b: 'x'.repeat(1000) }, first: hex('0102') };

  test('are written by number where they are not their default', () => {
    expect(Buffer.concat(encodeResponse(ours, 0, 7, { plain: 5 })).toString('hex')).toMatch(/0000000500$/);
    const same = { plain: 5, third: [], second: { a: -1, b: '' }, first: null };
    expect(Buffer.concat(encodeResponse(ours, 0, 7, same)).toString('hex')).toMatch(/0000000500$/);
    const some = encodeResponse(ours, 0, 7, { plain: 5, second: { a: 3 }, first: hex('0102') });
    const tags = '02 01 03 030102 c801 06 00000003 01 00';
    expect(Buffer.concat(some).subarray(9)).toEqual(Buffer.from(hex(`00000005 ${tags}`)));
  });

  test('come back, and those that nobody knows are skipped', () => {
    const frame = frameOf(encodeResponse(ours, 0, 7, full));
    expect(decodeResponse(ours, 0, frame).body).toEqual(full);
    expect(decodeResponse(older, 0, frame).body).toEqual({ plain: 5, first: hex('0102') });
  });

  test('that are longer or shorter than they say are refused', () => {
    const read = (tags: string) => () => decodeResponse(ours, 0, hex(`00000007 00 00000005 ${tags}`));
    expect(read('01 03 09 03 00000001 00000002')()).toMatchObject({ body: { third: [1, 2] } });
    expect(refusalOf(read('01 03 08 03 00000001 00000002'))).toContain('third');
    expect(refusalOf(read('01 03 0a 03 00000001 00000002 00'))).toContain(
      'third, byte 21: 1 bytes that nobody expects',
    );
    expect(refusalOf(read('01 03 ff 03 00000001 00000002'))).toContain('bytes expected');
  });
});

describe('what cannot be read says where', () => {
  test('a string of malformed bytes that grow beyond what an answer could repeat', () => {
    const read = (length: number): unknown => {
      const frame = frameOf(
        encodeRequest(heartbeat, 0, header, { groupId: 'g'.repeat(length), generationId: 1, memberId: '' }),
      );
      const { bodyAt } = decodeRequestHeader(frame);
      frame.fill(0xff, bodyAt + 2, bodyAt + 2 + length);
      return decodeRequest(heartbeat, 0, frame, bodyAt).groupId;
    };
    const longest = Math.floor(MAX_STRING_BYTES / 3);
    expect(read(longest)).toBe('\ufffd'.repeat(longest));
    expect(refusalOf(() => read(longest + 1))).toContain('malformed UTF-8');
  });

  test('with the path to the field', () => {
    const partitions = [0, 1].map((partitionIndex) => ({
      partitionIndex,
      committedOffset: 5,
      committedMetadata: null,
    }));
    const topics = [{ name: 'orders', partitions }];
    const frame = frameOf(encodeRequest(offsetCommit, 2, header, { groupId: 'g', topics }));
    const read = decodeRequestHeader(frame);
    frame[frame.length - 10] = 0x7f;
    expect(refusalOf(() => decodeRequest(offsetCommit, 2, frame, read.bodyAt))).toBe(
      'OffsetCommit v2 request cannot be read: topics[0].partitions[1].committedOffset, byte 66: ' +
        '9151314442816848000 is beyond the integers that are supported (2^53 - 1)',
    );
    expect(refusalOf(() => decodeRequest(offsetCommit, 2, frame.subarray(0, 20), read.bodyAt))).toContain(
      'generationIdOrMemberEpoch, byte 18: 4 bytes expected, 2 left',
    );
  });

  test('more elements than there are bytes for', () => {
    const read = (count: string) => () => decodeRequest(metadata, 1, hex(count), 0);
    expect(refusalOf(read('7fffffff'))).toContain(
      'topics, byte 4: 2147483647 elements of at least 2 bytes announced, 0 left',
    );
    expect(refusalOf(read('fffffffe'))).toContain('a length of -2');
    expect(read('ffffffff')()).toMatchObject({ topics: null });
    expect(refusalOf(() => decodeRequest(metadata, 0, hex('ffffffff'), 0))).toContain('null is not allowed');
  });

  test('more elements than a request may have', () => {
    const request = (count: number): Uint8Array => {
      const partitionIndexes = Array.from({ length: count }, () => 0);
      return frameOf(encodeRequest(offsetFetch, 1, header, { topics: [{ name: 't', partitionIndexes }] }));
    };
    const read = (bytes: Uint8Array) => () => decodeRequest(offsetFetch, 1, bytes, 15);
    expect(read(request(MAX_REQUEST_ELEMENTS - 1))().topics?.[0]?.partitionIndexes).toHaveLength(
      MAX_REQUEST_ELEMENTS - 1,
    );
    expect(refusalOf(read(request(MAX_REQUEST_ELEMENTS)))).toContain('more than 250000 elements in one message');
  });

  test('a string that is longer than strings are', () => {
    const body = (length: number): Uint8Array => {
      const text = Buffer.alloc(length, 'a');
      const varint = [0x80 | ((length + 1) & 0x7f), 0x80 | (((length + 1) >> 7) & 0x7f), (length + 1) >> 14];
      return Uint8Array.from([...varint, ...text, 1, 0]);
    };
    const read = (length: number) => () => decodeRequest(apiVersions, 3, body(length), 0);
    expect(read(MAX_STRING_BYTES)().clientSoftwareName).toHaveLength(MAX_STRING_BYTES);
    expect(refusalOf(read(MAX_STRING_BYTES + 1))).toContain('clientSoftwareName');
  });

  test('an integer that is not safe, unless "far away" is what it means', () => {
    const timestamps = (value: string): Uint8Array => hex(`ffffffff 00000001 0001 74 00000001 00000000 ${value}`);
    const read = (value: string) => decodeRequest(listOffsets, 1, timestamps(value), 0).topics[0]?.partitions[0];
    expect(read('7fffffffffffffff')?.timestamp).toBe(Number.MAX_SAFE_INTEGER);
    expect(read('8000000000000000')?.timestamp).toBe(Number.MIN_SAFE_INTEGER);
    expect(read('fffffffffffffffe')?.timestamp).toBe(-2);
    const added = (id: string) => () => decodeRequest(addOffsetsToTxn, 0, hex(`0001 74 ${id} 0000 0001 67`), 0);
    expect(added('001fffffffffffff')().producerId).toBe(Number.MAX_SAFE_INTEGER);
    expect(refusalOf(added('0020000000000000'))).toContain('producerId');
  });

  test('a varint that does not end', () => {
    expect(refusalOf(() => decodeRequest(apiVersions, 3, hex('ffffffffffffff'), 0))).toContain('more than 32 bits');
    expect(refusalOf(() => decodeRequest(apiVersions, 3, hex('ffffffff1f'), 0))).toContain('more than 32 bits');
  });
});

test('bytes behind a body are ignored', () => {
  expect(decodeRequest(heartbeat, 0, hex('0001 67 00000001 0001 6d ffff'), 0)).toMatchObject({ memberId: 'm' });
});

describe('what cannot be written is a bug that names the field', () => {
  const topic = { errorCode: 0, name: 'orders', partitions: [] };
  const write = (version: number, more: object) => () =>
    encodeResponse(metadata, version, 7, { brokers: [], topics: [{ ...topic, ...more }] });

  test.each([
    ['a number that does not fit', 9, { errorCode: 40_000 }, 'topics: errorCode: the value is an int16'],
    ['a number with a fraction', 9, { errorCode: 0.5 }, 'topics: errorCode: the value is an int16'],
    ['null in a version without it', 9, { name: null }, 'topics: name: null is not allowed in this version'],
    ['a string that is too long', 9, { name: 'ü'.repeat(20_000) }, 'topics: name: the string is not longer'],
    ['a topic id that is none', 10, { topicId: 'abc' }, 'topics: topicId: the value is a UUID'],
  ])('%s', (_, version, more, message) => {
    expect(write(version, more)).toThrow(AssertionError);
    expect(write(version, more)).toThrow(message);
  });

  test('but null where a later version has it', () => {
    expect(write(12, { name: null })).not.toThrow();
  });
});
