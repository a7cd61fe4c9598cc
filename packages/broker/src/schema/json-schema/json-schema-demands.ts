/**
 * What a JSON Schema demands, piece by piece, each with the rule by which a promise of the other schema is enough for it.
 *
 * Every keyword that restricts values has a rule here; those whose rule is "the same on both sides" are listed in
 * `COMPARED_AS_THEY_ARE`. Patterns are compared as text and never run.
 */
import { numberOf, property } from '../json-text.ts';
import { shown, type Difference } from '../schema.ts';
import {
  countDemand,
  demand,
  demandOn,
  difference,
  possibleTypes,
  undecided,
  type Demand,
  type Rule,
} from './json-schema-demand.ts';
import { arrayDemands } from './json-schema-array-demands.ts';
import { areDisjoint } from './json-schema-disjointness.ts';
import type { PlacedSchema } from './json-schema-document.ts';
import { saysTheSame, sameValue } from './json-schema-equality.ts';
import { objectDemands } from './json-schema-object-demands.ts';
import {
  conjuncts,
  expanded,
  lowerBound,
  typesOf,
  upperBound,
  valuesOf,
  type Conjunct,
  type JsonType,
} from './json-schema-view.ts';

const COMPARED_AS_THEY_ARE: readonly (readonly string[])[] = [
  ['pattern'],
  ['format'],
  ['contains', 'minContains', 'maxContains'],
  ['propertyNames'],
  ['dependentRequired'],
  ['dependentSchemas'],
  ['dependencies'],
  ['not'],
  ['if', 'then', 'else'],
  ['$dynamicRef'],
  ['$recursiveRef'],
];

/** For which types these keywords say something; all when they are not here. */
const TYPES_OF_KEYWORDS: Readonly<Record<string, JsonType>> = {
  pattern: 'string',
  contains: 'array',
  propertyNames: 'object',
  dependentRequired: 'object',
  dependentSchemas: 'object',
  dependencies: 'object',
};

/** @param path of the schema that demands */
export function demandsOf(demanding: Conjunct, path: string): Demand[] {
  const { object } = demanding;
  const rules: Demand[] = [];
  if (Object.hasOwn(object, 'type')) rules.push(typeDemand(demanding, path));
  const values = valuesOf(object);
  if (values !== null) rules.push(valuesDemand(values, path));
  rules.push(...numberDemands(demanding, path), ...lengthDemands(demanding, path));
  rules.push(...arrayDemands(demanding, path), ...objectDemands(demanding, path));
  for (const keywords of COMPARED_AS_THEY_ARE)
    if (Object.hasOwn(object, keywords[0] as string)) rules.push(sameDemand(demanding, keywords, path));
  if (Object.hasOwn(object, 'unevaluatedProperties') || Object.hasOwn(object, 'unevaluatedItems'))
    rules.push(wholeDemand(demanding, path));
  if (Array.isArray(property(object, 'anyOf'))) rules.push(anyOfDemand(demanding, path));
  if (Array.isArray(property(object, 'oneOf'))) rules.push(oneOfDemand(demanding, path));
  return rules;
}

function typeDemand({ object }: Conjunct, path: string): Demand {
  const given = property(object, 'type');
  const allowed = new Set((Array.isArray(given) ? given : [given]).flatMap(expanded));
  return demand((_promise, { names }, all) => {
    const extra = [...possibleTypes(all)].filter((type) => !allowed.has(type));
    if (extra.length === 0) return [];
    const written = extra.map((type) => (type === 'fraction' ? 'number' : type)).join(', ');
    const what = `the type is ${shown(given)} in the ${names.reader} schema, the ${names.writer} schema allows ${written} too`;
    const errorType = extra.length === possibleTypes(all).size ? 'TYPE_CHANGED' : 'TYPE_NARROWED';
    return difference(errorType, what, `${path}/type`);
  });
}

