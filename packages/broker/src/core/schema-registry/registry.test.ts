/** The registry as a pure machine: what each command answers and leaves behind. */
import { describe, expect, it } from 'vitest';
import {
  decideSchemas,
  decodeSchemaRecord,
  encodeSchemaRecord,
  evolveRegistry,
  newRegistryState,
  registryRecords,
  type GivenReference,
  type GivenSchema,
  type RegistryState,
  type SchemaCommandOf,
  type SchemaCommandType,
  type SchemaRecord,
  type SubjectMode,
} from './index.ts';

/** A registry whose every record goes through bytes. */
class Registry {
  state: RegistryState = newRegistryState();

  run<T extends SchemaCommandType>(command: SchemaCommandOf<T>) {
    const { records, reply } = decideSchemas(this.state, command);
    for (const record of records) evolveRegistry(this.state, throughBytes(record));
    return reply;
  }

  /** As a start reads it from a snapshot. */
  restarted(): Registry {
    const restarted = new Registry();
    for (const record of registryRecords(this.state)) evolveRegistry(restarted.state, throughBytes(record));
    return restarted;
  }

  register(subject: string, schema: string | GivenSchema, id: number | null = null, version: number | null = null) {
    return this.run({
      type: 'register',
      subject,
      schema: typeof schema === 'string' ? avro(schema) : schema,
      id,
      version,
    });
  }

  remove(subject: string, version: number | 'latest' | null = null, permanent = false) {
    return version === null
      ? this.run({ type: 'delete-subject', subject, permanent })
      : this.run({ type: 'delete-version', subject, version, permanent });
  }

  versions(subject: string, deleted = false) {
    return this.run({ type: 'list-versions', subject, deleted, deletedOnly: false });
  }

  level(scope: string | null, level: Parameters<typeof levelOf>[0]) {
    return this.run({ type: 'set-compatibility', scope, level: levelOf(level) });
  }

  mode(scope: string | null, mode: SubjectMode, force = false) {
    return this.run({ type: 'set-mode', scope, mode, force });
  }
}

const levelOf = (level: SchemaCommandOf<'set-compatibility'>['level']) => level;

function throughBytes(record: SchemaRecord): SchemaRecord {
  const { key, value } = encodeSchemaRecord(record);
  const decoded = decodeSchemaRecord(key, value);
  expect(decoded).toEqual(record);
  return decoded;
}

function avro(text: string, references: readonly GivenReference[] = []): GivenSchema {
  return { type: 'AVRO', text, references, normalize: false };
}

function record(...fields: readonly [name: string, type: string, defaultValue?: unknown][]): string {
  const of = fields.map(([name, type, defaultValue]) =>
    defaultValue === undefined ? { name, type } : { name, type, default: defaultValue },
  );
  return JSON.stringify({ type: 'record', name: 'R', fields: of });
}

const refusal = (refused: string, message: unknown = expect.any(String)): unknown => ({ refused, message });

