/**
 * Decodes strings in HPACK's Huffman code (RFC 7541, 5.2), four bits at a time: a table says, for each place between two
 * bits of a code and each next four bits, the place after them and the byte that ended among them. No code is shorter than
 * five bits, so that is one byte at most.
 */
import { END_OF_STRING, HUFFMAN_CODE_LENGTHS } from './hpack-tables.ts';

/** Shorter than any code, and half a byte. */
const STEP_BITS = 4;
const STEPS = 1 << STEP_BITS;

/** A place is an inner node of the code's tree; a complete code of 257 symbols has 256. The first is the root. */
const PLACES = END_OF_STRING;
/** After the code of {@link END_OF_STRING}; it is never left. */
const FAILED = PLACES;

/** Of a table's entry: bits 0 to 7 are the byte, the next says whether there is one, the others are the next place. */
const HAS_BYTE_SHIFT = 8;
const PLACE_SHIFT = 9;

/** More bits than this cannot be padding. */
const MAX_PADDING_BITS = 7;

/** Both children of each place; a symbol is ~symbol. */
const children = codeTree();
/** By place and next bits. */
const transitions = transitionTable();
/** 1 for each place where a string may end: the root, and where only ones led, as many as can be padding. */
const ends = endTable();

/** The decoded string, before it is a string; a longer one takes memory of its own. */
const scratch = Buffer.allocUnsafeSlow(4096);

/**
 * @param start of the string in the bytes
 * @param end after its last byte
 * @returns as latin1; null when it has {@link END_OF_STRING} in it, or its padding is not ones or longer than seven bits
 */
export function decodeHuffman(bytes: Uint8Array, start: number, end: number): string | null {
  const maxLength = Math.ceil(((end - start) * 8) / 5) + 1;
  const decoded = maxLength <= scratch.length ? scratch : Buffer.allocUnsafeSlow(maxLength);
  let length = 0;
  let place = 0;
  for (let at = start; at < end; at++) {
    const byte = bytes[at]!;
    // Both write without a question; what is no byte is written over by the next.
    const upper = transitions[place * STEPS + (byte >>> STEP_BITS)]!;
    decoded[length] = upper;
    length += (upper >>> HAS_BYTE_SHIFT) & 1;
    const lower = transitions[(upper >>> PLACE_SHIFT) * STEPS + (byte & (STEPS - 1))]!;
    decoded[length] = lower;
    length += (lower >>> HAS_BYTE_SHIFT) & 1;
    place = lower >>> PLACE_SHIFT;
  }
  return ends[place] === 1 ? decoded.toString('latin1', 0, length) : null;
}

function codeTree(): Int16Array {
  const tree = new Int16Array(2 * PLACES);
  const symbols = [...HUFFMAN_CODE_LENGTHS.keys()].sort((a, b) => lengthOf(a) - lengthOf(b) || a - b);
  let places = 1;
  let code = 0;
  let codeLength = 0;
  for (const symbol of symbols) {
    code <<= lengthOf(symbol) - codeLength;
    codeLength = lengthOf(symbol);
    let place = 0;
    for (let bit = codeLength - 1; bit > 0; bit--) {
      const child = 2 * place + ((code >>> bit) & 1);
      // No child is the root, so 0 stands for none yet.
      if (tree[child] === 0) tree[child] = places++;
      place = tree[child]!;
    }
    tree[2 * place + (code & 1)] = ~symbol;
    code += 1;
  }
  return tree;
}

function lengthOf(symbol: number): number {
  return HUFFMAN_CODE_LENGTHS[symbol]!;
}

function transitionTable(): Uint32Array {
  const table = new Uint32Array((PLACES + 1) * STEPS);
  for (let place = 0; place < PLACES; place++) {
    for (let bits = 0; bits < STEPS; bits++) table[place * STEPS + bits] = transition(place, bits);
  }
  return table.fill(FAILED << PLACE_SHIFT, FAILED * STEPS);
}

/** The entry of the table for these four bits at this place. */
function transition(from: number, bits: number): number {
  let place = from;
  let found = 0;
  for (let bit = STEP_BITS - 1; bit >= 0; bit--) {
    const child = children[2 * place + ((bits >>> bit) & 1)]!;
    if (child >= 0) {
      place = child;
      continue;
    }
    if (~child === END_OF_STRING) return FAILED << PLACE_SHIFT;
    found = (1 << HAS_BYTE_SHIFT) | ~child;
    place = 0;
  }
  return (place << PLACE_SHIFT) | found;
}

function endTable(): Uint8Array {
  const table = new Uint8Array(PLACES + 1);
  let place = 0;
  for (let ones = 0; ones <= MAX_PADDING_BITS; ones++) {
    table[place] = 1;
    place = children[2 * place + 1]!;
  }
  return table;
}
