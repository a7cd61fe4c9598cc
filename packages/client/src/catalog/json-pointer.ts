/** JSON pointers (RFC 6901) into payloads: `/order/lines/0/id`. */

export interface ParsedPointer {
  readonly text: string;
  readonly tokens: readonly string[];
}

export function parsePointer(text: string): ParsedPointer | { readonly wrong: string } {
  if (!text.startsWith('/'))
    return { wrong: `expected a JSON pointer such as /orderId, got ${JSON.stringify(text)}; it begins with "/"` };
  if (/~(?![01])/.test(text))
    return { wrong: `expected a JSON pointer, got ${JSON.stringify(text)}; "~" is written ~0, and "/" in a name ~1` };
  const tokens = text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
  const inherited = tokens.find((token) => token in Object.prototype);
  if (inherited !== undefined) return { wrong: `a pointer must not lead through ${JSON.stringify(inherited)}` };
  return { text, tokens };
}

/** What is there; undefined for nothing. */
export function valueAt(value: unknown, { tokens }: ParsedPointer): unknown {
  let node = value;
  for (const token of tokens) {
    if (typeof node !== 'object' || node === null) return undefined;
    if (Array.isArray(node) && !/^(?:0|[1-9]\d*)$/.test(token)) return undefined;
    // Getters of classes count: payloads need not be plain.
    node = (node as Readonly<Record<string, unknown>>)[token];
  }
  return node;
}