describe('registering', () => {
  it('gives one id to one content, over all subjects, and none twice to a subject', () => {
    const registry = new Registry();
    expect(registry.register('a', '"string"')).toEqual({ id: 1 });
    expect(registry.register('b', '{"type": "string"}')).toEqual({ id: 1 });
    expect(registry.register('b', '"bytes"')).toEqual({ id: 2 });
    expect(registry.register('a', '"string"')).toEqual({ id: 1 });
    expect([registry.versions('a'), registry.versions('b')]).toEqual([[1], [1, 2]]);
    expect(registry.run({ type: 'list-uses', id: 1, deleted: false })).toEqual([
      { subject: 'a', version: 1 },
      { subject: 'b', version: 1 },
    ]);
    expect(registry.run({ type: 'get-schema', id: 1 })).toEqual({
      type: 'AVRO',
      text: '"string"',
      references: [],
      maxId: 2,
    });
  });

  it('tells formats, references and the order of keys apart, the last not when it is to normalize', () => {
    const registry = new Registry();
    const json = (text: string, normalize = false): GivenSchema => ({ type: 'JSON', text, references: [], normalize });
    registry.register('a', '"string"');
    expect(registry.register('j', json('{"type":"string"}'))).toEqual({ id: 2 });
    registry.level('j', 'NONE');
    expect(registry.register('j', json('{"type":"string","title":"t"}'))).toEqual({ id: 3 });
    expect(registry.register('j', json('{"title":"t","type":"string"}'))).toEqual({ id: 4 });
    expect(registry.register('j', json('{"type":"string","title":"t"}', true))).toEqual({ id: 4 });
  });

  it('keeps comments of a .proto file, and finds it again without them', () => {
    const registry = new Registry();
    const proto = (text: string): GivenSchema => ({ type: 'PROTOBUF', text, references: [], normalize: false });
    const text = '// an order\nsyntax = "proto3"; message O {}';
    expect(registry.register('p', proto(text))).toEqual({ id: 1 });
    expect(registry.register('q', proto("syntax='proto3';message O{}"))).toEqual({ id: 1 });
    expect(registry.restarted().register('r', proto("syntax='proto3';message O{}"))).toEqual({ id: 1 });
    expect(registry.run({ type: 'get-version', subject: 'q', version: 1, deleted: false })).toMatchObject({ text });
  });

  it.each([
    ['BACKWARD', [record(['a', 'int'])], record(['a', 'int'], ['b', 'int']), record(['a', 'int'], ['b', 'int', 0])],
    ['FORWARD', [record(['a', 'int'])], record(), record(['a', 'int'], ['b', 'int'])],
    ['FULL', [record(['a', 'int', 0])], record(['b', 'int']), record(['b', 'int', 0])],
    ['BACKWARD_TRANSITIVE', [record(), record(['a', 'int', 0])], record(['a', 'int']), record(['a', 'int', 1])],
    [
      'FORWARD_TRANSITIVE',
      [record(['a', 'int']), record(['a', 'int'], ['b', 'int', 0])],
      record(['b', 'int']),
      record(['a', 'int'], ['c', 'int']),
    ],
    [
      'FULL_TRANSITIVE',
      [record(['a', 'int', 0]), record(['a', 'int', 0], ['b', 'int', 0])],
      record(['c', 'int']),
      record(['c', 'int', 0]),
    ],
  ] as const)('%s refuses what breaks it, and takes the rest', (level, before, breaks, fits) => {
    const registry = new Registry();
    registry.level(null, level);
    before.forEach((schema, index) => expect(registry.register('s', schema)).toEqual({ id: index + 1 }));
    const check = (text: string) => registry.run({ type: 'check', subject: 's', schema: avro(text), version: null });
    expect(check(breaks)).toMatchObject({ isCompatible: false });
    expect(check(fits)).toEqual({ isCompatible: true, messages: [] });
    const message = expect.stringMatching(
      new RegExp(
        `^Schema being registered is incompatible with an earlier schema for subject "s", details: \\[\\{errorType:.*\\{compatibility: '${level}'\\}\\]$`,
        's',
      ),
    ) as string;
    expect(registry.register('s', breaks)).toEqual(refusal('INCOMPATIBLE', message));
    expect(registry.register('s', fits)).toEqual({ id: before.length + 1 });
    expect(registry.versions('s')).toHaveLength(before.length + 1);
  });

  it('looks at the latest version only, unless the level is transitive', () => {
    const registry = new Registry();
    registry.level(null, 'BACKWARD');
    registry.register('s', record(['a', 'int']));
    registry.register('s', record(['a', 'int'], ['b', 'int', 0]));
    const next = record(['a', 'int'], ['b', 'int']);
    expect(registry.run({ type: 'check', subject: 's', schema: avro(next), version: null })).toMatchObject({
      isCompatible: true,
    });
    registry.level('s', 'BACKWARD_TRANSITIVE');
    expect(registry.register('s', next)).toMatchObject({ refused: 'INCOMPATIBLE' });
    expect(registry.run({ type: 'check', subject: 's', schema: avro(next), version: 2 })).toMatchObject({
      isCompatible: true,
    });
    expect(registry.run({ type: 'check', subject: 's', schema: avro(next), version: 9 })).toEqual(
      refusal('VERSION_NOT_FOUND', 'Version 9 not found.'),
    );
    expect(registry.run({ type: 'check', subject: 'new', schema: avro(next), version: 'latest' })).toMatchObject({
      isCompatible: true,
    });
  });

  it('refuses subjects that cannot be', () => {
    const registry = new Registry();
    for (const subject of ['', ' ', 'a\nb', '__GLOBAL', 'x'.repeat(256), ':.ctx:a'])
      expect(registry.register(subject, '"int"')).toMatchObject({ refused: 'INVALID_SUBJECT' });
    expect(registry.register(':.ctx:a', '"int"')).toMatchObject({
      message: expect.stringContaining('contexts') as string,
    });
    expect(registry.register('a', '')).toEqual(refusal('INVALID_SCHEMA', 'Empty schema'));
  });
});

