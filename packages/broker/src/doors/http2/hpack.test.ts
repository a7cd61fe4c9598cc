import { once } from 'node:events';
import http2 from 'node:http2';
import net from 'node:net';
import type { AddressInfo } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { HpackDecoder, HpackError } from './hpack-decoder.ts';
import type { HeaderField } from './hpack-decoder.ts';
import { encodeHeaders, NO_TABLE } from './hpack-encoder.ts';
import { END_OF_STRING, HUFFMAN_CODE_LENGTHS, STATIC_TABLE } from './hpack-tables.ts';
import { decodeHuffman } from './huffman.ts';

fc.configureGlobal({ seed: 7541 });

const NO_LIMIT = Number.MAX_SAFE_INTEGER;
const FIRST_DYNAMIC = STATIC_TABLE.length + 1;

function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll(/\s/g, ''), 'hex');
}

/** Each field as one text, to be compared at a glance. */
function shown(fields: readonly HeaderField[]): string[] {
  return fields.map(([name, value]) => `${name} ${value}`);
}

function decode(block: string | Uint8Array, decoder: HpackDecoder = new HpackDecoder()): string[] {
  return shown(decoder.decode(typeof block === 'string' ? bytesOf(block) : block, NO_LIMIT)!);
}

/** What a decoder's dynamic table has, newest first; seen through references to it. */
function tableOf(decoder: HpackDecoder): string[] {
  const fields: string[] = [];
  for (;;) {
    try {
      fields.push(...decode(indexed(FIRST_DYNAMIC + fields.length), decoder));
    } catch (error) {
      expect(error).toBeInstanceOf(HpackError);
      return fields;
    }
  }
}

/** RFC 7541, 5.1. */
function integer(flag: number, prefixBits: number, value: number): Buffer {
  const mask = 2 ** prefixBits - 1;
  if (value < mask) return Buffer.of(flag | value);
  const bytes = [flag | mask];
  let rest = value - mask;
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  return Buffer.of(...bytes, rest);
}

const indexed = (index: number): Buffer => integer(0x80, 7, index);
const tableSize = (bytes: number): Buffer => integer(0x20, 5, bytes);
const text = (value: string): Buffer => Buffer.concat([integer(0, 7, value.length), Buffer.from(value, 'latin1')]);
/** A literal that goes into the table, its name too. */
const added = (name: string, value: string): Buffer => Buffer.concat([Buffer.of(0x40), text(name), text(value)]);

/** The codes as bits, from a second reading of appendix B: counting up, one length after the other. */
function huffmanCodes(): string[] {
  const codes: string[] = [];
  let next = 0;
  for (let length = 1; length <= 30; length++) {
    next *= 2;
    for (const [symbol, bits] of HUFFMAN_CODE_LENGTHS.entries()) {
      if (bits === length) codes[symbol] = (next++).toString(2).padStart(length, '0');
    }
  }
  return codes;
}

const codes = huffmanCodes();

/** Whole bytes of these bits; the last is filled with ones. */
function packed(bits: string): Buffer {
  const whole = bits.padEnd(Math.ceil(bits.length / 8) * 8, '1');
  return Buffer.from((whole.match(/.{8}/g) ?? []).map((byte) => Number.parseInt(byte, 2)));
}

const huffman = (value: string): Buffer => packed(Array.from(value, (one) => codes[one.charCodeAt(0)]).join(''));
const readHuffman = (bytes: Uint8Array): string | null => decodeHuffman(bytes, 0, bytes.length);

const latin1 = fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes).toString('latin1'));

