/**
 * JSON as schemas need it: read with the place of what is wrong, with bounded depth, and printed without losing a digit.
 *
 * A number that JavaScript would print otherwise than it was written (beyond 2^53, `1.0`, `1e3`) stays as its text.
 */
import { InvalidSchemaError, MAX_SCHEMA_DEPTH, shown } from './schema.ts';

export type JsonObject = { readonly [key: string]: unknown };

/** A number as it was written. Opaque to everything but {@link numberText} and {@link printJson}. */
interface RawNumber {
  readonly rawJSON: string;
}

type SourceReviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown;

/** In the platform, and not yet in TypeScript's library. */
interface JsonWithSource {
  parse(text: string, reviver: SourceReviver): unknown;
  rawJSON(text: string): RawNumber;
  isRawJSON(value: unknown): value is RawNumber;
}

const json = JSON as unknown as JsonWithSource;

/** @throws InvalidSchemaError with line and column */
export function readJson(text: string): unknown {
  checkDepth(text);
  try {
    return json.parse(text, (_key, value, { source }) =>
      typeof value === 'number' && source !== undefined && String(value) !== source ? json.rawJSON(source) : value,
    );
  } catch (error) {
    throw new InvalidSchemaError(`it is not JSON: ${placed((error as Error).message, text)}`);
  }
}

/** Without blanks, keys as they came. */
export function printJson(value: unknown): string {
  return JSON.stringify(value);
}

/** Without blanks, keys in order. */
export function printSortedJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(printSortedJson).join(',')}]`;
  if (!isObject(value)) return printJson(value);
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${entries.map(([key, entry]) => `${JSON.stringify(key)}:${printSortedJson(entry)}`).join(',')}}`;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !json.isRawJSON(value);
}

/** A number as it was written; null for anything else. */
export function numberText(value: unknown): string | null {
  if (typeof value === 'number') return String(value);
  return json.isRawJSON(value) ? value.rawJSON : null;
}

/** As JavaScript has it, rounded beyond 2^53; null when it is no number. */
export function numberOf(value: unknown): number | null {
  const text = numberText(value);
  return text === null ? null : Number(text);
}

/** Own properties only, so that `constructor` is none. */
export function property(value: JsonObject, key: string): unknown {
  return Object.hasOwn(value, key) ? value[key] : undefined;
}

/** What kind of JSON it is, for messages. */
export function jsonKind(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  if (isObject(value)) return 'an object';
  return shown(value);
}

/** Before anything recursive sees it. */
function checkDepth(text: string): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (inString) {
      if (code === BACKSLASH) i += 1;
      else if (code === QUOTE) inString = false;
    } else if (code === QUOTE) inString = true;
    else if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      depth += 1;
      if (depth > MAX_SCHEMA_DEPTH)
        throw new InvalidSchemaError(`it is nested deeper than ${MAX_SCHEMA_DEPTH} levels${at(text, i)}`);
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1;
  }
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACE = 0x7d;
const CLOSE_BRACKET = 0x5d;

/** The platform's message, which may quote the text, with its position as line and column. */
function placed(message: string, text: string): string {
  const position = /at position (\d+)/.exec(message)?.[1];
  const what = message.replace(/,? (?:\.\.\.)?".*$/s, '').replace(/ in JSON at position.*$/s, '');
  if (position !== undefined) return `${what}${at(text, Number(position))}`;
  return /end of JSON/.test(message)
    ? `it ends too early${at(text, text.length)}`
    : `${what}${tokenPlace(message, text)}`;
}

/** Where the platform does not say the position, it says the token. */
function tokenPlace(message: string, text: string): string {
  const token = /^Unexpected token '(.)'/su.exec(message)?.[1];
  const place = token === undefined ? -1 : text.indexOf(token);
  return place < 0 ? '' : at(text, place);
}

function at(text: string, position: number): string {
  const before = text.slice(0, position);
  const line = before.split('\n').length;
  return ` at line ${line}, column ${position - before.lastIndexOf('\n')}`;
}
