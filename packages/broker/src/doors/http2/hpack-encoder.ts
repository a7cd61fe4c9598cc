/**
 * Writes header blocks (HPACK, RFC 7541) that change no table: fields of the static table are references, all others are
 * literals without indexing, not in the Huffman code. Hence there is no state: blocks may be written in any order, and a
 * block that was written once may be sent again, on any connection.
 */
import { STATIC_TABLE } from './hpack-tables.ts';
import type { HeaderField } from './hpack-tables.ts';

/**
 * A dynamic table size update to 0 (section 6.3), that goes before the first block of a connection, because the encoder has
 * no table. After it no SETTINGS_HEADER_TABLE_SIZE of the peer asks for another.
 */
export const NO_TABLE: Uint8Array = Uint8Array.of(0x20);

/** An indexed field (section 6.1); every index of the static table fits beside it. */
const INDEXED = 0x80;
/** A literal without indexing (section 6.2.2) has no flag. */
const LITERAL_PREFIX_BITS = 4;
/** A string that is not in the Huffman code (section 5.2) has none either. */
const LENGTH_PREFIX_BITS = 7;

/** Of a field beside its name and value: an index and two lengths, of up to six bytes each. */
const MAX_FIELD_EXTRA_BYTES = 18;

/** Longer ones are worth a call. */
const MAX_SHORT_LENGTH = 24;

interface StaticName {
  /** Its first index in the static table. */
  readonly index: number;
  /** Of the values that the static table has with it. */
  readonly indexes: Map<string, number>;
}

const staticNames = new Map<string, StaticName>();
for (const [place, [name, value]] of STATIC_TABLE.entries()) {
  const known = staticNames.get(name) ?? { index: place + 1, indexes: new Map<string, number>() };
  known.indexes.set(value, place + 1);
  staticNames.set(name, known);
}

/**
 * Stateless: static table and literals without indexing, no Huffman; names must be lower case. Values are latin1 strings: of
 * a character beyond U+00FF the lower byte would be written.
 */
export function encodeHeaders(fields: readonly HeaderField[]): Buffer {
  let maxBytes = 0;
  for (const [name, value] of fields) maxBytes += name.length + value.length + MAX_FIELD_EXTRA_BYTES;
  const block = Buffer.allocUnsafe(maxBytes);
  let end = 0;
  for (const [name, value] of fields) {
    const known = staticNames.get(name);
    const index = known?.indexes.get(value);
    if (index !== undefined) {
      block[end++] = INDEXED | index;
      continue;
    }
    end = writeInteger(block, end, LITERAL_PREFIX_BITS, known?.index ?? 0);
    if (known === undefined) end = writeString(block, end, name);
    end = writeString(block, end, value);
  }
  return block.subarray(0, end);
}

function writeString(block: Buffer, start: number, text: string): number {
  const textStart = writeInteger(block, start, LENGTH_PREFIX_BITS, text.length);
  if (text.length > MAX_SHORT_LENGTH) return textStart + block.write(text, textStart, 'latin1');
  for (let index = 0; index < text.length; index++) block[textStart + index] = text.charCodeAt(index);
  return textStart + text.length;
}

/** Section 5.1, with no flag before the prefix. */
function writeInteger(block: Buffer, start: number, prefixBits: number, value: number): number {
  const mask = (1 << prefixBits) - 1;
  let at = start;
  if (value < mask) {
    block[at++] = value;
    return at;
  }
  block[at++] = mask;
  let rest = value - mask;
  for (; rest >= 0x80; rest >>>= 7) block[at++] = (rest & 0x7f) | 0x80;
  block[at++] = rest;
  return at;
}