describe('the Huffman code', () => {
  it('is a complete prefix code, with the codes of appendix B', () => {
    expect(HUFFMAN_CODE_LENGTHS).toHaveLength(257);
    expect(HUFFMAN_CODE_LENGTHS.reduce((sum, length) => sum + 2 ** -length, 0)).toBe(1);
    // One of each kind, as appendix B has it.
    const symbols = [...Buffer.from('0at :X|\\'), 0, 128, 249, 255, 10];
    const expected = [
      0x0, 0x3, 0x9, 0x14, 0x5c, 0xfc, 0x7fc, 0x7fff0, 0x1ff8, 0xfffe6, 0xffffffe, 0x3ffffee, 0x3ffffffc,
    ];
    expect(symbols.map((symbol) => Number.parseInt(codes[symbol]!, 2))).toEqual(expected);
    expect(codes[END_OF_STRING]).toBe('1'.repeat(30));
  });

  it('reads back each byte, and strings of them', () => {
    for (let byte = 0; byte < 256; byte++) {
      const value = String.fromCharCode(byte);
      expect(readHuffman(huffman(value))).toBe(value);
      expect(readHuffman(huffman(value.repeat(3)))).toBe(value.repeat(3));
    }
    fc.assert(fc.property(latin1, (value) => readHuffman(huffman(value)) === value));
  });

  it.each([4_000, 4_092, 4_096, 4_097, 100_000])('reads back a string of %i characters', (length) => {
    for (const value of ['0'.repeat(length), 'a0\u00ffZ'.repeat(length / 4)]) {
      expect(readHuffman(huffman(value))).toBe(value);
    }
  });

  it('takes a padding of up to seven ones, and no other', () => {
    // Codes of 5 to 15 bits, so that each length of padding is there.
    for (const character of ['a', ' ', ':', '&', '!', '|', '#', '$', '^', '<']) {
      const bits = codes[character.charCodeAt(0)]!;
      const value = packed(bits);
      expect(readHuffman(value)).toBe(character);
      expect(readHuffman(Buffer.concat([value, Buffer.of(0xff)]))).toBeNull();
      for (let zero = bits.length; zero < value.length * 8; zero++) {
        const spoilt = Buffer.from(value);
        spoilt[zero >>> 3]! ^= 0x80 >>> (zero & 7);
        // It may be another character's code now, but not the padding of this one.
        expect(readHuffman(spoilt)).not.toBe(character);
      }
    }
    expect(readHuffman(Buffer.of())).toBe('');
    expect(readHuffman(Buffer.of(0xff))).toBeNull();
  });

  it.each([0, 1, 2, 5, 7])('refuses the end of string after %i characters, whatever follows', (before) => {
    for (const after of ['', codes[97]!, codes[97]!.repeat(3)]) {
      expect(readHuffman(packed(codes[48]!.repeat(before) + codes[END_OF_STRING]! + after))).toBeNull();
    }
  });
});

describe('the examples of RFC 7541, appendix C', () => {
  it('C.1: integers', () => {
    const decoder = new HpackDecoder(1337);
    // As table sizes: 10 and 1337 with a prefix of five bits.
    expect(decode('2a', decoder)).toEqual([]);
    expect(decode('3f9a0a', decoder)).toEqual([]);
    expect(() => decode('3f9b0a', decoder)).toThrow('a dynamic table of 1338 bytes');
  });

  it.each<[name: string, block: string, field: string, table: string[]]>([
    ['C.2.1', '400a637573746f6d2d6b65790d637573746f6d2d686561646572', 'custom-key custom-header', ['same']],
    ['C.2.2', '040c2f73616d706c652f70617468', ':path /sample/path', []],
    ['C.2.3', '100870617373776f726406736563726574', 'password secret', []],
    ['C.2.4', '82', ':method GET', []],
  ])('%s: one field', (_name, block, field, table) => {
    const decoder = new HpackDecoder();
    expect(decode(block, decoder)).toEqual([field]);
    expect(tableOf(decoder)).toEqual(table.map(() => field));
  });

  function checkSeries(tableBytes: number, lists: string[], tables: string[], blocks: string[]): void {
    const decoder = new HpackDecoder(tableBytes);
    for (const [index, block] of blocks.entries()) {
      expect(decode(block, decoder).join('|')).toBe(lists[index]);
      expect(tableOf(decoder).join('|')).toBe(tables[index]);
    }
  }

  const [authority, noCache] = [':authority www.example.com', 'cache-control no-cache'];
  const requests = [
    `:method GET|:scheme http|:path /|${authority}`,
    `:method GET|:scheme http|:path /|${authority}|${noCache}`,
    `:method GET|:scheme https|:path /index.html|${authority}|custom-key custom-value`,
  ];
  const requestTables = [authority, `${noCache}|${authority}`, `custom-key custom-value|${noCache}|${authority}`];
  const [date, later] = ['date Mon, 21 Oct 2013 20:13:21 GMT', 'date Mon, 21 Oct 2013 20:13:22 GMT'];
  const [secret, location] = ['cache-control private', 'location https://www.example.com'];
  const cookie = 'set-cookie foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1';
  const responses = [
    `:status 302|${secret}|${date}|${location}`,
    `:status 307|${secret}|${date}|${location}`,
    `:status 200|${secret}|${later}|${location}|content-encoding gzip|${cookie}`,
  ];
  const responseTables = [
    `${location}|${date}|${secret}|:status 302`,
    `:status 307|${location}|${date}|${secret}`,
    `${cookie}|content-encoding gzip|${later}`,
  ];

  it('C.3 and C.4: requests without and with the Huffman code', () => {
    checkSeries(4_096, requests, requestTables, [
      '828684410f7777772e6578616d706c652e636f6d',
      '828684be58086e6f2d6361636865',
      '828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565',
    ]);
    checkSeries(4_096, requests, requestTables, [
      '828684418cf1e3c2e5f23a6ba0ab90f4ff',
      '828684be5886a8eb10649cbf',
      '828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf',
    ]);
  });

  it('C.5 and C.6: responses without and with the Huffman code, with evictions', () => {
    checkSeries(256, responses, responseTables, [
      `4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e176874747073
        3a2f2f7777772e6578616d706c652e636f6d`,
      '4803333037c1c0bf',
      `88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48
        514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31`,
    ]);
    checkSeries(256, responses, responseTables, [
      `488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae
        43d3`,
      '4883640effc1c0bf',
      `88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af
        27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007`,
    ]);
  });
});