function valuesDemand(allowed: readonly unknown[], path: string): Demand {
  return demand(({ object }, { names }, all) => {
    const possible = possibleTypes(all);
    const written = valuesOf(object) ?? fewValues(possible);
    if (written === null) {
      const what = `the ${names.reader} schema allows the values ${shown(allowed)} only, the ${names.writer} schema others too`;
      return difference('ENUM_ARRAY_ADDED', what, path);
    }
    const extra = written.filter(
      (value) =>
        !allowed.some((entry) => sameValue(entry, value)) &&
        [...typesOf({ enum: [value] })].some((type) => possible.has(type)),
    );
    if (extra.length === 0) return [];
    const what = `the ${names.reader} schema does not allow ${extra.map(shown).join(', ')}, the ${names.writer} schema does`;
    return difference('ENUM_ARRAY_NARROWED', what, path);
  });
}

/** Types that have few values. */
function fewValues(types: ReadonlySet<JsonType>): unknown[] | null {
  if ([...types].some((type) => type !== 'null' && type !== 'boolean')) return null;
  return [...(types.has('null') ? [null] : []), ...(types.has('boolean') ? [true, false] : [])];
}

const NUMBERS: readonly JsonType[] = ['integer', 'fraction'];

function numberDemands({ object }: Conjunct, path: string): Demand[] {
  const lower = lowerBound(object);
  const upper = upperBound(object);
  const step = numberOf(property(object, 'multipleOf'));
  const demands: Demand[] = [];
  if (lower !== null) demands.push(boundDemand('MINIMUM', 'at least', lower, lowerBound, (a, b) => a >= b, path));
  if (upper !== null) demands.push(boundDemand('MAXIMUM', 'at most', upper, upperBound, (a, b) => a <= b, path));
  if (step === null) return demands;
  const check: Rule = ({ object: promise }, { names }, all) => {
    const given = numberOf(property(promise, 'multipleOf'));
    if (given !== null && isMultiple(given, step)) return [];
    if (numbersOf(promise)?.every((value) => isMultiple(value, step)) === true) return [];
    if (step === 1 && !possibleTypes(all).has('fraction')) return [];
    const what = `the ${names.reader} schema demands multiples of ${step}, the ${names.writer} schema allows others`;
    return difference('MULTIPLE_OF_CHANGED', what, `${path}/multipleOf`);
  };
  return [...demands, demandOn(NUMBERS, check)];
}

function boundDemand(
  name: string,
  word: string,
  [limit, isExclusive]: readonly [number, boolean],
  boundOf: typeof lowerBound,
  isWithin: (a: number, b: number) => boolean,
  path: string,
): Demand {
  const fits = (value: number): boolean => isWithin(value, limit) && !(isExclusive && value === limit);
  return demandOn(NUMBERS, ({ object }, { names }) => {
    if (numbersOf(object)?.every(fits) === true) return [];
    const given = boundOf(object);
    if (given !== null && (fits(given[0]) || (given[0] === limit && given[1]))) return [];
    const text = `${word} ${limit}${isExclusive ? ' (excluded)' : ''}`;
    const what = `numbers are ${text} in the ${names.reader} schema, the ${names.writer} schema allows others`;
    return difference(given === null ? `${name}_ADDED` : `${name}_NARROWED`, what, path);
  });
}

function numbersOf(object: Conjunct['object']): number[] | null {
  return valuesOf(object)?.flatMap((value) => numberOf(value) ?? []) ?? null;
}

function isMultiple(value: number, step: number): boolean {
  const quotient = value / step;
  return Number.isSafeInteger(quotient) && quotient * step === value;
}

function lengthDemands({ object }: Conjunct, path: string): Demand[] {
  const lengths = (promise: Conjunct['object']): number[] | null =>
    valuesOf(promise)?.flatMap((value) => (typeof value === 'string' ? Array.from(value).length : [])) ?? null;
  return [
    ...countDemand(object, 'minLength', 'string', 'characters', path, lengths),
    ...countDemand(object, 'maxLength', 'string', 'characters', path, lengths),
  ];
}

