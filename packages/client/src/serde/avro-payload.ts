/**
 * Looks through an Avro payload before it is decoded.
 *
 * avsc reads on beyond the end of a buffer and believes every count: three bytes could ask for an array of 2^50 items, and what
 * is wrong it tells without saying where. So the payload is walked first, by the schema that it was written with, without
 * making anything of it. What passes has sane lengths everywhere and ends where it should.
 */
import { isUtf8 } from 'node:buffer';
import type { Type, types } from 'avsc';
import { SerializationError, pointer } from './serialization-error.ts';

/** Items that take no bytes (nulls, records without fields), in a whole payload: nothing else bounds them. */
const MAX_EMPTY_ITEMS = 10_000;
/** Records within records, for types that contain themselves. */
const MAX_DEPTH = 250;
/** Shorter texts are looked at byte by byte. */
const SHORT_TEXT = 32;

class Damage extends Error {
  readonly path: (string | number)[] = [];
}

interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
  depth: number;
  emptyItems: number;
}

type Walk = (cursor: Cursor) => void;

/** @returns a function that throws SerializationError, with the path of what is wrong */
export function payloadCheck(type: Type): (payload: Uint8Array) => void {
  const walk = walkOf(type, new Map());
  return (payload) => {
    const cursor = { bytes: payload, at: 0, depth: 0, emptyItems: 0 };
    try {
      walk(cursor);
      if (cursor.at !== payload.length) throw new Damage(`${payload.length - cursor.at} bytes are left over`);
    } catch (error) {
      if (!(error instanceof Damage)) throw error;
      throw SerializationError.at('avro', pointer(error.path.reverse()), error.message, error);
    }
  };
}

function walkOf(type: Type, known: Map<Type, Walk>): Walk {
  const found = known.get(type);
  if (found !== undefined) return found;
  // Registered before it is made, since types contain themselves.
  const made: { walk: Walk | undefined } = { walk: undefined };
  known.set(type, (cursor) => made.walk?.(cursor));
  const walk = makeWalk(type, known);
  made.walk = walk;
  known.set(type, walk);
  return walk;
}

function makeWalk(type: Type, known: Map<Type, Walk>): Walk {
  const { typeName } = type;
  if (typeName.startsWith('logical:')) return walkOf((type as types.LogicalType).underlyingType, known);
  if (typeName.startsWith('union:')) {
    return unionWalk((type as types.UnwrappedUnionType).types.map((branch) => walkOf(branch, known)));
  }
  switch (typeName) {
    case 'null':
      return () => {};
    case 'boolean':
      return walkBoolean;
    case 'int':
      return walkInt;
    case 'long':
    case 'abstract:long':
      return walkLong;
    case 'float':
      return fixedWalk(4, 'a float');
    case 'double':
      return fixedWalk(8, 'a double');
    case 'bytes':
      return walkBytes;
    case 'string':
      return walkString;
    case 'fixed':
      return fixedWalk((type as types.FixedType).size, type.name ?? 'fixed');
    case 'enum':
      return enumWalk((type as types.EnumType).symbols.length);
    case 'array':
      return blocksWalk(walkOf((type as types.ArrayType).itemsType, known));
    case 'map':
      return mapWalk(walkOf((type as types.MapType).valuesType, known));
    case 'record':
    case 'error':
      return recordWalk((type as types.RecordType).fields.map(({ name, type: field }) => [name, walkOf(field, known)]));
    default:
      throw new Error(`Avro type ${typeName} is not known`);
  }
}

function recordWalk(fields: readonly (readonly [string, Walk])[]): Walk {
  return (cursor) => {
    let name = '';
    if (++cursor.depth > MAX_DEPTH) throw new Damage(`nested deeper than ${MAX_DEPTH}`);
    try {
      for (const field of fields) {
        name = field[0];
        field[1](cursor);
      }
    } catch (error) {
      if (error instanceof Damage && name !== '') error.path.push(name);
      throw error;
    }
    cursor.depth -= 1;
  };
}

function unionWalk(branches: readonly Walk[]): Walk {
  return (cursor) => {
    const index = readLong(cursor, 'the branch of a union');
    const branch = branches[index];
    if (branch === undefined) throw new Damage(`branch ${index} of a union of ${branches.length}`);
    branch(cursor);
  };
}

function enumWalk(symbols: number): Walk {
  return (cursor) => {
    const index = readLong(cursor, 'an enum');
    if (index < 0 || index >= symbols) throw new Damage(`symbol ${index} of an enum of ${symbols}`);
  };
}

function fixedWalk(size: number, what: string): Walk {
  return (cursor) => advance(cursor, size, what);
}