describe('the dynamic table', () => {
  it('evicts the oldest fields that have no room', () => {
    const decoder = new HpackDecoder(100);
    // 34 bytes each: two fit.
    for (const name of ['a', 'b', 'c']) decode(added(name, '1'), decoder);
    expect(tableOf(decoder)).toEqual(['c 1', 'b 1']);
    // 66: what is left has room for 34.
    decode(added('d', '1'.repeat(33)), decoder);
    expect(tableOf(decoder)).toEqual([`d ${'1'.repeat(33)}`, 'c 1']);
  });

  it('is emptied by a field that is larger, which is not added', () => {
    const decoder = new HpackDecoder(100);
    decode(Buffer.concat([added('a', '1'), added('b', '1'.repeat(67))]), decoder);
    expect(tableOf(decoder)).toEqual([`b ${'1'.repeat(67)}`]);
    expect(decode(added('b', '1'.repeat(68)), decoder)).toEqual([`b ${'1'.repeat(68)}`]);
    expect(tableOf(decoder)).toEqual([]);
  });

  it('keeps the name that a field takes from one that it evicts', () => {
    const decoder = new HpackDecoder(100);
    decode(added('name', '1'), decoder);
    const block = Buffer.concat([integer(0x40, 6, FIRST_DYNAMIC), text('2'.repeat(60))]);
    expect(decode(block, decoder)).toEqual([`name ${'2'.repeat(60)}`]);
    expect(tableOf(decoder)).toEqual([`name ${'2'.repeat(60)}`]);
  });

  it('has 4,096 bytes until the peer asks for more of what it may have', () => {
    const decoder = new HpackDecoder(10_000);
    const blocks = Array.from({ length: 400 }, (_, index) => added(String(index), ''));
    for (const block of blocks) decode(block, decoder);
    // Three digits and 32.
    expect(tableOf(decoder)).toHaveLength(Math.floor(4_096 / 35));
    decode(tableSize(10_000), decoder);
    for (const block of blocks) decode(block, decoder);
    expect(tableOf(decoder)).toHaveLength(Math.floor(10_000 / 35));
    expect(() => decode(tableSize(10_001), decoder)).toThrow(HpackError);
  });

  it('takes its size, more than once and before the first field, and drops what has no room', () => {
    const decoder = new HpackDecoder();
    decode(Buffer.concat([added('a', '1'), added('b', '1'), added('c', '1')]), decoder);
    decode(tableSize(3 * 34), decoder);
    expect(tableOf(decoder)).toHaveLength(3);
    decode(tableSize(3 * 34 - 1), decoder);
    expect(tableOf(decoder)).toEqual(['c 1', 'b 1']);
    const block = Buffer.concat([tableSize(0), tableSize(4_096), added('d', '1'), indexed(FIRST_DYNAMIC)]);
    expect(decode(block, decoder)).toEqual(['d 1', 'd 1']);
    expect(tableOf(decoder)).toEqual(['d 1']);
    decode(NO_TABLE, decoder);
    expect(tableOf(decoder)).toEqual([]);
  });

  it('does what a list of fields would do', () => {
    const sizes = { weight: 1, arbitrary: fc.integer({ min: 0, max: 4_096 }) };
    const fields = { weight: 12, arbitrary: fc.tuple(latin1, latin1) };
    const steps = fc.array(fc.oneof(sizes, fields), { maxLength: 300 });
    fc.assert(
      fc.property(steps, (all) => {
        const decoder = new HpackDecoder();
        let model: HeaderField[] = [];
        let limit = 4_096;
        for (const step of all) {
          decode(typeof step === 'number' ? tableSize(step) : added(...step), decoder);
          if (typeof step === 'number') limit = step;
          else model.unshift(step);
          let sum = 0;
          model = model.filter(([name, value]) => (sum += name.length + value.length + 32) <= limit);
        }
        expect(tableOf(decoder)).toEqual(shown(model));
      }),
    );
  });
});

