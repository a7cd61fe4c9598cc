/** What a JSON Schema demands of objects: their properties, and which there may be. */
import { isObject, property } from '../json-text.ts';
import type { Difference } from '../schema.ts';
import { countDemand, demandOn, difference, type Demand, type SchemaComparison } from './json-schema-demand.ts';
import type { PlacedSchema } from './json-schema-document.ts';
import { additionalOf, propertiesOf, requiredOf, type Conjunct } from './json-schema-view.ts';

export function objectDemands(demanding: Conjunct, path: string): Demand[] {
  const { object } = demanding;
  return [
    ...requiredOf(demanding).map((name) => requiredDemand(demanding, name, path)),
    ...[...propertiesOf(demanding, 'properties')].map(([name, schema]) => propertyDemand(name, schema, path)),
    ...[...propertiesOf(demanding, 'patternProperties')].map(([key, schema]) => patternDemand(key, schema, path)),
    ...additionalDemand(demanding, path),
    ...countDemand(object, 'minProperties', 'object', 'properties', path, (promise) => {
      const required = property(promise, 'required');
      return Array.isArray(required) ? [required.length] : null;
    }),
    ...countDemand(object, 'maxProperties', 'object', 'properties', path, (promise) => {
      const own = property(promise, 'properties');
      const isClosed =
        property(promise, 'additionalProperties') === false && !Object.hasOwn(promise, 'patternProperties');
      return isClosed ? [isObject(own) ? Object.keys(own).length : 0] : null;
    }),
  ];
}

/** A default fills the gap: readers that use defaults see the property. */
function requiredDemand(demanding: Conjunct, name: string, path: string): Demand {
  const own = propertiesOf(demanding, 'properties').get(name)?.schema;
  const hasDefault = isObject(own) && Object.hasOwn(own, 'default');
  return demandOn(['object'], (promise, { names }, all) => {
    if (hasDefault || all.some((other) => requiredOf(other).includes(name))) return [];
    const isNew = !propertiesOf(promise, 'properties').has(name);
    const what = `property '${name}' is required in the ${names.reader} schema, without a default, and not in the ${names.writer} schema`;
    return difference(isNew ? 'REQUIRED_PROPERTY_ADDED' : 'REQUIRED_ATTRIBUTE_ADDED', what, `${path}/required`);
  });
}

function propertyDemand(name: string, schema: PlacedSchema, path: string): Demand {
  const at = `${path}/properties/${name}`;
  return demandOn(['object'], (promise, comparison) => {
    const own = propertiesOf(promise, 'properties').get(name);
    if (own !== undefined) return comparison.inside(schema, own, at);
    const others = [additionalOf(promise), ...propertiesOf(promise, 'patternProperties').values()];
    return others.flatMap((other) => {
      const found = comparison.inside(schema, other, at);
      return found.length === 0 || other.schema !== true ? found : addedToOpen(name, comparison, at);
    });
  });
}

function addedToOpen(name: string, { names }: SchemaComparison, path: string): Difference[] {
  const what =
    `property '${name}' is declared in the ${names.reader} schema and not in the ${names.writer} schema, which allows any ` +
    'value under that name since it has no "additionalProperties": false';
  return difference('PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL', what, path);
}

/** Any name may match a pattern: they are not run. */
function patternDemand(key: string, schema: PlacedSchema, path: string): Demand {
  const at = `${path}/patternProperties/${key}`;
  return demandOn(['object'], (promise, comparison) => {
    const patterns = propertiesOf(promise, 'patternProperties');
    const same = patterns.get(key);
    if (same !== undefined) return comparison.inside(schema, same, at);
    const all = [...propertiesOf(promise, 'properties').values(), ...patterns.values(), additionalOf(promise)];
    return all.flatMap((other) => comparison.inside(schema, other, at));
  });
}

function additionalDemand(demanding: Conjunct, path: string): Demand[] {
  const allowed = additionalOf(demanding);
  if (allowed.schema === true) return [];
  const own = propertiesOf(demanding, 'properties');
  const patterns = propertiesOf(demanding, 'patternProperties');
  const at = `${path}/additionalProperties`;
  const check = demandOn(['object'], (promise, comparison) => {
    const { names } = comparison;
    for (const [name, schema] of propertiesOf(promise, 'properties')) {
      if (own.has(name)) continue;
      const found = comparison.inside(allowed, schema, at);
      if (found.length === 0) continue;
      if (allowed.schema !== false) return found;
      const what = `property '${name}' of the ${names.writer} schema is not allowed in the ${names.reader} schema`;
      return difference('PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL', what, `${path}/properties/${name}`);
    }
    for (const [key, schema] of propertiesOf(promise, 'patternProperties')) {
      const found = patterns.has(key) ? [] : comparison.inside(allowed, schema, at);
      if (found.length > 0) return found;
    }
    const found = comparison.inside(allowed, additionalOf(promise), at);
    if (found.length === 0 || allowed.schema !== false) return found;
    const what = `the ${names.reader} schema allows no other properties than it lists, the ${names.writer} schema does`;
    return difference('ADDITIONAL_PROPERTIES_REMOVED', what, at);
  });
  return [check];
}
