/** Whether no value can fulfil two JSON Schemas at once. Says so only when it is certain. */
import { sameValue } from './json-schema-equality.ts';
import {
  additionalOf,
  conjuncts,
  propertiesOf,
  requiredOf,
  typesOf,
  valuesOf,
  type Conjunct,
} from './json-schema-view.ts';

/** Properties within properties that are looked at for the one that tells two schemas apart. */
const MAX_DEPTH = 4;

export function areDisjoint(a: readonly Conjunct[], b: readonly Conjunct[], depth = 0): boolean {
  const requiredA = a.flatMap(requiredOf);
  const requiredB = b.flatMap(requiredOf);
  return a.some((x) => b.some((y) => exclude(x, y, requiredA, requiredB, depth)));
}

function exclude(
  a: Conjunct,
  b: Conjunct,
  requiredA: readonly string[],
  requiredB: readonly string[],
  depth: number,
): boolean {
  const typesB = typesOf(b.object);
  const shared = [...typesOf(a.object)].filter((type) => typesB.has(type));
  if (shared.length === 0) return true;
  const valuesA = valuesOf(a.object);
  const valuesB = valuesOf(b.object);
  if (valuesA !== null && valuesB !== null && !valuesA.some((x) => valuesB.some((y) => sameValue(x, y)))) return true;
  if (shared.some((type) => type !== 'object') || depth >= MAX_DEPTH) return false;
  if (requiredA.some((name) => isForbidden(name, b)) || requiredB.some((name) => isForbidden(name, a))) return true;
  const ownA = propertiesOf(a, 'properties');
  const ownB = propertiesOf(b, 'properties');
  return [...new Set([...requiredA, ...requiredB])].some((name) => {
    const inA = ownA.get(name);
    const inB = ownB.get(name);
    if (inA === undefined || inB === undefined) return false;
    const promisedA = conjuncts(inA, 'promise');
    const promisedB = conjuncts(inB, 'promise');
    if (promisedA === null || promisedB === null) return true;
    return promisedA !== undefined && promisedB !== undefined && areDisjoint(promisedA, promisedB, depth + 1);
  });
}

function isForbidden(name: string, conjunct: Conjunct): boolean {
  const own = propertiesOf(conjunct, 'properties').get(name);
  if (own !== undefined) return own.schema === false;
  return additionalOf(conjunct).schema === false && propertiesOf(conjunct, 'patternProperties').size === 0;
}