function blocksWalk(item: Walk): Walk {
  return (cursor) => {
    let index = 0;
    try {
      for (let left = readCount(cursor); left > 0; left = readCount(cursor)) {
        for (; left > 0; left--, index++) {
          const before = cursor.at;
          item(cursor);
          if (cursor.at === before && ++cursor.emptyItems > MAX_EMPTY_ITEMS) {
            throw new Damage(`more than ${MAX_EMPTY_ITEMS} items without any bytes`);
          }
        }
      }
    } catch (error) {
      if (error instanceof Damage) error.path.push(index);
      throw error;
    }
  };
}

function mapWalk(value: Walk): Walk {
  return (cursor) => {
    let key = '';
    try {
      for (let left = readCount(cursor); left > 0; left = readCount(cursor)) {
        for (; left > 0; left--) {
          const before = cursor.at;
          walkString(cursor);
          // Only asked for by its length: a key has to be read when it may be the one, or for a message.
          if (isPrototypeKey(cursor, before)) throw new Damage('the key __proto__ is not allowed');
          const keyEnd = cursor.at;
          try {
            value(cursor);
          } catch (error) {
            key = textOf(cursor.bytes, before, keyEnd);
            throw error;
          }
        }
      }
    } catch (error) {
      if (error instanceof Damage && key !== '') error.path.push(key);
      throw error;
    }
  };
}

const PROTO = Buffer.from('__proto__');

function isPrototypeKey({ bytes, at }: Cursor, from: number): boolean {
  if (at - from !== PROTO.length + 1) return false;
  return PROTO.equals(bytes.subarray(from + 1, at));
}

/** The text that stands, after its length, from `from` to `end`. */
function textOf(bytes: Uint8Array, from: number, end: number): string {
  let start = from;
  while ((bytes[start] as number) >= 0x80) start += 1;
  return Buffer.from(bytes.subarray(start + 1, end)).toString();
}

/** Of a block; a negative one has the block's size in bytes behind it. */
function readCount(cursor: Cursor): number {
  let count = readLong(cursor, 'the count of a block');
  if (count < 0) {
    const size = readLong(cursor, 'the size of a block');
    if (size < 0 || size > cursor.bytes.length - cursor.at) throw new Damage(`a block of ${size} bytes`);
    count = -count;
  }
  const left = cursor.bytes.length - cursor.at;
  if (count > left && count > MAX_EMPTY_ITEMS) throw new Damage(`${count} items, but only ${left} bytes are left`);
  return count;
}

function walkBoolean(cursor: Cursor): void {
  const byte = cursor.bytes[cursor.at];
  if (byte === undefined) throw endOf('a boolean');
  if (byte > 1) throw new Damage(`a boolean is 0 or 1, got ${byte}`);
  cursor.at += 1;
}

function walkInt(cursor: Cursor): void {
  const value = readLong(cursor, 'an int');
  if (value !== (value | 0)) throw new Damage(`an int of more than 32 bits`);
}

function walkLong(cursor: Cursor): void {
  readLong(cursor, 'a long');
}

function walkBytes(cursor: Cursor): void {
  advance(cursor, readLong(cursor, 'the length of bytes'), 'bytes');
}

function walkString(cursor: Cursor): void {
  const length = readLong(cursor, 'the length of a string');
  const start = cursor.at;
  advance(cursor, length, 'a string');
  const { bytes } = cursor;
  let at = start;
  if (length <= SHORT_TEXT) while (at < cursor.at && (bytes[at] as number) < 0x80) at += 1;
  if (at < cursor.at && !isUtf8(bytes.subarray(start, cursor.at))) throw new Damage('a string is not UTF-8');
}

function advance(cursor: Cursor, length: number, what: string): void {
  const left = cursor.bytes.length - cursor.at;
  if (length < 0) throw new Damage(`${what} of ${length} bytes`);
  if (length > left) throw new Damage(`${what} of ${length} bytes, but only ${left} are left`);
  cursor.at += length;
}

/** A zigzag varint of up to ten bytes. Beyond 2^53 the result is not exact, which no length or index needs. */
function readLong(cursor: Cursor, what: string): number {
  const { bytes } = cursor;
  const first = bytes[cursor.at];
  if (first === undefined) throw endOf(what);
  if (first < 0x80) {
    cursor.at += 1;
    return (first >>> 1) ^ -(first & 1);
  }
  let value = first & 0x7f;
  let factor = 0x80;
  for (let length = 1; length < 10; length++) {
    const byte = bytes[cursor.at + length];
    if (byte === undefined) throw endOf(what);
    if (length === 9 && byte > 1) break;
    value += (byte & 0x7f) * factor;
    factor *= 0x80;
    if (byte < 0x80) {
      cursor.at += length + 1;
      return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
    }
  }
  throw new Damage(`${what} has more than 64 bits`);
}

function endOf(what: string): Damage {
  return new Damage(`the payload ends within ${what}`);
}