describe('a malformed block', () => {
  it.each([
    ['the index 0', '80', 'no field has the index 0'],
    ['an index beyond an empty table', 'be', 'no field has the index 62'],
    ['an index far beyond', 'ffffffff7f', 'no field has the index 268435582'],
    ['a name beyond the tables', '7e0161', 'no field has the index 62'],
    ['a name beyond the tables, not indexed', '0f2f0161', 'no field has the index 62'],
    ['an integer without an end', 'ff', 'the block ends inside an integer'],
    ['an integer that goes on past the block', 'ff80', 'the block ends inside an integer'],
    ['a large integer', 'ff81ffffff07', 'an integer is larger than 31 bits'],
    ['a long integer', 'ff808080808000', 'an integer has more than 5 bytes after its prefix'],
    ['a literal without a name', '40', 'the block ends before a string'],
    ['a literal without a value', '400161', 'the block ends before a string'],
    ['a name past the block', '400361', 'a string of 3 bytes runs past the block'],
    ['a value past the block', '4001610362', 'a string of 3 bytes runs past the block'],
    ['a length of 2 GiB', '4001617f80ffffff07', 'a string of 2147483647 bytes runs past the block'],
    ['a Huffman string past the block', '40016182ff', 'a string of 2 bytes runs past the block'],
    ['a padding of eight bits', '40016181ff', 'a string is not in the Huffman code'],
    ['a padding of zeros', '4001618118', 'a string is not in the Huffman code'],
    ['an end of string', '40016184ffffffff', 'a string is not in the Huffman code'],
    ['a table size above the limit', '3fe21f', 'a dynamic table of 4097 bytes; the limit is 4096'],
    ['a table size after a field', '8220', 'a dynamic table size update after a field'],
  ])('with %s is refused', (_name, block, message) => {
    expect(() => decode(block)).toThrow(HpackError);
    expect(() => decode(block)).toThrow(message);
  });

  it.each(['80', '8220', '0001610281', '00016181ff'])('is refused also after too large a list: %s', (rest) => {
    expect(() => new HpackDecoder().decode(bytesOf(`8286${rest}`), 0)).toThrow(HpackError);
  });

  it('takes the largest integers that are none too large', () => {
    expect(() => decode('ff80ffffff07')).toThrow('no field has the index 2147483647');
    expect(decode('3f8080808000')).toEqual([]);
  });

  it('is read or refused, whatever its bytes', () => {
    const starts = fc.constantFrom(0x00, 0x01, 0x02, 0x05, 0x0f, 0x10, 0x20, 0x3f, 0x40, 0x7f, 0x80, 0xbe, 0xff);
    const likely = fc.oneof(fc.integer({ min: 0, max: 255 }), starts);
    const blocks = fc.array(fc.array(likely, { maxLength: 200 }), { maxLength: 5 });
    const counts = { read: 0, refused: 0 };
    fc.assert(
      fc.property(blocks, fc.integer({ min: 0, max: 500 }), (all, maxListBytes) => {
        const decoder = new HpackDecoder();
        for (const bytes of all) {
          try {
            const fields = decoder.decode(Uint8Array.from(bytes), maxListBytes) ?? [];
            // A text has the space between name and value beside them.
            expect(shown(fields).reduce((sum, field) => sum + field.length + 31, 0)).toBeLessThanOrEqual(maxListBytes);
            counts.read += 1;
          } catch (error) {
            expect(error).toBeInstanceOf(HpackError);
            counts.refused += 1;
            return;
          }
        }
      }),
      { numRuns: 2_000 },
    );
    expect(Math.min(counts.read, counts.refused)).toBeGreaterThan(100);
  });
});

