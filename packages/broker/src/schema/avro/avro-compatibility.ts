/**
 * Whether data of one Avro schema can be read with another: schema resolution of the specification, decided on schemas alone.
 *
 * Stricter than the specification in one point: named types match by their full name or an alias of the reader's, never by
 * the name without its namespace, since not every library reads that.
 */
import type { Difference } from '../schema.ts';
import { MAX_COMPARISONS, type ComparedNames } from '../comparison.ts';
import {
  avroTypeText,
  isNamed,
  type AvroEnum,
  type AvroNamedType,
  type AvroPrimitive,
  type AvroRecord,
  type AvroType,
  type AvroUnion,
} from './avro-type.ts';

/** What a reader's primitive takes besides itself. */
const PROMOTED: Readonly<Record<string, readonly string[]>> = {
  long: ['int'],
  float: ['int', 'long'],
  double: ['int', 'long', 'float'],
  string: ['bytes'],
  bytes: ['string'],
};

export function avroDifferences(reader: AvroType, writer: AvroType, names: ComparedNames): Difference[] {
  return new AvroComparison(names).compare(reader, writer, '/', new PairSet());
}

/** Pairs that are taken to match: those that did, and those that are looked at, since types may contain themselves. */
class PairSet {
  readonly #pairs = new Map<AvroType, Set<AvroType>>();
  readonly #trail: (readonly [AvroType, AvroType])[] = [];

  /** False when it was there. */
  add(reader: AvroType, writer: AvroType): boolean {
    let writers = this.#pairs.get(reader);
    if (writers === undefined) this.#pairs.set(reader, (writers = new Set()));
    if (writers.has(writer)) return false;
    writers.add(writer);
    this.#trail.push([reader, writer]);
    return true;
  }

  get mark(): number {
    return this.#trail.length;
  }

  /** What was found with the help of something that does not match does not count. */
  forgetSince(mark: number): void {
    for (const [reader, writer] of this.#trail.splice(mark)) this.#pairs.get(reader)?.delete(writer);
  }
}

class AvroComparison {
  readonly #names: ComparedNames;
  #compared = 0;

  constructor(names: ComparedNames) {
    this.#names = names;
  }

  /** @param path in the reader's schema */
  compare(reader: AvroType, writer: AvroType, path: string, assumed: PairSet): Difference[] {
    this.#compared += 1;
    if (this.#compared > MAX_COMPARISONS)
      return [{ errorType: 'TOO_COMPLEX', description: `the schemas are too large to be compared${here(path)}` }];
    if (isNamed(reader) && isNamed(writer) && !assumed.add(reader, writer)) return [];
    if (writer.kind === 'union') return this.#writerUnion(reader, writer, path, assumed);
    if (reader.kind === 'union') return this.#readerUnion(reader, writer, path, assumed);
    if (reader.kind === 'primitive' && writer.kind === 'primitive') return this.#primitive(reader, writer, path);
    if (reader.kind === 'array' && writer.kind === 'array')
      return this.compare(reader.items, writer.items, join(path, 'items'), assumed);
    if (reader.kind === 'map' && writer.kind === 'map')
      return this.compare(reader.values, writer.values, join(path, 'values'), assumed);
    if (!isNamed(reader) || !isNamed(writer) || reader.kind !== writer.kind)
      return [this.#typeMismatch(reader, writer, path)];
    const renamed = this.#nameMismatch(reader, writer, path);
    if (renamed !== null) return [renamed];
    if (reader.kind === 'record') return this.#record(reader, writer as AvroRecord, path, assumed);
    if (reader.kind === 'enum') return this.#enum(reader, writer as AvroEnum, path);
    const size = (writer as typeof reader).size;
    if (reader.size === size) return [];
    const what = `fixed ${reader.name} has ${reader.size} bytes in the ${this.#names.reader} schema and ${size} in the ${this.#names.writer} schema`;
    return [{ errorType: 'FIXED_SIZE_MISMATCH', description: `${what}${here(join(path, 'size'))}` }];
  }

  #primitive(reader: AvroPrimitive, writer: AvroPrimitive, path: string): Difference[] {
    const fits = reader.name === writer.name || PROMOTED[reader.name]?.includes(writer.name) === true;
    return fits ? [] : [this.#typeMismatch(reader, writer, path)];
  }

  #record(reader: AvroRecord, writer: AvroRecord, path: string, assumed: PairSet): Difference[] {
    const written = new Map(writer.fields.map((field) => [field.name, field]));
    return reader.fields.flatMap((field, index): Difference[] => {
      const at = join(path, `fields/${index}`);
      const source = [field.name, ...field.aliases]
        .map((name) => written.get(name))
        .find((found) => found !== undefined);
      if (source !== undefined) return this.compare(field.type, source.type, join(at, 'type'), assumed);
      if (field.hasDefault) return [];
      const description =
        `the field '${field.name}' of record ${reader.name} in the ${this.#names.reader} schema has no default value and is ` +
        `missing in the ${this.#names.writer} schema${here(at)}`;
      return [{ errorType: 'READER_FIELD_MISSING_DEFAULT_VALUE', description }];
    });
  }

  #enum(reader: AvroEnum, writer: AvroEnum, path: string): Difference[] {
    if (reader.defaultSymbol !== null) return [];
    const missing = writer.symbols.filter((symbol) => !reader.symbols.includes(symbol));
    if (missing.length === 0) return [];
    const description =
      `the ${this.#names.reader} schema has no symbols '${missing.join("', '")}' in enum ${reader.name}, which has no ` +
      `default symbol, and the ${this.#names.writer} schema has them${here(join(path, 'symbols'))}`;
    return [{ errorType: 'MISSING_ENUM_SYMBOLS', description }];
  }

