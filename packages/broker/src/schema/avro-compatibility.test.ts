/** Which Avro schemas read each other's data, and what is said of those that do not. avsc, which resolves itself, agrees. */
import avsc from 'avsc';
import { describe, expect, it } from 'vitest';
import { schemaDifferences } from './index.ts';
import { avro, record } from './schema-sources.ts';
import type { SchemaSource } from './schema.ts';

const NEW_READS_OLD = { reader: 'new', writer: 'old' } as const;

function differences(reader: SchemaSource, writer: SchemaSource): string[] {
  return schemaDifferences(reader, writer, NEW_READS_OLD).map(
    ({ errorType, description }) => `${errorType}: ${description}`,
  );
}

/** What the library that clients use says. */
function resolves(reader: SchemaSource, writer: SchemaSource): boolean {
  const typeOf = ({ text }: SchemaSource): avsc.Type => avsc.Type.forSchema(JSON.parse(text), { wrapUnions: true });
  try {
    typeOf(reader).createResolver(typeOf(writer));
    return true;
  } catch {
    return false;
  }
}

const int = { name: 'n', type: 'int' };
const text = { name: 't', type: 'string' };
const optional = { name: 't', type: ['null', 'string'], default: null };
const color = (symbols: string[], beside = {}): SchemaSource =>
  avro({ type: 'enum', name: 'Color', symbols, ...beside });
const node = (...fields: object[]): SchemaSource =>
  avro({ type: 'record', name: 'N', fields: [{ name: 'next', type: ['null', 'N'], default: null }, ...fields] });

describe('a new Avro schema reads old data', () => {
  it.each<[string, SchemaSource, SchemaSource]>([
    ['of the same schema', record(int, text), record(int, text)],
    ['when fields are in another order', record(text, int), record(int, text)],
    ['when a field with a default was added', record(int, optional), record(int)],
    ['when a field was removed', record(int), record(int, text)],
    ['when int became long, float, double', record({ ...int, type: 'double' }), record(int)],
    ['when text became bytes', record({ ...text, type: 'bytes' }), record(text)],
    [
      'when a field has a new name and the old one as alias',
      record({ name: 'm', type: 'int', aliases: ['n'] }),
      record(int),
    ],
    ['when a type became a union with it', record({ ...int, type: ['null', 'int'] }), record(int)],
    [
      'when a union has more branches',
      record({ ...int, type: ['null', 'int', 'string'] }),
      record({ ...int, type: ['int', 'null'] }),
    ],
    ['when symbols were added', color(['A', 'B', 'C']), color(['A', 'B'])],
    [
      'when a record was renamed with an alias',
      avro({ type: 'record', name: 'S', aliases: ['R'], fields: [] }),
      record(),
    ],
    ['when a recursive record got an optional field', node({ name: 'x', type: 'int', default: 0 }), node()],
    ['when a logical type was added', avro({ type: 'long', logicalType: 'timestamp-millis' }), avro('"long"')],
  ])('%s', (_, reader, writer) => {
    expect(differences(reader, writer)).toEqual([]);
    expect(resolves(reader, writer)).toBe(true);
  });

  it('when a symbol was removed and the enum has a default', () => {
    expect(differences(color(['A'], { default: 'A' }), color(['A', 'B']))).toEqual([]);
  });
});

