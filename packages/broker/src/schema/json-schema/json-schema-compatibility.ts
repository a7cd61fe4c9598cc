/**
 * Whether everything that one JSON Schema allows is allowed by another.
 *
 * A proof on the schemas: each thing that the reader demands must follow from something that the writer promises. Where no
 * proof is found the answer is no, and says whether the schemas contradict or just cannot be compared; so a change is
 * never waved through. docs/schema-registry.md lists what is decided.
 */
import { MAX_COMPARISONS, type ComparedNames } from '../comparison.ts';
import { property } from '../json-text.ts';
import type { Difference } from '../schema.ts';
import type { PlacedSchema } from './json-schema-document.ts';
import { undecided, type Demand, type SchemaComparison } from './json-schema-demand.ts';
import { demandsOf } from './json-schema-demands.ts';
import { saysTheSame } from './json-schema-equality.ts';
import { conjuncts, type Conjunct } from './json-schema-view.ts';

export function jsonSchemaDifferences(reader: PlacedSchema, writer: PlacedSchema, names: ComparedNames): Difference[] {
  return new JsonSchemaComparison(names).inside(reader, writer, '#');
}

/** Cases within cases: `anyOf` of the writer is looked at branch by branch. */
const MAX_CASE_DEPTH = 6;
/** `anyOf` and `oneOf` of the reader within each other, for the same value. */
const MAX_BRANCH_DEPTH = 30;
/** Values of an `enum` that are looked at one by one. */
const MAX_VALUE_CASES = 100;
/** Of one comparison: a person reads them. */
const MAX_DIFFERENCES = 20;

class JsonSchemaComparison implements SchemaComparison {
  readonly names: ComparedNames;
  /** Pairs that are taken to fit: those that did, and those that are being looked at, since schemas may contain themselves. */
  readonly #assumed = new Map<unknown, Set<unknown>>();
  readonly #trail: (readonly [unknown, unknown])[] = [];
  #compared = 0;

  constructor(names: ComparedNames) {
    this.names = names;
  }

  inside(reader: PlacedSchema, writer: PlacedSchema, path: string): Difference[] {
    if (writer.schema === false || reader.schema === true) return [];
    const mark = this.#trail.length;
    if (!this.#assume(reader.schema, writer.schema)) return [];
    const found = saysTheSame(reader, writer) ? [] : this.#compare(reader, writer, path);
    // What was found with the help of a pair that does not fit does not count either.
    if (found.length > 0) this.#forget(mark);
    return found.slice(0, MAX_DIFFERENCES);
  }

  fits(reader: PlacedSchema, written: readonly Conjunct[], path: string, depth: number): Difference[] {
    if (this.#isSpent()) return [undecided(path, 'the schemas are too large to be compared')];
    if (depth > MAX_BRANCH_DEPTH) return [undecided(path, 'the schema is nested too deep')];
    const read = conjuncts(reader, 'demand');
    if (read === null) {
      const { reader: name, writer } = this.names;
      const description = `the ${name} schema allows no value there, the ${writer} schema does (at ${path})`;
      return [{ errorType: 'NOTHING_ALLOWED', description }];
    }
    if (read === undefined) return [undecided(path, 'a "$ref" leads to a schema that is not known, or to itself')];
    const found: Difference[] = [];
    for (const conjunct of read) {
      for (const demand of demandsOf(conjunct, path)) {
        found.push(...this.#prove(demand, written, 0, depth));
        if (found.length >= MAX_DIFFERENCES) return found;
      }
    }
    return found;
  }

  #compare(reader: PlacedSchema, writer: PlacedSchema, path: string): Difference[] {
    const written = conjuncts(writer, 'promise');
    if (written === null) return [];
    if (written === undefined) return [undecided(path, 'a "$ref" leads to a schema that is not known, or to itself')];
    return this.fits(reader, written.length === 0 ? [NO_PROMISE] : written, path, 0);
  }

  /** Something that the writer promises must be enough for the demand; or each of the cases of which it promises one. */
  #prove(demand: Demand, written: readonly Conjunct[], caseDepth: number, depth: number): Difference[] {
    let first: Difference[] | null = null;
    for (const conjunct of written) {
      const found = demand.check(conjunct, written, this, depth);
      if (found.length === 0) return [];
      first ??= found;
    }
    if (caseDepth < MAX_CASE_DEPTH && this.#byCases(demand, written, caseDepth, depth)) return [];
    return first ?? [];
  }

  #byCases(demand: Demand, written: readonly Conjunct[], caseDepth: number, depth: number): boolean {
    return written.some((conjunct) =>
      casesOf(conjunct, demand.isOfBranches).some((cases) =>
        cases.every((branch) => {
          if (this.#isSpent()) return false;
          const promised = conjuncts(branch, 'promise');
          if (promised === null) return true;
          if (promised === undefined) return false;
          // What stands beside the cases holds in each of them.
          const beside = written.map((other) => (other === conjunct ? withoutCases(other) : other));
          return this.#prove(demand, [...beside, ...promised], caseDepth + 1, depth).length === 0;
        }),
      ),
    );
  }

  #isSpent(): boolean {
    this.#compared += 1;
    return this.#compared > MAX_COMPARISONS;
  }

  /** False when the pair is taken to fit already. */
  #assume(reader: unknown, writer: unknown): boolean {
    let writers = this.#assumed.get(reader);
    if (writers === undefined) this.#assumed.set(reader, (writers = new Set()));
    if (typeof reader === 'object' && typeof writer === 'object') {
      if (writers.has(writer)) return false;
      writers.add(writer);
      this.#trail.push([reader, writer]);
    }
    return true;
  }

  #forget(mark: number): void {
    for (const [reader, writer] of this.#trail.splice(mark)) this.#assumed.get(reader)?.delete(writer);
  }
}

const NO_PROMISE: Conjunct = {
  object: {},
  document: { root: {}, draft: 2020, byUri: new Map(), anchors: new Map(), baseUri: '', embedded: new Map() },
};

function withoutCases({ object, document }: Conjunct): Conjunct {
  const { anyOf: _anyOf, oneOf: _oneOf, ...rest } = object;
  return { object: rest, document };
}

/** Lists of schemas, of each of which one at least holds. @param everything also types and values one by one */
function casesOf({ object, document }: Conjunct, everything: boolean): PlacedSchema[][] {
  const cases: PlacedSchema[][] = [];
  for (const key of ['anyOf', 'oneOf']) {
    const list = property(object, key);
    if (Array.isArray(list)) cases.push(list.map((schema: unknown) => ({ schema, document })));
  }
  if (!everything) return cases;
  const types = property(object, 'type');
  if (Array.isArray(types) && types.length > 1)
    cases.push(types.map((type: unknown) => ({ schema: { ...withoutRefs(object), type }, document })));
  const list = property(object, 'enum');
  if (Array.isArray(list) && list.length > 1 && list.length <= MAX_VALUE_CASES)
    cases.push(list.map((value: unknown) => ({ schema: { ...withoutRefs(object), enum: [value] }, document })));
  return cases;
}

/** They are conjuncts of their own. */
function withoutRefs(object: Conjunct['object']): Conjunct['object'] {
  const { $ref: _ref, allOf: _allOf, anyOf: _anyOf, oneOf: _oneOf, ...rest } = object;
  return rest;
}
