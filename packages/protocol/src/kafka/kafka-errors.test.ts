import { describe, expect, test } from 'vitest';
import { ERRORS, isErrorCode } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';
import { KAFKA_ERRORS, errorCodeOfKafka, kafkaErrorCode, kafkaErrorName, kafkaErrorNameOf } from './kafka-errors.ts';
import type { KafkaAudience, KafkaErrorName } from './kafka-errors.ts';

const codes = Object.keys(ERRORS) as ErrorCode[];
const audiences: readonly KafkaAudience[] = ['produce', 'fetch', 'group', 'classicGroup', 'admin'];

/** Where Kafka's clients and ours do not agree on trying again. */
const retriedInKafkaOnly = new Set<ErrorCode>(['CORRUPT_MESSAGE', 'UNKNOWN_TOPIC_OR_PARTITION', 'DATA_CORRUPT']);
const retriedByUsOnly = new Set<ErrorCode>(['UNRELEASED_INSTANCE_ID']);

describe('every error of ours', () => {
  test.each(codes)('%s has a code of Kafka for every audience, retriable where ours is', (code) => {
    for (const audience of audiences) {
      const name = kafkaErrorName(code, audience);
      expect(KAFKA_ERRORS[name]?.code).toBe(kafkaErrorCode(code, audience));
      expect(name).not.toBe('NONE');
      const { retriable } = KAFKA_ERRORS[name];
      if (retriable && !ERRORS[code].retriable) expect(retriedInKafkaOnly).toContain(code);
      if (!retriable && ERRORS[code].retriable) expect(retriedByUsOnly).toContain(code);
    }
  });

  test('comes back as one that Kafka calls the same', () => {
    for (const code of codes) {
      const back = errorCodeOfKafka(kafkaErrorCode(code, 'admin'));
      expect(back).not.toBeNull();
      expect(kafkaErrorCode(back as ErrorCode, 'admin')).toBe(kafkaErrorCode(code, 'admin'));
    }
  });
});

describe('every error of Kafka', () => {
  const names = Object.keys(KAFKA_ERRORS) as KafkaErrorName[];

  test('has a code of its own, from -1 to 133', () => {
    expect(names.map((name) => KAFKA_ERRORS[name].code)).toEqual(Array.from({ length: 135 }, (_, i) => i - 1));
  });

  test('is one of ours, retriable where it is, except that nothing else has no error', () => {
    for (const name of names) {
      expect(kafkaErrorNameOf(KAFKA_ERRORS[name].code)).toBe(name);
      const ours = errorCodeOfKafka(KAFKA_ERRORS[name].code);
      expect(ours === null).toBe(name === 'NONE');
      if (ours === null || isErrorCode(name) || name === 'UNKNOWN_TOPIC_ID') continue;
      expect([name, ERRORS[ours].retriable]).toEqual([name, KAFKA_ERRORS[name].retriable]);
    }
  });

  test('that nobody knows is INTERNAL', () => {
    expect(errorCodeOfKafka(9999)).toBe('INTERNAL');
    expect(kafkaErrorNameOf(9999)).toBeUndefined();
  });
});

test('who asks decides: a consumer never gets a code that only producers expect, a classic member never an epoch', () => {
  expect(kafkaErrorName('OVERLOADED', 'produce')).toBe('NOT_ENOUGH_REPLICAS');
  expect(kafkaErrorName('OVERLOADED', 'fetch')).toBe('NOT_LEADER_OR_FOLLOWER');
  expect(kafkaErrorName('OVERLOADED', 'group')).toBe('NOT_COORDINATOR');
  expect(kafkaErrorName('STALE_MEMBER_EPOCH', 'group')).toBe('STALE_MEMBER_EPOCH');
  expect(kafkaErrorName('STALE_MEMBER_EPOCH', 'classicGroup')).toBe('ILLEGAL_GENERATION');
});
