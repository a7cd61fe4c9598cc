/**
 * A part of a JSON Schema document as a schema of its own: the part, and whatever it refers to inside the document, at the same places.
 *
 * Large documents hold a whole vendor's events; one event's validator should not cost as much as all of them.
 */
import { NaruError } from '@naru/protocol';
import { parsePointer } from './json-pointer.ts';

type Node = { readonly [key: string]: unknown };

/**
 * @param part JSON pointer
 * @param file for messages
 * @throws NaruError INVALID_CONFIGURATION when it is not there
 */
export function schemaPart(text: string, part: string, file: string): string {
  const document = parse(text, file);
  if (find(document, part) === undefined)
    throw new NaruError(
      'INVALID_CONFIGURATION',
      `${file} has nothing at ${JSON.stringify(part)}${nearby(document, part)}`,
    );
  const result: Record<string, unknown> = {};
  if (document['$schema'] !== undefined) result['$schema'] = document['$schema'];
  result['$ref'] = `#${part}`;
  const open = [part];
  const seen = new Set(open);
  for (let pointer = open.pop(); pointer !== undefined; pointer = open.pop()) {
    const value = find(document, pointer);
    // What does not exist, or the whole document, the validator will tell.
    if (value === undefined || pointer === '') continue;
    place(result, pointer, value);
    for (const found of references(value)) {
      if (seen.has(found)) continue;
      seen.add(found);
      open.push(found);
    }
  }
  return JSON.stringify(result);
}

function parse(text: string, file: string): Node {
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw new NaruError('INVALID_CONFIGURATION', `${file} is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (typeof document === 'object' && document !== null && !Array.isArray(document)) return document as Node;
  throw new NaruError('INVALID_CONFIGURATION', `${file} has no parts: a JSON Schema is an object`);
}

function find(document: Node, pointer: string): unknown {
  if (pointer === '') return document;
  const parsed = parsePointer(pointer);
  if ('wrong' in parsed) return undefined;
  let node: unknown = document;
  for (const token of parsed.tokens) {
    if (typeof node !== 'object' || node === null || !Object.hasOwn(node, token)) return undefined;
    node = (node as Node)[token];
  }
  return node;
}

/** Puts `value` where it was, into objects made on the way. Inside something that is there already it is part of that. */
function place(root: Record<string, unknown>, pointer: string, value: unknown): void {
  const parsed = parsePointer(pointer);
  if ('wrong' in parsed) return;
  let node = root;
  for (const [index, token] of parsed.tokens.entries()) {
    const isLast = index === parsed.tokens.length - 1;
    const existing = Object.hasOwn(node, token) ? node[token] : undefined;
    // What was put inside before is part of the value.
    if (isLast) node[token] = value;
    else {
      const next: Record<string, unknown> = typeof existing === 'object' && existing !== null ? { ...existing } : {};
      node[token] = next;
      node = next;
    }
  }
}

/** Pointers into the same document. */
function references(value: unknown): string[] {
  const found: string[] = [];
  const open: unknown[] = [value];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    if (typeof node !== 'object' || node === null) continue;
    for (const [key, inner] of Object.entries(node)) {
      if ((key === '$ref' || key === '$dynamicRef') && typeof inner === 'string' && inner.startsWith('#'))
        found.push(decoded(inner.slice(1)));
      else if (inner !== null) open.push(inner);
    }
  }
  return found;
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function nearby(document: Node, part: string): string {
  const parent = find(document, part.slice(0, Math.max(0, part.lastIndexOf('/'))));
  if (typeof parent !== 'object' || parent === null) return '';
  const names = Object.keys(parent);
  return `; there ${names.length === 1 ? 'is' : 'are'} ${names.slice(0, 5).join(', ')}${names.length > 5 ? ', …' : ''}`;
}
