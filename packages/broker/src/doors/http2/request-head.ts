/** What a client asks, out of a header block: the rules of RFC 9113, section 8.2 and 8.3, for requests. */
import type { HeaderField } from './hpack-decoder.ts';

export interface RequestHead {
  readonly method: string;
  /** With the query; `*` and the empty path of CONNECT are possible. */
  readonly path: string;
  readonly authority: string;
  /** Lower case names. Those that came more than once are joined. */
  readonly headers: ReadonlyMap<string, string>;
  /** Null when it was not said. */
  readonly contentLength: number | null;
}

/** Names of HTTP/1's connection, which have no meaning here and are not allowed (8.2.2). */
const OF_A_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
]);
const PSEUDO: ReadonlySet<string> = new Set([':method', ':scheme', ':path', ':authority']);
/** RFC 9110's token, in lower case. */
const NAME = /^[!#$%&'*+\-.^_`|~0-9a-z]+$/;
// oxlint-disable-next-line no-control-regex -- these are what a value must not have
const NOT_IN_A_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/;

/** Null for a malformed request (8.1.1). */
export function readRequestHead(fields: readonly HeaderField[]): RequestHead | null {
  const pseudo = new Map<string, string>();
  const headers = new Map<string, string>();
  for (const [name, value] of fields) {
    if (NOT_IN_A_VALUE.test(value)) return null;
    if (name.startsWith(':')) {
      if (headers.size > 0 || !PSEUDO.has(name) || pseudo.has(name)) return null;
      pseudo.set(name, value);
    } else {
      if (!isHeader(name, value)) return null;
      const before = headers.get(name);
      headers.set(name, before === undefined ? value : `${before}${name === 'cookie' ? '; ' : ', '}${value}`);
    }
  }
  const method = pseudo.get(':method') ?? '';
  const path = pseudo.get(':path') ?? '';
  const isConnect = method === 'CONNECT';
  if (method === '' || isConnect !== (path === '') || isConnect === pseudo.has(':scheme')) return null;
  if (isConnect && !pseudo.has(':authority')) return null;
  const length = headers.get('content-length');
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return null;
  const authority = pseudo.get(':authority') ?? headers.get('host') ?? '';
  return { method, path, authority, headers, contentLength: length === undefined ? null : Number(length) };
}

/** Fields after a body. */
export function areTrailers(fields: readonly HeaderField[]): boolean {
  return fields.every(([name, value]) => isHeader(name, value) && !NOT_IN_A_VALUE.test(value));
}

function isHeader(name: string, value: string): boolean {
  return NAME.test(name) && !OF_A_CONNECTION.has(name) && (name !== 'te' || value === 'trailers');
}
