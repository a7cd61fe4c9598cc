/** Whether two pieces of schemas say the same, `$ref` followed. */
import { isObject, numberOf, printJson, property } from '../json-text.ts';
import { documentOf, resolveRef, type PlacedSchema } from './json-schema-document.ts';

/** @param seen pairs of references that are being compared: schemas may refer to themselves */
export function saysTheSame(a: PlacedSchema, b: PlacedSchema, seen: Set<string> = new Set()): boolean {
  if (Array.isArray(a.schema)) {
    const other = b.schema;
    if (!Array.isArray(other) || other.length !== a.schema.length) return false;
    return a.schema.every((entry: unknown, index) =>
      saysTheSame({ schema: entry, document: a.document }, { schema: other[index], document: b.document }, seen),
    );
  }
  if (!isObject(a.schema) || !isObject(b.schema)) return sameScalar(a.schema, b.schema);
  const [inA, inB] = [documentOf(a), documentOf(b)];
  // The same words may mean something else.
  if (inA.draft !== inB.draft) return false;
  const known = inA === a.document && inB === b.document ? seen : new Set<string>();
  const keys = Object.keys(a.schema);
  if (keys.length !== Object.keys(b.schema).length) return false;
  for (const key of keys) {
    if (!Object.hasOwn(b.schema, key)) return false;
    const entryA = { schema: a.schema[key], document: inA };
    const entryB = { schema: b.schema[key], document: inB };
    if (!(key === '$ref' ? sameTarget(entryA, entryB, known) : saysTheSame(entryA, entryB, known))) return false;
  }
  return true;
}

function sameTarget(a: PlacedSchema, b: PlacedSchema, seen: Set<string>): boolean {
  if (a.schema !== b.schema || typeof a.schema !== 'string') return sameScalar(a.schema, b.schema);
  if (a.document === b.document || seen.has(a.schema)) return true;
  const targetA = resolveRef(a.schema, a.document);
  const targetB = resolveRef(a.schema, b.document);
  if (targetA === null && targetB === null) return true;
  if (targetA === undefined || targetA === null || targetB === undefined || targetB === null) return false;
  // The same text in the same pair of documents leads to the same pair.
  const inner = targetA.document === a.document && targetB.document === b.document ? seen : new Set<string>();
  inner.add(a.schema);
  return saysTheSame(targetA, targetB, inner);
}

function sameScalar(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  const [x, y] = [numberOf(a), numberOf(b)];
  if (x !== null && y !== null) return x === y && (Number.isSafeInteger(x) || printJson(a) === printJson(b));
  return false;
}

/** Values of `enum` and `const` compare as JSON does. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((entry, index) => sameValue(entry, b[index]));
  if (isObject(a) && isObject(b)) {
    const keys = Object.keys(a);
    return (
      keys.length === Object.keys(b).length &&
      keys.every((key) => Object.hasOwn(b, key) && sameValue(property(a, key), property(b, key)))
    );
  }
  return sameScalar(a, b);
}
