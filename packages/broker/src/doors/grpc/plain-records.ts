/**
 * Records as thin clients give and take them: keys and values as text, JSON or bytes in place of batches.
 *
 * Owns the choice between the forms. Invariant: what is given as text or JSON is the record's bytes, whole and exact;
 * where a form cannot say that, the next one is taken: JSON, then text, then bytes.
 */
import { create, fromJson, toJson, type JsonValue, type MessageInitShape } from '@bufbuild/protobuf';
import { ValueSchema, type Value } from '@bufbuild/protobuf/wkt';
import { splitPartitionKey } from '@naru/base';
import { encodeRequestId, NaruError, refuse } from '@naru/protocol';
import {
  RecordFormat,
  RecordSchema,
  type HeaderSchema,
  type PublishRecord,
  type Record as WireRecord,
} from '@naru/protocol/proto';
import type { GivenRecord } from '../../service/poll-answer.ts';
import type { PlainRecord } from '../../service/publish.ts';
import { toErrorMessage } from './wire-errors.ts';

/** Text can be six times as long as JSON, bytes only a third longer: what is larger than this is given as bytes. */
const MAX_TEXT_BYTES = 2 * 1024 * 1024;
/** JSON costs several microseconds for each number, string, list and object in it, on the way out the same again. */
const MAX_JSON_BYTES = 256 * 1024;
const MAX_JSON_NODES = 5_000;
const MAX_JSON_DEPTH = 64;
/** Of all records of an answer; the others are text. */
export const MAX_JSON_NODES_OF_ANSWER = 20_000;
/** Key, value and headers of a record that an answer can carry, whatever is in them. */
const MAX_RECORD_BYTES = 16 * 1024 * 1024;
/** Any double has this many decimal digits for certain. */
const CERTAIN_DIGITS = 15;

const TO_TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** @throws NaruError INVALID_RECORD for two forms of the same thing, or JSON that would be stored as something else */
export function toPlainRecord(record: PublishRecord): PlainRecord {
  const { key, keyText, value, valueText, valueJson, headers, partition, timestampMs } = record;
  return {
    key: oneOf('a key', [key, encoded(keyText)]),
    value: oneOf('a value', [value, encoded(valueText), valueJson === undefined ? undefined : encodedJson(valueJson)]),
    headers: headers.map((header) => ({
      key: header.key,
      value: oneOf('a header', [header.value, encoded(header.valueText)]),
    })),
    partition: partition ?? null,
    timestampMs: timestampMs === undefined ? null : Number(timestampMs),
  };
}

/** Formats the records of one answer. */
export class RecordFormatter {
  readonly #format: RecordFormat;
  #jsonNodesLeft = MAX_JSON_NODES_OF_ANSWER;

  constructor(format: RecordFormat) {
    this.#format = format;
  }

