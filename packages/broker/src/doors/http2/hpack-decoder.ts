/**
 * Reads the header blocks of one direction of an HTTP/2 connection (HPACK, RFC 7541).
 *
 * Owns the dynamic table that the peer's encoder fills. It knows fields as names and values only: which names and values a
 * request may have (RFC 9113, 8.2 and 8.3) is the caller's to check.
 */
import { DynamicTable, sizeOf, STATIC_TABLE } from './hpack-tables.ts';
import type { HeaderField } from './hpack-tables.ts';
import { decodeHuffman } from './huffman.ts';

export type { HeaderField } from './hpack-tables.ts';

/** What both sides have before SETTINGS_HEADER_TABLE_SIZE said something else, bytes (RFC 9113, 6.5.2). */
const DEFAULT_TABLE_BYTES = 4_096;

/** The first byte of a representation (sections 6.1 to 6.3): a flag, and an index or a size in the bits after it. */
const INDEXED = 0x80;
const INDEXED_PREFIX_BITS = 7;
const LITERAL_WITH_INDEXING = 0x40;
const LITERAL_WITH_INDEXING_PREFIX_BITS = 6;
const TABLE_SIZE = 0x20;
const TABLE_SIZE_PREFIX_BITS = 5;
/** Of a literal that is not indexed, or never. */
const LITERAL_PREFIX_BITS = 4;

/** The first byte of a string (section 5.2). */
const HUFFMAN = 0x80;
const LENGTH_PREFIX_BITS = 7;

/** Bytes of an integer after its prefix. */
const MAX_CONTINUATION_BYTES = 5;
const MAX_INTEGER = 2 ** 31 - 1;

const NO_BYTES: Buffer = Buffer.alloc(0);

/** COMPRESSION_ERROR for the connection: its table is no longer the peer's, no other block can be decoded. */
export class HpackError extends Error {
  override readonly name = 'HpackError';
}

export class HpackDecoder {
  readonly #maxTableBytes: number;
  readonly #table: DynamicTable;
  /** The block that is being decoded. */
  #block: Buffer = NO_BYTES;
  #at = 0;

  /**
   * @param maxTableBytes what SETTINGS_HEADER_TABLE_SIZE said (4,096). A peer's table has 4,096 bytes until it has seen the
   *   setting: a decoder with less is only right for blocks that come after its acknowledgement.
   */
  constructor(maxTableBytes: number = DEFAULT_TABLE_BYTES) {
    this.#maxTableBytes = maxTableBytes;
    // A larger one is only used once the peer says so, with a size update.
    this.#table = new DynamicTable(Math.min(maxTableBytes, DEFAULT_TABLE_BYTES));
  }

  /**
   * One whole header block. The dynamic table is kept in step in every case, also when the list is too large.
   *
   * @param maxListBytes of names, values and 32 for each field (RFC 9113, 6.5.2)
   * @returns null when the list is larger than maxListBytes (the block was still decoded as far as the table needs it; memory
   *   for the list is bounded)
   * @throws HpackError: COMPRESSION_ERROR for the connection
   */
  decode(block: Uint8Array, maxListBytes: number): HeaderField[] | null {
    this.#block = Buffer.isBuffer(block) ? block : Buffer.from(block.buffer, block.byteOffset, block.byteLength);
    this.#at = 0;
    try {
      this.#readTableSizes();
      return this.#readFields(maxListBytes);
    } finally {
      this.#block = NO_BYTES;
    }
  }

  /** Before the first field only (section 4.2). */
  #readTableSizes(): void {
    while (this.#at < this.#block.length && isTableSize(this.#block[this.#at]!)) {
      const bytes = this.#readInteger(TABLE_SIZE_PREFIX_BITS);
      if (bytes > this.#maxTableBytes) {
        throw new HpackError(`a dynamic table of ${bytes} bytes; the limit is ${this.#maxTableBytes}`);
      }
      this.#table.resize(bytes);
    }
  }

  #readFields(maxListBytes: number): HeaderField[] | null {
    const fields: HeaderField[] = [];
    let listBytes = 0;
    while (this.#at < this.#block.length) {
      const field = this.#readField(this.#block[this.#at]!);
      listBytes += sizeOf(field);
      if (listBytes <= maxListBytes) fields.push(field);
    }
    return listBytes <= maxListBytes ? fields : null;
  }

  /** @param first its first byte, which is still to be read */
  #readField(first: number): HeaderField {
    if (first >= INDEXED) return this.#fieldAt(this.#readInteger(INDEXED_PREFIX_BITS));
    if (first >= LITERAL_WITH_INDEXING) {
      const field = this.#readLiteral(LITERAL_WITH_INDEXING_PREFIX_BITS);
      this.#table.add(field);
      return field;
    }
    if (isTableSize(first)) throw new HpackError('a dynamic table size update after a field');
    return this.#readLiteral(LITERAL_PREFIX_BITS);
  }

  #readLiteral(prefixBits: number): HeaderField {
    const index = this.#readInteger(prefixBits);
    const name = index === 0 ? this.#readString() : this.#fieldAt(index)[0];
    return [name, this.#readString()];
  }

  /** Section 2.3.3: the static table, then the dynamic one. */
  #fieldAt(index: number): HeaderField {
    const field =
      index <= STATIC_TABLE.length ? STATIC_TABLE[index - 1] : this.#table.get(index - STATIC_TABLE.length - 1);
    if (field === undefined) throw new HpackError(`no field has the index ${index}`);
    return field;
  }

  /** Section 5.2. */
  #readString(): string {
    if (this.#at >= this.#block.length) throw new HpackError('the block ends before a string');
    const isHuffman = this.#block[this.#at]! >= HUFFMAN;
    const length = this.#readInteger(LENGTH_PREFIX_BITS);
    const start = this.#at;
    if (length > this.#block.length - start) throw new HpackError(`a string of ${length} bytes runs past the block`);
    this.#at = start + length;
    if (!isHuffman) return this.#block.toString('latin1', start, this.#at);
    const decoded = decodeHuffman(this.#block, start, this.#at);
    if (decoded === null) throw new HpackError('a string is not in the Huffman code');
    return decoded;
  }

  /** Section 5.1. There is a first byte; what its bits before the prefix say was read by the caller. */
  #readInteger(prefixBits: number): number {
    const mask = (1 << prefixBits) - 1;
    let value = this.#block[this.#at++]! & mask;
    if (value < mask) return value;
    for (let index = 0; index < MAX_CONTINUATION_BYTES; index++) {
      if (this.#at >= this.#block.length) throw new HpackError('the block ends inside an integer');
      const byte = this.#block[this.#at++]!;
      value += (byte & 0x7f) * 2 ** (7 * index);
      if (value > MAX_INTEGER) throw new HpackError('an integer is larger than 31 bits');
      if (byte < 0x80) return value;
    }
    throw new HpackError(`an integer has more than ${MAX_CONTINUATION_BYTES} bytes after its prefix`);
  }
}

function isTableSize(first: number): boolean {
  return first >= TABLE_SIZE && first < LITERAL_WITH_INDEXING;
}
