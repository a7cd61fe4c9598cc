/** What a JSON Schema demands of arrays. */
import { numberOf, property } from '../json-text.ts';
import { countDemand, demandOn, difference, type Demand } from './json-schema-demand.ts';
import { itemsOf, valuesOf, type Conjunct } from './json-schema-view.ts';

export function arrayDemands(demanding: Conjunct, path: string): Demand[] {
  const { object } = demanding;
  const sizes = (promise: Conjunct['object']): number[] | null =>
    valuesOf(promise)?.flatMap((value) => (Array.isArray(value) ? value.length : [])) ?? null;
  const demands = [
    ...countDemand(object, 'minItems', 'array', 'items', path, sizes),
    ...countDemand(object, 'maxItems', 'array', 'items', path, sizes),
    ...itemDemands(demanding, path),
  ];
  if (property(object, 'uniqueItems') !== true) return demands;
  const unique = demandOn(['array'], ({ object: promise }, { names }) => {
    if (property(promise, 'uniqueItems') === true || (numberOf(property(promise, 'maxItems')) ?? 2) <= 1) return [];
    const what = `items are unique in the ${names.reader} schema, the ${names.writer} schema allows the same twice`;
    return difference('UNIQUE_ITEMS_ADDED', what, `${path}/uniqueItems`);
  });
  return [...demands, unique];
}

function itemDemands(demanding: Conjunct, path: string): Demand[] {
  const { prefix, rest } = itemsOf(demanding);
  const isPrefixItems = Object.hasOwn(demanding.object, 'prefixItems');
  const prefixPath = `${path}/${isPrefixItems ? 'prefixItems' : 'items'}`;
  const restPath = `${path}/${prefix.length === 0 || isPrefixItems ? 'items' : 'additionalItems'}`;
  const demands = prefix.map((item, index) =>
    demandOn(['array'], (promise, comparison) => {
      const given = itemsOf(promise);
      if (maxItemsOf(promise) <= index) return [];
      return comparison.inside(item, given.prefix[index] ?? given.rest, `${prefixPath}/${index}`);
    }),
  );
  if (rest.schema === true) return demands;
  const ofRest = demandOn(['array'], (promise, comparison) => {
    const given = itemsOf(promise);
    const max = maxItemsOf(promise);
    const beyond = given.prefix.slice(prefix.length, max);
    const found = beyond.flatMap((item) => comparison.inside(rest, item, restPath));
    if (found.length > 0) return found;
    return max <= Math.max(prefix.length, given.prefix.length) ? [] : comparison.inside(rest, given.rest, restPath);
  });
  return [...demands, ofRest];
}

function maxItemsOf({ object }: Conjunct): number {
  return numberOf(property(object, 'maxItems')) ?? Infinity;
}