  format({ topic, partition: key, record, deliveryCount = 0 }: GivenRecord): WireRecord {
    const { topicId, partition } = splitPartitionKey(key);
    const { offset, timestampMs } = record;
    const place = {
      topic,
      partition,
      offset: BigInt(offset),
      requestId: encodeRequestId(topicId, partition, offset),
      deliveryCount,
      ...(timestampMs < 0 ? {} : { timestampMs: BigInt(timestampMs) }),
    };
    const bytes = answerBytes(record);
    if (bytes > MAX_RECORD_BYTES) {
      const message = `the record has ${bytes} bytes, of which an answer carries ${MAX_RECORD_BYTES}: read it through Subscribe`;
      return create(RecordSchema, { ...place, error: toErrorMessage(refuse('RECORD_TOO_LARGE', message)) });
    }
    const headers = record.headers.map((header): MessageInitShape<typeof HeaderSchema> => {
      const text = this.#text(header.value);
      if (text !== undefined) return { key: header.key, valueText: text };
      return header.value === null ? { key: header.key } : { key: header.key, value: header.value };
    });
    return create(RecordSchema, { ...place, ...this.#key(record.key), ...this.#value(record.value), headers });
  }

  #key(bytes: Uint8Array | null): { key?: Uint8Array; keyText?: string } {
    if (bytes === null) return {};
    const keyText = this.#text(bytes);
    return keyText === undefined ? { key: bytes } : { keyText };
  }

  #value(bytes: Uint8Array | null): { value?: Uint8Array; valueText?: string; valueJson?: Value } {
    if (bytes === null) return {};
    const valueText = this.#text(bytes);
    if (valueText === undefined) return { value: bytes };
    const json =
      this.#format === RecordFormat.JSON && bytes.length <= MAX_JSON_BYTES ? exactJson(valueText) : undefined;
    if (json === undefined || json.nodes > this.#jsonNodesLeft) return { valueText };
    this.#jsonNodesLeft -= json.nodes;
    return { valueJson: fromJson(ValueSchema, json.value) };
  }

  /** Undefined where bytes are to be given. */
  #text(bytes: Uint8Array | null): string | undefined {
    if (bytes === null || this.#format === RecordFormat.BYTES || bytes.length > MAX_TEXT_BYTES) return undefined;
    try {
      return FROM_TEXT.decode(bytes);
    } catch {
      return undefined;
    }
  }
}

/** What a record takes in an answer at most, as far as that differs from its own bytes. */
function answerBytes({ key, value, headers }: GivenRecord['record']): number {
  let bytes = (key?.length ?? 0) + (value?.length ?? 0);
  // Names are always text.
  for (const header of headers) bytes += header.key.length * 6 + (header.value?.length ?? 0);
  return bytes;
}

/** What JSON says, when a google.protobuf.Value says exactly the same; undefined when it does not, or `text` is no JSON. */
export function exactJson(text: string): { readonly value: JsonValue; readonly nodes: number } | undefined {
  let isExact = true;
  let nodes = 0;
  try {
    const value = JSON.parse(text, (key, node: unknown, context?: { readonly source?: string }) => {
      nodes += 1;
      // As a name of a field it would change the message itself.
      if (key === '__proto__') isExact = false;
      if (typeof node === 'number' && !isExactNumber(node, context?.source ?? '')) isExact = false;
      return node;
    }) as JsonValue;
    if (!isExact || nodes > MAX_JSON_NODES || depthOf(value) > MAX_JSON_DEPTH) return undefined;
    return { value, nodes };
  } catch {
    return undefined;
  }
}

/** Whether the number, written again, is the same number. */
function isExactNumber(value: number, source: string): boolean {
  if (!Number.isFinite(value) || Object.is(value, -0)) return false;
  // Not taken when it is published either.
  if (Number.isInteger(value) && !Number.isSafeInteger(value)) return false;
  if (String(value) === source) return true;
  const digits = source
    .replace(/[eE].*$/, '')
    .replaceAll(/[-.]/g, '')
    .replace(/^0+/, '')
    .replace(/0+$/, '');
  return digits.length <= CERTAIN_DIGITS && (value !== 0 || digits === '');
}

function depthOf(value: JsonValue, depth = 1): number {
  if (typeof value !== 'object' || value === null || depth > MAX_JSON_DEPTH) return depth;
  return Object.values(value).reduce<number>((deepest, inner) => Math.max(deepest, depthOf(inner, depth + 1)), depth);
}

function oneOf(what: string, forms: readonly (Uint8Array | undefined)[]): Uint8Array | null {
  const given = forms.filter((form) => form !== undefined);
  if (given.length > 1) throw new NaruError('INVALID_RECORD', `${what} is given in one form, not in ${given.length}`);
  return given[0] ?? null;
}

function encoded(text: string | undefined): Uint8Array | undefined {
  return text === undefined ? undefined : TO_TEXT.encode(text);
}

function encodedJson(value: Value): Uint8Array {
  const json = toJson(ValueSchema, value);
  checkNumbers(json);
  return TO_TEXT.encode(JSON.stringify(json));
}

/** Whole numbers that were rounded before they came here look like any other. */
function checkNumbers(json: JsonValue): void {
  if (typeof json === 'number' && Number.isInteger(json) && !Number.isSafeInteger(json)) {
    const message = `a whole number beyond 2^53 (${json}) may not be the one that was sent: give the value as valueText`;
    throw new NaruError('INVALID_RECORD', message);
  }
  if (typeof json === 'object' && json !== null) for (const inner of Object.values(json)) checkNumbers(inner);
}
