/** What topics, groups and transactional producers may be called. */
import { refuse } from './errors.ts';
import type { Refusal } from './errors.ts';
import { utf8Length } from './batch/utf8.ts';

export const MAX_TOPIC_NAME_LENGTH = 249;
export const MAX_GROUP_ID_LENGTH = 249;
/** In UTF-8. */
export const MAX_TRANSACTIONAL_ID_BYTES = 249;

const TOPIC_NAME_PATTERN = /^[a-zA-Z0-9._-]+$/;
/** Control and format characters, lone surrogates, line and paragraph separators. */
const UNPRINTABLE_PATTERN = /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u;
/** How much of a bad name a message shows. */
const SHOWN_LENGTH = 40;

/** Kafka's rule: 1 to 249 of a–z, A–Z, 0–9, `.`, `_`, `-`, and not `.` or `..`. */
export function checkTopicName(name: string): Refusal | null {
  if (name === '') return refuse('INVALID_TOPIC', 'a topic name is not empty');
  if (name.length > MAX_TOPIC_NAME_LENGTH) {
    return refuse(
      'INVALID_TOPIC',
      `a topic name has at most ${MAX_TOPIC_NAME_LENGTH} characters; this has ${name.length}`,
    );
  }
  if (name === '.' || name === '..') return refuse('INVALID_TOPIC', `a topic is not called ${shown(name)}`);
  if (!TOPIC_NAME_PATTERN.test(name)) {
    return refuse(
      'INVALID_TOPIC',
      `topic name ${shown(name)} has other characters than a-z, A-Z, 0-9, '.', '_' and '-'`,
    );
  }
  return null;
}

/** Whether the topic is the broker's own: nobody else creates, writes or deletes it. */
export function isInternalTopicName(name: string): boolean {
  return name.startsWith('__');
}

/** 1 to 249 printable characters, no white space at either end. */
export function checkGroupId(groupId: string): Refusal | null {
  if (groupId === '') return refuse('INVALID_GROUP_ID', 'a group id is not empty');
  if (groupId.length > MAX_GROUP_ID_LENGTH) {
    const message = `a group id has at most ${MAX_GROUP_ID_LENGTH} characters; this has ${groupId.length}`;
    return refuse('INVALID_GROUP_ID', message);
  }
  if (UNPRINTABLE_PATTERN.test(groupId)) {
    return refuse('INVALID_GROUP_ID', `group id ${shown(groupId)} has characters that cannot be printed`);
  }
  if (groupId !== groupId.trim()) {
    return refuse('INVALID_GROUP_ID', `group id ${shown(groupId)} begins or ends with a space`);
  }
  return null;
}

/** 1 to 249 bytes of printable characters. */
export function checkTransactionalId(transactionalId: string): Refusal | null {
  if (transactionalId === '') return refuse('INVALID_TRANSACTIONAL_ID', 'a transactional id is not empty');
  if (UNPRINTABLE_PATTERN.test(transactionalId)) {
    const message = `transactional id ${shown(transactionalId)} has characters that cannot be printed`;
    return refuse('INVALID_TRANSACTIONAL_ID', message);
  }
  const bytes = utf8Length(transactionalId);
  if (bytes <= MAX_TRANSACTIONAL_ID_BYTES) return null;
  const message = `a transactional id has at most ${MAX_TRANSACTIONAL_ID_BYTES} bytes; this has ${bytes}`;
  return refuse('INVALID_TRANSACTIONAL_ID', message);
}

function shown(name: string): string {
  return JSON.stringify(name.length > SHOWN_LENGTH ? `${name.slice(0, SHOWN_LENGTH)}…` : name);
}
