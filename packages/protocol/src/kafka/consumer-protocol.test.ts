import { expect, test } from 'vitest';
import { NaruError } from '../errors.ts';
import {
  decodeConsumerAssignment,
  decodeConsumerSubscription,
  encodeConsumerAssignment,
  encodeConsumerSubscription,
} from './consumer-protocol.ts';

const subscription = {
  topics: ['orders', 'payments'],
  userData: Uint8Array.of(1, 2, 3),
  ownedPartitions: [{ topic: 'orders', partitions: [0, 3] }],
  generationId: 7,
  rackId: 'rack-1',
};
const missing = { ownedPartitions: [], generationId: -1, rackId: null };

test('a subscription comes back with what its version has, and defaults for the rest', () => {
  const read = (version: number): unknown =>
    decodeConsumerSubscription(encodeConsumerSubscription(version, subscription));
  const { topics, userData, ownedPartitions, generationId } = subscription;
  expect(read(0)).toEqual({ version: 0, subscription: { topics, userData, ...missing } });
  expect(read(1)).toEqual({ version: 1, subscription: { topics, userData, ...missing, ownedPartitions } });
  expect(read(2)).toEqual({ version: 2, subscription: { ...subscription, rackId: null } });
  expect(read(3)).toEqual({ version: 3, subscription });
  expect(generationId).toBe(7);
});

test('the bytes are those of the message definition', () => {
  const bytes = encodeConsumerSubscription(3, { ...subscription, topics: ['orders'], userData: null });
  expect(Buffer.from(bytes).toString('hex')).toBe(
    [
      '0003', // version
      '00000001 0006 6f7264657273', // topics
      'ffffffff', // user data
      '00000001 0006 6f7264657273 00000002 00000000 00000003', // owned partitions
      '00000007', // generation
      '0006 7261636b2d31', // rack
    ]
      .join('')
      .replaceAll(' ', ''),
  );
});

test('a later version is read as the last that we know', () => {
  const later = Uint8Array.of(...encodeConsumerSubscription(3, subscription), 9, 9, 9);
  later[1] = 12;
  expect(decodeConsumerSubscription(later)).toEqual({ version: 12, subscription });
  const assignment = { assignedPartitions: [{ topic: 'orders', partitions: [1] }], userData: null };
  const assigned = Uint8Array.of(...encodeConsumerAssignment(0, assignment), 9);
  assigned[1] = 12;
  expect(decodeConsumerAssignment(assigned)).toEqual({ version: 12, assignment });
});

test('what is cut off or damaged is INVALID_REQUEST, with the field', () => {
  const whole = encodeConsumerSubscription(3, subscription);
  const endOfVersion0 = encodeConsumerSubscription(0, subscription).length;
  for (let length = 0; length < whole.length; length++) {
    if (length === endOfVersion0) continue; // Read as version 0.
    expect(() => decodeConsumerSubscription(whole.subarray(0, length))).toThrow(NaruError);
  }
  expect(() => decodeConsumerSubscription(whole.subarray(0, 12))).toThrow(
    "the consumer's subscription cannot be read: topics[0], byte 8: 6 bytes expected, 4 left",
  );
  expect(() => decodeConsumerAssignment(Uint8Array.of(0xff, 0xff))).toThrow('version -1');
  expect(() => decodeConsumerAssignment(Uint8Array.of(0, 0, 0x7f, 0xff, 0xff, 0xff))).toThrow('announced');
  expect(() => encodeConsumerAssignment(4, { assignedPartitions: [] })).toThrow('version 4');
});
