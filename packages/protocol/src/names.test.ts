import { describe, expect, test } from 'vitest';
import { checkGroupId, checkTopicName, checkTransactionalId, isInternalTopicName } from './names.ts';

describe('checkTopicName', () => {
  test.each(['a', 'orders', 'order.placed', 'A_b-9.', '...', '__groups', 'x'.repeat(249)])('allows %j', (name) => {
    expect(checkTopicName(name)).toBeNull();
  });

  test.each(['', '.', '..', 'a b', 'a/b', 'é', 'a\n', 'a\0', '주문', 'x'.repeat(250)])('refuses %j', (name) => {
    expect(checkTopicName(name)).toMatchObject({ code: 'INVALID_TOPIC' });
  });

  test('does not repeat a long name whole in its message', () => {
    expect(checkTopicName(' '.repeat(249))?.message.length).toBeLessThan(160);
  });
});

test('isInternalTopicName tells the topics of the broker', () => {
  expect(['__groups', '__', '_a', 'a__', ''].map(isInternalTopicName)).toEqual([true, true, false, false, false]);
});

describe('checkGroupId', () => {
  test.each(['a', 'payment service', '결제', 'a/b:c', '😀', '__x', 'x'.repeat(249)])('allows %j', (groupId) => {
    expect(checkGroupId(groupId)).toBeNull();
  });

  test.each([
    '',
    ' ',
    ' a',
    'a ',
    'a\tb',
    'a\n',
    'a\u0000',
    'a\u007f',
    '\u200ba',
    '\ud800',
    '\u00a0a',
    'x'.repeat(250),
  ])('refuses %j', (groupId) => {
    expect(checkGroupId(groupId)).toMatchObject({ code: 'INVALID_GROUP_ID' });
  });
});

describe('checkTransactionalId', () => {
  test.each(['a', ' shop 1', 'ä'.repeat(124), '결제', 'a'.repeat(249)])('takes %j', (id) => {
    expect(checkTransactionalId(id)).toBeNull();
  });

  test.each(['', 'ä'.repeat(125), 'a'.repeat(250), 'a\nb', '\u202eabc', '\ud800'])('refuses %j', (id) => {
    expect(checkTransactionalId(id)).toMatchObject({ code: 'INVALID_TRANSACTIONAL_ID' });
  });
});