describe('deleting', () => {
  it('is soft first: not listed, still read by id, and its version number is not given again', () => {
    const registry = new Registry();
    registry.register('s', '"int"');
    registry.register('s', '"long"');
    expect(registry.remove('s', 1, true)).toMatchObject({ refused: 'VERSION_NOT_SOFT_DELETED' });
    expect(registry.remove('s', 1)).toBe(1);
    expect(registry.remove('s', 1)).toMatchObject({ refused: 'VERSION_SOFT_DELETED' });
    expect([registry.versions('s'), registry.versions('s', true)]).toEqual([[2], [1, 2]]);
    expect(registry.run({ type: 'get-schema', id: 1 })).toMatchObject({ text: '"int"' });
    expect(registry.run({ type: 'get-version', subject: 's', version: 1, deleted: false })).toMatchObject({
      refused: 'VERSION_NOT_FOUND',
    });
    expect(registry.remove('s', 'latest')).toBe(2);
    expect(registry.run({ type: 'get-version', subject: 's', version: 'latest', deleted: false })).toMatchObject({
      refused: 'SUBJECT_NOT_FOUND',
    });
    expect(registry.register('s', '"int"')).toEqual({ id: 1 });
    expect(registry.versions('s')).toEqual([3]);
  });

  it('is permanent then: the schema goes with its last version, and its id is never given again', () => {
    const registry = new Registry();
    registry.register('a', '"int"');
    registry.register('b', '"int"');
    registry.level('a', 'NONE');
    expect(registry.remove('a', null, true)).toMatchObject({ refused: 'SUBJECT_NOT_SOFT_DELETED' });
    expect(registry.remove('a')).toEqual([1]);
    expect(registry.remove('a')).toMatchObject({ refused: 'SUBJECT_SOFT_DELETED' });
    expect(registry.remove('a', null, true)).toEqual([1]);
    expect(registry.remove('a')).toEqual(refusal('SUBJECT_NOT_FOUND', "Subject 'a' not found."));
    expect(registry.run({ type: 'get-compatibility', scope: 'a', defaultToGlobal: false })).toMatchObject({
      refused: 'COMPATIBILITY_NOT_CONFIGURED',
    });
    expect(registry.run({ type: 'get-schema', id: 1 })).toMatchObject({ text: '"int"' });
    registry.remove('b');
    registry.remove('b', 1, true);
    expect(registry.run({ type: 'get-schema', id: 1 })).toEqual(refusal('SCHEMA_NOT_FOUND', 'Schema 1 not found'));
    expect(registry.restarted().register('a', '"int"')).toEqual({ id: 2 });
  });

  it('is refused for what others stand on', () => {
    const registry = new Registry();
    registry.register('money', '{"type":"record","name":"Money","fields":[]}');
    const order = avro('{"type":"record","name":"O","fields":[{"name":"m","type":"Money"}]}', [
      { name: 'Money', subject: 'money', version: 'latest' },
    ]);
    expect(registry.register('orders', order)).toEqual({ id: 2 });
    expect(registry.run({ type: 'referenced-by', subject: 'money', version: 'latest' })).toEqual([2]);
    const exists = refusal(
      'REFERENCE_EXISTS',
      'One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=money,version=1}.',
    );
    expect(registry.remove('money', 1)).toEqual(exists);
    expect(registry.remove('money')).toEqual(exists);
    registry.remove('orders');
    expect(registry.restarted().remove('money')).toEqual([1]);
    registry.remove('money');
    expect(registry.remove('money', null, true)).toEqual(exists);
    expect(registry.register('other', order)).toEqual(
      refusal(
        'INVALID_SCHEMA',
        expect.stringContaining('No schema reference found for subject "money" and version latest'),
      ),
    );
    registry.remove('orders', null, true);
    expect(registry.remove('money', null, true)).toEqual([1]);
  });
});

