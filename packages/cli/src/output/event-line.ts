/**
 * A received event as one line.
 *
 * JSON values are printed as they were published, digit for digit, not as a program's numbers would have them.
 */
import { printable } from './printable.ts';

const strictDecoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** What is printed of an event. */
export interface PrintedEvent {
  readonly topic: string;
  readonly partition: number;
  readonly offset: bigint;
  readonly requestId: string;
  readonly keyBytes: Uint8Array | null;
  readonly valueBytes: Uint8Array | null;
  readonly headers: Iterable<{ readonly key: string; readonly value: Uint8Array | null }>;
  /** Milliseconds since the Unix epoch; −1 for none. */
  readonly timestampMs: number;
}

/** `json`: as JSON where it is JSON, else as text; `text`: as text where it is UTF-8; `bytes`: always in base64. */
export type ValueFormat = 'json' | 'text' | 'bytes';

/**
 * `{topic, partition, offset, requestId, key, value, headers, timestamp}` and a line feed. A value that is not JSON is
 * text; one that is not UTF-8 is in `valueBase64` in place of `value`, and likewise for keys and headers.
 */
export function eventJsonLine(event: PrintedEvent, format: ValueFormat = 'json'): string {
  const { topic, partition, offset, requestId, keyBytes, valueBytes, headers, timestampMs } = event;
  const fields = [
    `"topic":${JSON.stringify(topic)}`,
    `"partition":${partition}`,
    `"offset":${offset}`,
    `"requestId":${JSON.stringify(requestId)}`,
    textField('key', keyBytes),
    valueField(valueBytes, format),
    `"headers":[${Array.from(headers, ({ key, value }) => `{"key":${JSON.stringify(key)},${textField('value', value)}}`).join(',')}]`,
    `"timestamp":${JSON.stringify(isoTime(timestampMs))}`,
  ];
  return `{${fields.join(',')}}\n`;
}

/** For people: where it is, its key, its value, its headers. */
export function eventTextLine(event: PrintedEvent): string {
  const parts = [`${event.topic}/${event.partition}/${event.offset}`, isoTime(event.timestampMs) ?? 'no-time'];
  if (event.keyBytes !== null) parts.push(`[${shown(event.keyBytes)}]`);
  parts.push(event.valueBytes === null ? '(no value)' : shown(event.valueBytes));
  for (const { key, value } of event.headers) parts.push(`${printable(key)}=${value === null ? '' : shown(value)}`);
  return `${parts.join('  ')}\n`;
}

function valueField(bytes: Uint8Array | null, format: ValueFormat): string {
  if (format === 'bytes' && bytes !== null) return `"valueBase64":"${base64(bytes)}"`;
  if (format === 'text') return textField('value', bytes);
  const text = bytes === null ? null : decode(bytes);
  if (text === null || text === undefined || !isJson(text)) return textField('value', bytes);
  // Inside strings JSON has no bare line breaks, so those that are there only lay it out.
  return `"value":${text.replaceAll(/[\r\n]+/g, ' ').trim()}`;
}

function textField(name: string, bytes: Uint8Array | null): string {
  if (bytes === null) return `"${name}":null`;
  const text = decode(bytes);
  return text === undefined ? `"${name}Base64":"${base64(bytes)}"` : `"${name}":${JSON.stringify(text)}`;
}

/** As text for a terminal, in base64 where it is not UTF-8. */
export function shown(bytes: Uint8Array): string {
  const text = decode(bytes);
  return text === undefined ? `base64:${base64(bytes)}` : printable(text);
}

/** Undefined for what is not UTF-8. */
function decode(bytes: Uint8Array): string | undefined {
  try {
    return strictDecoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
}

/** ISO 8601; null for no time. */
export function isoTime(timestampMs: number): string | null {
  const time = new Date(timestampMs);
  return timestampMs < 0 || Number.isNaN(time.getTime()) ? null : time.toISOString();
}
