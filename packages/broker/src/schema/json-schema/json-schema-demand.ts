/** One thing that a JSON Schema demands, and how it is told whether the other schema promises enough for it. */
import type { ComparedNames } from '../comparison.ts';
import { numberOf, property } from '../json-text.ts';
import type { Difference } from '../schema.ts';
import type { PlacedSchema } from './json-schema-document.ts';
import { typesOf, type Conjunct, type JsonType } from './json-schema-view.ts';

/** What compares schemas within schemas. */
export interface SchemaComparison {
  readonly names: ComparedNames;
  /** Compares what is one level further inside the value. @param path in the reader's schema */
  inside(reader: PlacedSchema, writer: PlacedSchema, path: string): Difference[];
  /** Whether what is promised is enough for all that the reader demands of the same value. */
  fits(reader: PlacedSchema, written: readonly Conjunct[], path: string, depth: number): Difference[];
}

export interface Demand {
  /** Of `anyOf` or `oneOf`: types and values of the other side are looked at one by one. */
  readonly isOfBranches: boolean;
  /** What is missing; nothing when the promise is enough. @param all promises that hold together */
  check(promise: Conjunct, all: readonly Conjunct[], comparison: SchemaComparison, depth: number): Difference[];
}

export type Rule = (promise: Conjunct, comparison: SchemaComparison, all: readonly Conjunct[]) => Difference[];

export function demand(check: Rule): Demand {
  return { isOfBranches: false, check: (promise, all, comparison) => check(promise, comparison, all) };
}

/** A demand on one type: others have nothing to fulfil. */
export function demandOn(types: readonly JsonType[], check: Rule): Demand {
  return demand((promise, comparison, all) => {
    const possible = possibleTypes(all);
    return types.some((type) => possible.has(type)) ? check(promise, comparison, all) : [];
  });
}

export function difference(errorType: string, description: string, path: string): Difference[] {
  return [{ errorType, description: `${description} (at ${path})` }];
}

export function possibleTypes(all: readonly Conjunct[]): ReadonlySet<JsonType> {
  const [first, ...others] = all.map(({ object }) => typesOf(object));
  return new Set([...(first ?? [])].filter((type) => others.every((types) => types.has(type))));
}

export function undecided(path: string, why: string): Difference {
  const description = `it cannot be decided whether the schemas are compatible: ${why} (at ${path})`;
  return { errorType: 'NOT_DECIDABLE', description };
}

/** `minX` and `maxX`. @param sizesOf what the values of a promise have, when they are listed */
export function countDemand(
  object: Conjunct['object'],
  keyword: string,
  type: JsonType,
  what: string,
  path: string,
  sizesOf: (promise: Conjunct['object'], names: ComparedNames) => readonly number[] | null,
): Demand[] {
  const limit = numberOf(property(object, keyword));
  const isMinimum = keyword.startsWith('min');
  if (limit === null || (isMinimum && limit === 0)) return [];
  const fits = (size: number): boolean => (isMinimum ? size >= limit : size <= limit);
  return [
    demandOn([type], ({ object: promise }, { names }) => {
      const given = numberOf(property(promise, keyword));
      if ((given !== null && fits(given)) || sizesOf(promise, names)?.every(fits) === true) return [];
      const text = `the ${names.reader} schema demands ${isMinimum ? 'at least' : 'at most'} ${limit} ${what}`;
      const errorType = `${keyword.replace(/[A-Z]/, (letter) => `_${letter}`).toUpperCase()}_${given === null ? 'ADDED' : 'NARROWED'}`;
      return difference(errorType, `${text}, the ${names.writer} schema does not`, `${path}/${keyword}`);
    }),
  ];
}