/** Keywords of which only is known whether they are the same on both sides. */
function sameDemand({ object, document }: Conjunct, keywords: readonly string[], path: string): Demand {
  const [keyword = ''] = keywords;
  const type = TYPES_OF_KEYWORDS[keyword];
  const check: Rule = (promise) => {
    const isSame = keywords.every((name) => {
      const [mine, other] = [property(object, name), property(promise.object, name)];
      if (mine === undefined || other === undefined) return mine === other;
      return saysTheSame({ schema: mine, document }, { schema: other, document: promise.document });
    });
    if (isSame) return [];
    const state = Object.hasOwn(promise.object, keyword) ? 'changed' : 'is on one side only';
    return [undecided(`${path}/${keyword}`, `"${keyword}" ${state}, and is compared as it stands`)];
  };
  return type === undefined ? demand(check) : demandOn([type], check);
}

/** What `unevaluated…` says depends on everything beside it. */
function wholeDemand({ object, document }: Conjunct, path: string): Demand {
  return demand((promise) =>
    saysTheSame({ schema: object, document }, { schema: promise.object, document: promise.document })
      ? []
      : [undecided(path, 'a schema with "unevaluatedProperties" or "unevaluatedItems" is compared as it stands')],
  );
}

function branchesOf({ object, document }: Conjunct, keyword: string): PlacedSchema[] {
  return (property(object, keyword) as unknown[]).map((schema) => ({ schema, document }));
}

function isSameList(demanding: Conjunct, promise: Conjunct, keyword: string): boolean {
  const other = property(promise.object, keyword);
  if (other === undefined) return false;
  const mine = { schema: property(demanding.object, keyword), document: demanding.document };
  return saysTheSame(mine, { schema: other, document: promise.document });
}

function anyOfDemand(demanding: Conjunct, path: string): Demand {
  const branches = branchesOf(demanding, 'anyOf');
  return {
    isOfBranches: true,
    check: (promise, all, comparison, depth) => {
      if (isSameList(demanding, promise, 'anyOf')) return [];
      const fits = (branch: PlacedSchema, index: number): boolean =>
        comparison.fits(branch, all, `${path}/anyOf/${index}`, depth + 1).length === 0;
      if (promise !== all[0]) return NO_BRANCH;
      if (branches.some(fits)) return [];
      const { reader, writer } = comparison.names;
      const what = `no branch of "anyOf" in the ${reader} schema takes all that the ${writer} schema allows`;
      return difference('SUM_TYPE_NARROWED', what, `${path}/anyOf`);
    },
  };
}

/** Said for the first promise already. */
const NO_BRANCH: Difference[] = [{ errorType: 'SUM_TYPE_NARROWED', description: 'no branch fits' }];

function oneOfDemand(demanding: Conjunct, path: string): Demand {
  const branches = branchesOf(demanding, 'oneOf');
  return {
    isOfBranches: true,
    check: (promise, all, comparison, depth) => {
      if (isSameList(demanding, promise, 'oneOf')) return [];
      if (promise !== all[0]) return NO_BRANCH;
      const { reader, writer } = comparison.names;
      const index = branches.findIndex(
        (branch, at) => comparison.fits(branch, all, `${path}/oneOf/${at}`, depth + 1).length === 0,
      );
      if (index < 0) {
        const what = `no branch of "oneOf" in the ${reader} schema takes all that the ${writer} schema allows`;
        return difference('SUM_TYPE_NARROWED', what, `${path}/oneOf`);
      }
      const other = branches.findIndex((branch, at) => at !== index && !excludes(branch, all));
      if (other < 0) return [];
      const why = `values of "oneOf/${index}" may be values of "oneOf/${other}" too, which is not told apart by type, enum, const or a required property`;
      return [undecided(`${path}/oneOf`, why)];
    },
  };
}

function excludes(branch: PlacedSchema, all: readonly Conjunct[]): boolean {
  const promised = conjuncts(branch, 'promise');
  if (promised === null) return true;
  return promised !== undefined && areDisjoint(promised, all);
}