describe('the limit of a list', () => {
  it('counts names, values and 32 for each field', () => {
    // :method GET and :scheme http.
    const block = bytesOf('8286');
    expect(new HpackDecoder().decode(block, 10 + 11 + 64)).toHaveLength(2);
    expect(new HpackDecoder().decode(block, 10 + 11 + 63)).toBeNull();
    expect(new HpackDecoder().decode(Buffer.of(), 0)).toEqual([]);
  });

  it('leaves the table as if there were none', () => {
    const limited = new HpackDecoder();
    const block = Buffer.concat([added('a', '1'), added('b', '2'), indexed(FIRST_DYNAMIC + 1), added('c', '3')]);
    expect(limited.decode(block, 40)).toBeNull();
    expect(tableOf(limited)).toEqual(['c 3', 'b 2', 'a 1']);
  });

  it('bounds what many references to a large field become', () => {
    const decoder = new HpackDecoder();
    const references = Buffer.alloc(1_000_000, indexed(FIRST_DYNAMIC));
    expect(decoder.decode(Buffer.concat([added('a', '1'.repeat(4_000)), references]), 16_384)).toBeNull();
    expect(decoder.decode(references.subarray(0, 4), 16_384)).toHaveLength(4);
    expect(decoder.decode(references.subarray(0, 5), 16_384)).toBeNull();
  });
});

describe('what the encoder writes', () => {
  const known = fc.constantFrom(...STATIC_TABLE.flat());
  const long = fc.integer({ min: 60, max: 10_000 }).map((length) => 'v\u00e9'.repeat(length));
  const names = fc.oneof(known, long, fc.stringMatching(/^[a-z0-9-]{1,40}$/));
  const values = fc.oneof(known, long, latin1);
  const lists = fc.array(fc.oneof(fc.constantFrom(...STATIC_TABLE), fc.tuple(names, values)), { maxLength: 20 });

  it('is read back, and leaves the table alone', () => {
    const decoder = new HpackDecoder();
    fc.assert(
      fc.property(lists, (fields) => {
        expect(decoder.decode(encodeHeaders(fields), NO_LIMIT)).toEqual(fields);
      }),
    );
    expect(tableOf(decoder)).toEqual([]);
  });

  it('refers to the static table and indexes nothing', () => {
    const some = [':status 200', 'www-authenticate ', ':status 418', 'content-type x', 'a \u00e9'];
    const block = encodeHeaders(some.map((field) => field.split(' ') as [string, string]));
    expect(block.toString('hex')).toBe(['88', 'bd', '0803343138', '0f100178', '00016101e9'].join(''));
  });
});

/** Of the frames in what a client sent, after its preface: the header blocks, each put together (RFC 9113, 4.1 and 6.2). */
function headerBlocks(sent: Buffer): Buffer[] {
  const blocks: Buffer[] = [];
  let block: Buffer[] = [];
  let end = 0;
  for (let at = 24; at + 9 <= sent.length; at = end) {
    const [type, flags] = [sent[at + 3]!, sent[at + 4]!];
    end = at + 9 + sent.readUIntBE(at, 3);
    if (end > sent.length) break;
    if (type !== 1 && type !== 9) continue;
    const isPadded = type === 1 && (flags & 0x8) !== 0;
    const before = (isPadded ? 1 : 0) + (type === 1 && (flags & 0x20) !== 0 ? 5 : 0);
    block.push(sent.subarray(at + 9 + before, end - (isPadded ? sent[at + 9]! : 0)));
    if ((flags & 0x4) === 0) continue;
    blocks.push(Buffer.concat(block));
    block = [];
  }
  return blocks;
}

