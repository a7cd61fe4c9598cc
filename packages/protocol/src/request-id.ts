/**
 * Request ids: where an event is stored, as text, so that following it needs no index.
 *
 * ```
 * text  = Crockford base32, lower case, of: topic id (16 bytes), partition, offset (LEB128 varints); then a check character
 * ```
 * Invariants: one place has one canonical text (shortest varints, zero padding bits), and other spellings of it differ in
 * case or in o for 0, i and l for 1 only. Any one wrong character, and any two neighbours exchanged, are noticed.
 */
import { assert, topicIdFromBytes, topicIdToBytes } from '@naru/base';
import type { TopicId } from '@naru/base';
import { refuse } from './errors.ts';
import type { Refusal } from './errors.ts';

/** The place of a stored event. */
export interface RequestPlace {
  readonly topicId: TopicId;
  readonly partition: number;
  readonly offset: number;
}

const ALPHABET = '0123456789abcdefghjkmnpqrstvwxyz';
const LOOKALIKES: Readonly<Record<string, string>> = { o: '0', i: '1', l: '1' };
const TOPIC_ID_BYTES = 16;
const MAX_PARTITION = 0x7fff_ffff;
/** Five bytes hold 32 bits, eight hold 53 (and 56). */
const MAX_PARTITION_BYTES = 5;
const MAX_OFFSET_BYTES = 8;
const MAX_BYTES = TOPIC_ID_BYTES + MAX_PARTITION_BYTES + MAX_OFFSET_BYTES;
/** 18 bytes in 29 characters and a check character at least. */
const MIN_LENGTH = 30;
const MAX_LENGTH = Math.ceil((MAX_BYTES * 8) / 5) + 1;
/** x⁵ + x² + 1, primitive over GF(2): its root generates GF(32). */
const FIELD_POLYNOMIAL = 0x25;

/**
 * @param partition 0 to 2³¹−1
 * @param offset 0 to 2⁵³−1
 */
export function encodeRequestId(topicId: TopicId, partition: number, offset: number): string {
  assert(Number.isInteger(partition) && partition >= 0 && partition <= MAX_PARTITION, 'a partition is an int32 from 0');
  assert(Number.isSafeInteger(offset) && offset >= 0, 'an offset is a safe integer from 0');
  const bytes = [...topicIdToBytes(topicId)];
  pushVarint(bytes, partition);
  pushVarint(bytes, offset);
  const digits = toDigits(bytes);
  digits.push(checkDigit(digits));
  return digits.map((digit) => ALPHABET[digit]).join('');
}

/** The place that `text` names, or INVALID_REQUEST. */
export function decodeRequestId(text: string): RequestPlace | Refusal {
  if (text.length < MIN_LENGTH || text.length > MAX_LENGTH) {
    return malformed(`a request id has ${MIN_LENGTH} to ${MAX_LENGTH} characters; this has ${text.length}`);
  }
  const digits: number[] = [];
  for (const character of text.toLowerCase()) {
    const digit = ALPHABET.indexOf(LOOKALIKES[character] ?? character);
    if (digit < 0) return malformed(`${JSON.stringify(character)} is not a character of a request id`);
    digits.push(digit);
  }
  const check = digits.pop();
  if (check !== checkDigit(digits)) return malformed('the request id is mistyped: its check character does not match');
  const bytes = fromDigits(digits);
  if (bytes === null) return malformed('the request id is not in its canonical form');
  const partition = readVarint(bytes, TOPIC_ID_BYTES, MAX_PARTITION_BYTES);
  const offset = partition === null ? null : readVarint(bytes, partition.end, MAX_OFFSET_BYTES);
  if (partition === null || offset === null || offset.end !== bytes.length || partition.value > MAX_PARTITION) {
    return malformed('the request id does not hold a topic, a partition and an offset');
  }
  const topicId = topicIdFromBytes(Uint8Array.from(bytes.slice(0, TOPIC_ID_BYTES)));
  return { topicId, partition: partition.value, offset: offset.value };
}

function malformed(message: string): Refusal {
  return refuse('INVALID_REQUEST', message);
}

function pushVarint(bytes: number[], value: number): void {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
}

/** Null when it is cut short, longer than it needs to be, or no safe integer. */
function readVarint(bytes: readonly number[], at: number, maxBytes: number): { value: number; end: number } | null {
  let value = 0;
  for (let i = 0; i < maxBytes; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return null;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte >= 0x80) continue;
    const isShortest = byte !== 0 || i === 0;
    return isShortest && Number.isSafeInteger(value) ? { value, end: at + i + 1 } : null;
  }
  return null;
}

/** Groups of five bits, first bit first; the last group is filled up with zeros. */
function toDigits(bytes: readonly number[]): number[] {
  const digits: number[] = [];
  let bits = 0;
  let bitCount = 0;
  for (const byte of bytes) {
    bits = (bits << 8) | byte;
    bitCount += 8;
    for (; bitCount >= 5; bitCount -= 5) digits.push((bits >>> (bitCount - 5)) & 31);
    bits &= 31;
  }
  if (bitCount > 0) digits.push((bits << (5 - bitCount)) & 31);
  return digits;
}

/** Null when there is a digit too many, or the bits that fill up are not zero. */
function fromDigits(digits: readonly number[]): number[] | null {
  const bytes: number[] = [];
  let bits = 0;
  let bitCount = 0;
  for (const digit of digits) {
    bits = (bits << 5) | digit;
    bitCount += 5;
    if (bitCount >= 8) {
      bitCount -= 8;
      bytes.push(bits >>> bitCount);
      bits &= (1 << bitCount) - 1;
    }
  }
  return bitCount < 5 && bits === 0 ? bytes : null;
}

/**
 * Damm's scheme over GF(32): c ← (c + digit) · x for each digit. Addition is exclusive or and x generates the field, so
 * a wrong digit, and two different neighbours exchanged (the check digit included), always change the result.
 */
function checkDigit(digits: readonly number[]): number {
  let check = 0;
  for (const digit of digits) {
    check = (check ^ digit) << 1;
    if (check >= 32) check ^= FIELD_POLYNOMIAL;
  }
  return check;
}
