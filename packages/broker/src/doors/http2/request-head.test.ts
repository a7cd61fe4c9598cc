/** What a header block has to be to be a request (RFC 9113, sections 8.2 and 8.3), and what becomes of its fields. */
import { describe, expect, it } from 'vitest';
import type { HeaderField } from './hpack-decoder.ts';
import { areTrailers, readRequestHead } from './request-head.ts';

const METHOD: HeaderField = [':method', 'POST'];
const SCHEME: HeaderField = [':scheme', 'http'];
const PATH: HeaderField = [':path', '/a?b=c'];
const AUTHORITY: HeaderField = [':authority', 'localhost:7850'];
const HEAD = [METHOD, SCHEME, PATH, AUTHORITY];

function headersOf(...fields: HeaderField[]): Record<string, string> | null {
  const head = readRequestHead([...HEAD, ...fields]);
  return head === null ? null : Object.fromEntries(head.headers);
}

describe('a request', () => {
  it('is a method, a scheme, a path and an authority in any order, and headers', () => {
    expect(readRequestHead([AUTHORITY, PATH, METHOD, SCHEME, ['accept', '*/*']])).toEqual({
      method: 'POST',
      path: '/a?b=c',
      authority: 'localhost:7850',
      headers: new Map([['accept', '*/*']]),
      contentLength: null,
    });
  });

  it('may have its authority in the host header, or none', () => {
    expect(readRequestHead([METHOD, SCHEME, PATH, ['host', 'there']])?.authority).toBe('there');
    expect(readRequestHead([...HEAD, ['host', 'there']])?.authority).toBe('localhost:7850');
    expect(readRequestHead([METHOD, SCHEME, PATH])?.authority).toBe('');
  });

  it('may ask for no path in particular', () => {
    expect(readRequestHead([[':method', 'OPTIONS'], SCHEME, [':path', '*']])?.path).toBe('*');
  });

  it('joins headers that come more than once, and the pieces of cookies', () => {
    expect(headersOf(['accept', 'a'], ['cookie', 'a=1'], ['accept', 'b'], ['cookie', 'b=2'], ['accept', ''])).toEqual({
      accept: 'a, b, ',
      cookie: 'a=1; b=2',
    });
  });

  it.each(['__proto__', 'constructor', 'x-y_z.1', "!#$%&'*+-.^_`|~09az"])('may have a header %s', (name) => {
    expect(readRequestHead([...HEAD, [name, 'v']])?.headers.get(name)).toBe('v');
  });

  it.each(['', 'a b', 'a\tb', '\u00e9\u00ff', '"', '\u007f'])('may have a value %j', (value) => {
    expect(headersOf(['x', value])).toEqual({ x: value });
  });

  it('may say te: trailers, and nothing else of te', () => {
    expect(headersOf(['te', 'trailers'])).toEqual({ te: 'trailers' });
    for (const value of ['', 'gzip', 'trailers, gzip', 'Trailers']) expect(headersOf(['te', value])).toBeNull();
  });

  it.each([
    ['0', 0],
    ['007', 7],
    ['123456789012345', 123_456_789_012_345],
  ])('may say a content-length of %s', (text, bytes) => {
    expect(readRequestHead([...HEAD, ['content-length', text]])?.contentLength).toBe(bytes);
  });
});

describe('a malformed request', () => {
  it.each([
    ['no method', [SCHEME, PATH, AUTHORITY]],
    ['an empty method', [[':method', ''], SCHEME, PATH]],
    ['no scheme', [METHOD, PATH, AUTHORITY]],
    ['no path', [METHOD, SCHEME, AUTHORITY]],
    ['an empty path', [METHOD, SCHEME, [':path', '']]],
    ['nothing at all', []],
    ['a method twice', [METHOD, ...HEAD]],
    ['a path twice', [...HEAD, PATH]],
    ['an authority twice', [...HEAD, AUTHORITY]],
    ['a response in it', [...HEAD, [':status', '200']]],
    ['a protocol, which was not offered', [...HEAD, [':protocol', 'websocket']]],
    ['a pseudo header without a name', [...HEAD, [':', 'x']]],
    ['an upper case pseudo header', [...HEAD, [':Path', '/']]],
    ['a pseudo header after a header', [METHOD, SCHEME, ['accept', '*/*'], PATH]],
    ['a line break in its path', [METHOD, SCHEME, [':path', '/a\r\nx: y']]],
    ['a blank at the end of its path', [METHOD, SCHEME, [':path', '/a ']]],
  ] as [string, HeaderField[]][])('has %s', (_what, fields) => {
    expect(readRequestHead(fields)).toBeNull();
  });

  it.each(['', 'Accept', 'a b', 'a:b', 'a\0', 'a\u0080', 'a\n', 'a\u007f', '(', 'a,b'])('has a header %j', (name) => {
    expect(headersOf([name, 'x'])).toBeNull();
  });

  it.each(['a\0', '\r', 'a\nb', ' a', 'a ', '\ta', 'a\t', ' '])('has a header with the value %j', (value) => {
    expect(headersOf(['x', value])).toBeNull();
  });

  it.each(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'upgrade'])(
    'has the header %s of a connection',
    (name) => expect(headersOf([name, 'x'])).toBeNull(),
  );

  it.each(['', '-1', '+1', '1.0', '0x10', '1e3', 'x', '1234567890123456', '٣'])(
    'has a content-length of %j',
    (length) => expect(headersOf(['content-length', length])).toBeNull(),
  );

  it('has two lengths, also when they are the same', () => {
    expect(headersOf(['content-length', '5'], ['content-length', '5'])).toBeNull();
    expect(headersOf(['content-length', '5'], ['content-length', '6'])).toBeNull();
  });
});

describe('CONNECT', () => {
  it('has an authority, no scheme and no path', () => {
    expect(readRequestHead([[':method', 'CONNECT'], AUTHORITY])).toMatchObject({ method: 'CONNECT', path: '' });
    expect(readRequestHead([[':method', 'CONNECT'], AUTHORITY, SCHEME])).toBeNull();
    expect(readRequestHead([[':method', 'CONNECT'], AUTHORITY, PATH])).toBeNull();
  });

  it('is malformed without an authority', () => {
    expect(readRequestHead([[':method', 'CONNECT']])).toBeNull();
  });
});

describe('trailers', () => {
  it('are headers without those of a request, and without those of a connection', () => {
    expect(areTrailers([])).toBe(true);
    expect(areTrailers([['grpc-status', '0']])).toBe(true);
    for (const [name, value] of [...HEAD, ['Accept', 'x'], ['x', ' y'], ['upgrade', 'x'], [':status', '200']] as const)
      expect(
        areTrailers([
          ['a', 'b'],
          [name, value],
        ]),
      ).toBe(false);
  });
});
