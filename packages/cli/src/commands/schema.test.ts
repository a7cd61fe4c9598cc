import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Broker } from '@naru/broker';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCommandLine } from '../program.ts';
import { testTerminal } from '../test-terminal.ts';

let broker: Broker;
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-schema-command-'));
  broker = await Broker.start({ storage: 'memory', port: 0 });
});

afterEach(async () => {
  await broker.close();
  await rm(directory, { recursive: true });
});

async function schema(...args: string[]) {
  return schemaFrom('', ...args);
}

async function schemaFrom(input: string, ...args: string[]) {
  const terminal = testTerminal(input);
  const exitCode = await runCommandLine(['schema', ...args, '--broker', broker.bootstrap], terminal);
  return { exitCode, out: terminal.out(), err: terminal.err() };
}

async function file(name: string, content: unknown): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content));
  return path;
}

const ORDER = { type: 'record', name: 'Order', fields: [{ name: 'id', type: 'string' }] };

describe('naru schema', () => {
  it('registers, lists and prints schemas', async () => {
    const empty = await schema('list');
    expect(empty).toMatchObject({ exitCode: 0, err: expect.stringContaining('there are no schemas') as string });
    const avro = await file('order.avsc', ORDER);
    const proto = await file('order.proto', 'syntax = "proto3"; message Order { string id = 1; }\n');
    const registered = await schema('register', 'orders-value', '--file', avro);
    expect(registered).toEqual({ exitCode: 0, out: '', err: 'orders-value has the schema as version 1, with id 1\n' });
    const json = await schema('register', 'orders/key', '--file', proto, '-o', 'json');
    expect(JSON.parse(json.out)).toEqual({ subject: 'orders/key', version: 1, id: 2 });
    const { out } = await schema('list');
    expect(out.split('\n').map((line) => line.trim().split(/ +/))).toEqual([
      ['SUBJECT', 'VERSION', 'ID', 'TYPE'],
      ['orders-value', '1', '1', 'AVRO'],
      ['orders/key', '1', '2', 'PROTOBUF'],
      [''],
    ]);
    expect(JSON.parse((await schema('list', '--prefix', 'orders-', '-o', 'json')).out)).toMatchObject([
      { subject: 'orders-value', version: 1, id: 1, schemaType: 'AVRO', references: [] },
    ]);
    expect((await schema('get', 'orders-value')).out).toBe(`${JSON.stringify(ORDER)}\n`);
    expect((await schema('get', '--id', '2')).out).toBe('syntax = "proto3"; message Order { string id = 1; }\n');
    expect(JSON.parse((await schema('get', 'orders/key', '--schema-version', '1', '-o', 'json')).out)).toMatchObject({
      subject: 'orders/key',
      id: 2,
      schemaType: 'PROTOBUF',
    });
  });

  it('takes schemas from stdin, with references', async () => {
    await schema('register', 'money', '--file', await file('money.json', { type: 'integer' }));
    const reference = ['--reference', 'https://e.com/a?b=c=money:1'];
    const order = JSON.stringify({ properties: { total: { $ref: 'https://e.com/a?b=c' } } });
    const args = ['register', 'order', '--file', '-', '--type', 'json', ...reference];
    expect(await schemaFrom(order, ...args)).toMatchObject({ exitCode: 0 });
    expect(JSON.parse((await schema('get', 'order', '-o', 'json')).out)).toMatchObject({
      references: [{ name: 'https://e.com/a?b=c', subject: 'money', version: 1 }],
    });
  });

  it('checks: 0 when a schema is compatible, 1 when not, and says why', async () => {
    const path = await file('order.avsc', ORDER);
    await schema('register', 'orders-value', '--file', path);
    expect(await schema('check', 'orders-value', '--file', path)).toEqual({
      exitCode: 0,
      out: '',
      err: 'the schema is compatible with orders-value\n',
    });
    const fields = [...ORDER.fields, { name: 'total', type: 'long' }];
    const next = await file('next.avsc', { ...ORDER, fields });
    const { exitCode, out, err } = await schema('check', 'orders-value', '--file', next, '--schema-version', 'latest');
    expect({ exitCode, out }).toEqual({ exitCode: 1, out: '' });
    expect(err).toMatch(
      /^the schema is not compatible with orders-value\n {2}\{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE'/,
    );
    const json = await schema('check', 'orders-value', '--file', next, '-o', 'json');
    expect(json.exitCode).toBe(1);
    expect(JSON.parse(json.out)).toMatchObject({
      isCompatible: false,
      messages: expect.arrayContaining([]) as unknown,
    });
    const refused = await schema('register', 'orders-value', '--file', next);
    expect(refused.exitCode).toBe(1);
    expect(refused.err).toMatch(
      /^error: Schema being registered is incompatible with an earlier schema.*\[409\] \(INVALID_REQUEST\)\n$/s,
    );
  });

  it.each([
    [['get'], 2, 'say which: a subject or --id'],
    [['get', 'a', '--id', '1'], 2, 'say which: a subject or --id'],
    [['get', 'a', '--schema-version', '0'], 2, 'Expected a whole number from 1'],
    [['register', 'a'], 2, "required option '--file <path>' not specified"],
    [['register', 'a', '--file', 'x.avsc', '--reference', 'b'], 2, 'Expected NAME=SUBJECT:VERSION'],
    [['register', 'a', '--file', 'x.avsc', '--type', 'xml'], 2, 'Allowed choices are avro, json, protobuf'],
    [
      ['register', 'a', '--file', 'schema.txt'],
      1,
      'does not end with .avsc, .json or .proto: say what it is with --type',
    ],
    [['register', 'a', '--file', 'nowhere.avsc'], 1, 'cannot read nowhere.avsc'],
    [['get', 'nothing'], 1, "error: Subject 'nothing' not found. [40401] (INVALID_REQUEST)"],
    [['get', '--id', '99'], 1, 'error: Schema 99 not found [40403] (INVALID_REQUEST)'],
    [['list', '--broker', '127.0.0.1:1'], 1, 'no broker answers at 127.0.0.1:1'],
  ])('says what is wrong with %j', async (args, code, says) => {
    const terminal = testTerminal();
    const broken = args.includes('--broker') ? args : [...args, '--broker', broker.bootstrap];
    const exitCode = await runCommandLine(['schema', ...broken], terminal);
    expect(terminal.err()).toContain(says);
    expect({ exitCode, out: terminal.out() }).toEqual({ exitCode: code, out: '' });
  });
});
