/** JSON pointers (RFC 6901): `/order/items/0/id`. */
import { InvalidArgumentError } from 'commander';

export interface JsonPointer {
  readonly text: string;
  readonly tokens: readonly string[];
}

export function readPointer(text: string): JsonPointer {
  if (!text.startsWith('/') || /~(?![01])/.test(text)) {
    throw new InvalidArgumentError('Expected a JSON pointer such as /customer/id.');
  }
  const tokens = text
    .slice(1)
    .split('/')
    .map((token) => token.replaceAll('~1', '/').replaceAll('~0', '~'));
  return { text, tokens };
}

/** What is there; undefined for nothing. */
export function resolvePointer(value: unknown, pointer: JsonPointer): unknown {
  let node = value;
  for (const token of pointer.tokens) {
    if (typeof node !== 'object' || node === null || !Object.hasOwn(node, token)) return undefined;
    if (Array.isArray(node) && !/^(?:0|[1-9]\d*)$/.test(token)) return undefined;
    node = (node as Record<string, unknown>)[token];
  }
  return node;
}
