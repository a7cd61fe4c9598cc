/**
 * The tables of HPACK (RFC 7541): the static one (Appendix A), the lengths of the Huffman code (Appendix B), and a
 * connection's dynamic table (section 2.3.2).
 */

/** Name and value. */
export type HeaderField = readonly [name: string, value: string];

/** What a field counts beside its name and value, bytes: in the dynamic table (section 4.1) and in a list (RFC 9113, 6.5.2). */
export const FIELD_OVERHEAD_BYTES = 32;

/** Appendix A. The first has the index 1. */
export const STATIC_TABLE: readonly HeaderField[] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  [':status', '200'],
  [':status', '204'],
  [':status', '206'],
  [':status', '304'],
  [':status', '400'],
  [':status', '404'],
  [':status', '500'],
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ['accept-language', ''],
  ['accept-ranges', ''],
  ['accept', ''],
  ['access-control-allow-origin', ''],
  ['age', ''],
  ['allow', ''],
  ['authorization', ''],
  ['cache-control', ''],
  ['content-disposition', ''],
  ['content-encoding', ''],
  ['content-language', ''],
  ['content-length', ''],
  ['content-location', ''],
  ['content-range', ''],
  ['content-type', ''],
  ['cookie', ''],
  ['date', ''],
  ['etag', ''],
  ['expect', ''],
  ['expires', ''],
  ['from', ''],
  ['host', ''],
  ['if-match', ''],
  ['if-modified-since', ''],
  ['if-none-match', ''],
  ['if-range', ''],
  ['if-unmodified-since', ''],
  ['last-modified', ''],
  ['link', ''],
  ['location', ''],
  ['max-forwards', ''],
  ['proxy-authenticate', ''],
  ['proxy-authorization', ''],
  ['range', ''],
  ['referer', ''],
  ['refresh', ''],
  ['retry-after', ''],
  ['server', ''],
  ['set-cookie', ''],
  ['strict-transport-security', ''],
  ['transfer-encoding', ''],
  ['user-agent', ''],
  ['vary', ''],
  ['via', ''],
  ['www-authenticate', ''],
];

/** The symbol after those of the 256 bytes; it is never sent. */
export const END_OF_STRING = 256;

/**
 * Appendix B: how many bits the code of each byte has, 32 bytes in a line, and of {@link END_OF_STRING}.
 *
 * The codes follow from that: ordered by length, then by symbol, each is the one before it plus 1, with zeros after it when
 * it is longer.
 */
export const HUFFMAN_CODE_LENGTHS: readonly number[] = `
13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28
6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10
13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6
15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28
20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24
22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23
26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27
20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26
30
`
  .trim()
  .split(/\s+/)
  .map(Number);

/** Slots of an empty dynamic table; a power of two. */
const FIRST_SLOTS = 16;

/** The fields that a peer's encoder has put into its table, newest first. */
export class DynamicTable {
  /** A ring, as many as a power of two. */
  #slots: (HeaderField | undefined)[] = emptySlots(FIRST_SLOTS);
  /** The slot of the next field. */
  #next = 0;
  #count = 0;
  #bytes = 0;
  #maxBytes: number;

  /** @param maxBytes of names, values and {@link FIELD_OVERHEAD_BYTES} for each field */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * @param age 0 for the newest; not negative
   * @returns undefined beyond the oldest
   */
  get(age: number): HeaderField | undefined {
    return age < this.#count ? this.#slots[(this.#next - 1 - age) & (this.#slots.length - 1)] : undefined;
  }

  /** Evicts what has no room beside it; all, when it has no room itself: then it is not added (section 4.4). */
  add(field: HeaderField): void {
    const bytes = sizeOf(field);
    this.#evictTo(this.#maxBytes - bytes);
    if (bytes > this.#maxBytes) return;
    if (this.#count === this.#slots.length) this.#grow();
    this.#slots[this.#next] = field;
    this.#next = (this.#next + 1) & (this.#slots.length - 1);
    this.#count += 1;
    this.#bytes += bytes;
  }

  /** Evicts what has no room any more (section 4.3). */
  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  #evictTo(bytes: number): void {
    while (this.#count > 0 && this.#bytes > bytes) {
      const oldest = (this.#next - this.#count) & (this.#slots.length - 1);
      this.#bytes -= sizeOf(this.#slots[oldest]!);
      this.#slots[oldest] = undefined;
      this.#count -= 1;
    }
  }

  /** The ring is full: the next slot is the oldest field's. */
  #grow(): void {
    const oldestFirst = [...this.#slots.slice(this.#next), ...this.#slots.slice(0, this.#next)];
    this.#slots = [...oldestFirst, ...emptySlots(this.#count)];
    this.#next = this.#count;
  }
}

/** What a field counts in a table or a list, bytes. Names and values are latin1: a character is a byte. */
export function sizeOf([name, value]: HeaderField): number {
  return name.length + value.length + FIELD_OVERHEAD_BYTES;
}

function emptySlots(count: number): undefined[] {
  return Array.from({ length: count }, () => undefined);
}