describe('modes', () => {
  it('READONLY takes nothing new, and answers what is there', () => {
    const registry = new Registry();
    registry.register('s', '"int"');
    registry.mode(null, 'READONLY');
    expect(registry.register('s', '"long"')).toEqual(
      refusal('OPERATION_NOT_PERMITTED', 'Subject s is in read-only mode'),
    );
    expect(registry.remove('s')).toMatchObject({ refused: 'OPERATION_NOT_PERMITTED' });
    expect(registry.register('s', '"int"')).toEqual({ id: 1 });
    registry.mode('s', 'READWRITE');
    expect(registry.register('s', '"long"')).toEqual({ id: 2 });
  });

  it('IMPORT takes ids and versions as they are given, and no id for two contents', () => {
    const registry = new Registry();
    expect(registry.register('s', '"int"', 7)).toEqual(
      refusal('OPERATION_NOT_PERMITTED', 'Subject s is not in import mode'),
    );
    registry.mode('s', 'IMPORT');
    expect(registry.register('s', '"int"')).toMatchObject({ refused: 'OPERATION_NOT_PERMITTED' });
    expect(registry.register('s', '"int"', 7, 3)).toEqual({ id: 7 });
    expect(registry.register('s', '"string"', 5, 1)).toEqual({ id: 5 });
    expect(registry.versions('s')).toEqual([1, 3]);
    expect(registry.register('s', '"bytes"', 7)).toMatchObject({ refused: 'ID_DOES_NOT_MATCH' });
    expect(registry.register('s', '"int"', 8, 4)).toMatchObject({ refused: 'ID_DOES_NOT_MATCH' });
    expect(registry.register('s', '"bytes"', 9, 3)).toMatchObject({ refused: 'OPERATION_NOT_PERMITTED' });
    registry.mode('s', 'READWRITE');
    expect(registry.register('t', '"bytes"')).toEqual({ id: 8 });
    expect(registry.mode(null, 'IMPORT')).toEqual(
      refusal('OPERATION_NOT_PERMITTED', 'Cannot import since found existing subjects'),
    );
    expect(registry.mode(null, 'IMPORT', true)).toBe('IMPORT');
  });
});

it('is the same after a start, whatever happened', () => {
  const registry = new Registry();
  registry.register('a', '"int"');
  registry.register('a', '"long"');
  registry.remove('a', 1);
  registry.level('a', 'FULL');
  registry.level(null, 'NONE');
  registry.mode('b', 'READONLY');
  const { state } = registry.restarted();
  expect(state).toEqual(registry.state);
});

it('says that the log is damaged instead of reading nonsense', () => {
  const bytes = (value: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(value));
  for (const [key, value] of [
    [{ kind: 'schema', id: 0 }, null],
    [
      { kind: 'schema', id: 1 },
      { type: 'XML', text: '', references: [] },
    ],
    [{ kind: 'version', subject: 's', version: 1 }, { schemaId: 'x' }],
    [{ kind: 'other' }, null],
    ['nonsense', null],
  ]) {
    const damaged = (): unknown => decodeSchemaRecord(bytes(key), value === null ? null : bytes(value));
    expect(damaged).toThrow(expect.objectContaining({ code: 'DATA_CORRUPT' }) as Error);
  }
});