describe('a new Avro schema does not read old data', () => {
  it.each<[string, SchemaSource, SchemaSource, string]>([
    [
      'when a field without default was added',
      record(int, text),
      record(int),
      "READER_FIELD_MISSING_DEFAULT_VALUE: the field 't' of record R in the new schema has no default value and is missing in the old schema (path '/fields/1')",
    ],
    [
      'when a field was renamed',
      record({ name: 'm', type: 'int' }),
      record(int),
      "READER_FIELD_MISSING_DEFAULT_VALUE: the field 'm' of record R in the new schema has no default value and is missing in the old schema (path '/fields/0')",
    ],
    [
      'when long became int',
      record(int),
      record({ ...int, type: 'long' }),
      "TYPE_MISMATCH: int of the new schema does not read long of the old schema (path '/fields/0/type')",
    ],
    [
      'when a field changed its type',
      record({ ...int, type: 'string' }),
      record(int),
      "TYPE_MISMATCH: string of the new schema does not read int of the old schema (path '/fields/0/type')",
    ],
    [
      'when a record became an enum',
      color(['A']),
      record(),
      "TYPE_MISMATCH: enum Color of the new schema does not read record R of the old schema (path '/')",
    ],
    [
      'when a branch was removed',
      record({ ...int, type: ['null', 'int'] }),
      record({ ...int, type: ['null', 'int', 'string'] }),
      "MISSING_UNION_BRANCH: the union in the new schema has no branch that reads string of the old schema (path '/fields/0/type')",
    ],
    [
      'when a field is not optional any more',
      record(text),
      record(optional),
      "TYPE_MISMATCH: the old schema has a union with null, which string of the new schema does not read (path '/fields/0/type')",
    ],
    [
      'when symbols were removed',
      color(['A']),
      color(['A', 'B', 'C']),
      "MISSING_ENUM_SYMBOLS: the new schema has no symbols 'B', 'C' in enum Color, which has no default symbol, and the old schema has them (path '/symbols')",
    ],
    [
      'when a size changed',
      avro({ type: 'fixed', name: 'F', size: 8 }),
      avro({ type: 'fixed', name: 'F', size: 4 }),
      "FIXED_SIZE_MISMATCH: fixed F has 8 bytes in the new schema and 4 in the old schema (path '/size')",
    ],
    [
      'when a record was renamed',
      avro({ type: 'record', name: 'S', fields: [] }),
      record(),
      "NAME_MISMATCH: the record is called S in the new schema, without the alias R, which is its name in the old schema (path '/name')",
    ],
    [
      'when items changed',
      avro({ type: 'array', items: 'int' }),
      avro({ type: 'array', items: 'string' }),
      "TYPE_MISMATCH: int of the new schema does not read string of the old schema (path '/items')",
    ],
    [
      'when values changed',
      avro({ type: 'map', values: 'int' }),
      avro({ type: 'map', values: 'long' }),
      "TYPE_MISMATCH: int of the new schema does not read long of the old schema (path '/values')",
    ],
    [
      'when something deep in a recursive record changed',
      node({ name: 'x', type: 'int' }),
      node(),
      "READER_FIELD_MISSING_DEFAULT_VALUE: the field 'x' of record N in the new schema has no default value and is missing in the old schema (path '/fields/1')",
    ],
    [
      'when a record in a union changed',
      avro(['null', { type: 'record', name: 'R', fields: [int] }]),
      avro(['null', { type: 'record', name: 'R', fields: [] }]),
      "READER_FIELD_MISSING_DEFAULT_VALUE: the field 'n' of record R in the new schema has no default value and is missing in the old schema (path '/1/fields/0')",
    ],
  ])('%s', (_, reader, writer, message) => {
    expect(differences(reader, writer)).toEqual([message]);
    expect(resolves(reader, writer)).toBe(false);
  });

  it('names everything that is wrong', () => {
    const reader = record({ name: 'a', type: 'int' }, { name: 'b', type: 'int' }, { ...int, type: 'boolean' });
    expect(differences(reader, record(int))).toHaveLength(3);
  });

  it('says which of the two schemas is which', () => {
    const [difference] = schemaDifferences(record(int), record(), { reader: 'old', writer: 'new' });
    expect(difference?.description).toContain(
      "field 'n' of record R in the old schema has no default value and is missing in the new schema",
    );
  });
});

it('schemas of different formats never read each other', () => {
  const [difference] = schemaDifferences(avro('"int"'), { ...avro('{}'), type: 'JSON' }, NEW_READS_OLD);
  expect(difference).toEqual({
    errorType: 'SCHEMA_TYPE_CHANGED',
    description: 'the new schema is of type AVRO, the old schema of type JSON',
  });
});