  #writerUnion(reader: AvroType, writer: AvroUnion, path: string, assumed: PairSet): Difference[] {
    return writer.branches.flatMap((branch) => {
      const found = this.compare(reader, branch, path, assumed);
      if (found.length === 0 || reader.kind === 'union') return found;
      const description =
        `the ${this.#names.writer} schema has a union with ${avroTypeText(branch)}, which ${avroTypeText(reader)} of the ` +
        `${this.#names.reader} schema does not read${here(path)}`;
      return [{ errorType: 'TYPE_MISMATCH', description }];
    });
  }

  #readerUnion(reader: AvroUnion, writer: AvroType, path: string, assumed: PairSet): Difference[] {
    let closest: Difference[] | null = null;
    for (const [index, branch] of reader.branches.entries()) {
      const { mark } = assumed;
      const found = this.compare(branch, writer, join(path, String(index)), assumed);
      if (found.length === 0) return [];
      assumed.forgetSince(mark);
      // The branch that was meant says best what is wrong.
      if (isSameKind(branch, writer)) closest = found;
    }
    if (closest !== null) return closest;
    const description =
      `the union in the ${this.#names.reader} schema has no branch that reads ${avroTypeText(writer)} of the ` +
      `${this.#names.writer} schema${here(path)}`;
    return [{ errorType: 'MISSING_UNION_BRANCH', description }];
  }

  #nameMismatch(reader: AvroNamedType, writer: AvroNamedType, path: string): Difference | null {
    if (reader.name === writer.name || reader.aliases.includes(writer.name)) return null;
    const description =
      `the ${reader.kind} is called ${reader.name} in the ${this.#names.reader} schema, without the alias ${writer.name}, ` +
      `which is its name in the ${this.#names.writer} schema${here(join(path, 'name'))}`;
    return { errorType: 'NAME_MISMATCH', description };
  }

  #typeMismatch(reader: AvroType, writer: AvroType, path: string): Difference {
    const description =
      `${avroTypeText(reader)} of the ${this.#names.reader} schema does not read ${avroTypeText(writer)} of the ` +
      `${this.#names.writer} schema${here(path)}`;
    return { errorType: 'TYPE_MISMATCH', description };
  }
}

function isSameKind(a: AvroType, b: AvroType): boolean {
  return isNamed(a) && a.kind === b.kind && isNamed(b) && a.name === b.name;
}

function here(path: string): string {
  return ` (path '${path}')`;
}

function join(path: string, step: string): string {
  return path === '/' ? `/${step}` : `${path}/${step}`;
}