/**
 * The header blocks that a node:http2 client, which is nghttp2, sends for these requests.
 *
 * @param tableBytes what the server's SETTINGS_HEADER_TABLE_SIZE says, before the first request
 */
async function blocksOf(requests: http2.OutgoingHttpHeaders[], tableBytes: number): Promise<Buffer[]> {
  const { promise: all, resolve, reject } = Promise.withResolvers<Buffer[]>();
  const server = net.createServer((socket) => {
    let sent: Buffer = Buffer.alloc(0);
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      sent = Buffer.concat([sent, chunk]);
      const blocks = headerBlocks(sent);
      if (blocks.length === requests.length) resolve(blocks);
    });
    // SETTINGS: the table's size, and more streams (3) at a time than there are requests.
    const settings = Buffer.from('00000c040000000000000100000000000300010000', 'hex');
    settings.writeUInt32BE(tableBytes, 11);
    socket.write(settings);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const client = http2.connect(`http://127.0.0.1:${(server.address() as AddressInfo).port}`, { paddingStrategy: 2 });
  try {
    client.on('error', reject);
    await once(client, 'remoteSettings');
    for (const request of requests) client.request(request).on('error', () => undefined);
    return await all;
  } finally {
    client.destroy();
    server.close();
  }
}

describe('the blocks of nghttp2', () => {
  const names = fc.oneof(
    fc.constantFrom('user-agent', 'accept', 'grpc-timeout', 'authorization', 'x-request', 'cookie'),
    fc.stringMatching(/^x-[a-z0-9-]{1,12}[a-z0-9]$/),
  );
  const ends = fc.integer({ min: 0x21, max: 0xff }).filter((code) => code !== 0x7f);
  const middles = fc.array(fc.oneof(ends, fc.constant(0x20)), { maxLength: 60 });
  const strange = fc.tuple(ends, middles, ends).map((parts) => String.fromCharCode(...parts.flat()));
  const values = fc.oneof(strange, fc.constantFrom('trailers', 'application/grpc', '10S', 'identity'));
  const requests = fc
    .tuple(fc.dictionary(names, values, { maxKeys: 12 }), fc.stringMatching(/^\/[a-zA-Z0-9./_-]{0,60}$/), fc.boolean())
    .map(([headers, path, isSensitive]) => ({
      ':path': path,
      ':method': 'POST',
      ...headers,
      ...(isSensitive ? { [http2.sensitiveHeaders]: Object.keys(headers) } : {}),
    }));

  it.each([4_096, 256, 0])('are read with a table of %i bytes', async (tableBytes) => {
    const sent = fc.sample(requests, { numRuns: 300 });
    const blocks = await blocksOf(sent, tableBytes);
    const decoder = new HpackDecoder(tableBytes);
    for (const [index, request] of sent.entries()) {
      const { ':authority': authority, ...read } = Object.fromEntries(decoder.decode(blocks[index]!, NO_LIMIT)!);
      expect(authority).toMatch(/^127\.0\.0\.1:\d+$/);
      expect(read).toEqual({ ...Object.fromEntries(Object.entries(request)), ':scheme': 'http' });
    }
    expect(tableOf(decoder).length > 0).toBe(tableBytes > 0);
  });

  it('are read when they are in several frames', async () => {
    const large = 'large,'.repeat(8_000);
    const blocks = await blocksOf([{ 'x-large': large }, { 'x-small': 'small' }], 4_096);
    // More than SETTINGS_MAX_FRAME_SIZE.
    expect(blocks[0]!.length).toBeGreaterThan(16_384);
    const decoder = new HpackDecoder();
    expect(decoder.decode(blocks[0]!, NO_LIMIT)).toContainEqual(['x-large', large]);
    expect(decoder.decode(blocks[1]!, NO_LIMIT)).toContainEqual(['x-small', 'small']);
  });
});
