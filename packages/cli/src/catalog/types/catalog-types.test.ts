/** What `naru catalog types` writes, as the compiler sees it. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Catalog } from '@naru/client';
import { expect, it, onTestFinished } from 'vitest';
import { catalogTypes } from './catalog-types.ts';

const ROOT = fileURLToPath(new URL('../../../../../', import.meta.url));

const CATALOG = `
events:
  order.placed: { key: /orderId, schema: order.json, description: "Somebody's order. */" }
  order.shipped: { schema: "large.json#/definitions/shipped" }
  order.parted: { schema: parted.json, references: { ./line.json: line.json } }
  payment.made: { format: avro, schema: payment.avsc }
  page.viewed: { format: protobuf, schema: view.proto }
  page.title: { format: string }
  page.image: { format: bytes }
  page.anything: {}
`;
const FILES: Readonly<Record<string, string>> = {
  'events.yaml': CATALOG,
  'order.json': JSON.stringify({
    title: 'An order',
    type: 'object',
    additionalProperties: false,
    required: ['orderId', 'status', 'user'],
    properties: {
      orderId: { type: 'string' },
      status: { enum: ['new', 'paid'] },
      user: { $ref: '#/$defs/user' },
      note: { type: ['string', 'null'] },
    },
    $defs: {
      user: {
        type: 'object',
        additionalProperties: false,
        required: ['name'],
        properties: { name: { type: 'string' } },
      },
    },
  }),
  'large.json': JSON.stringify({
    $schema: 'http://json-schema.org/draft-07/schema#',
    definitions: {
      shipped: {
        type: 'object',
        title: 'shipped event',
        required: ['by'],
        properties: { by: { $ref: '#/definitions/carrier' } },
      },
      carrier: { type: 'object', required: ['van'], properties: { van: { type: 'integer' } } },
    },
  }),
  'parted.json': JSON.stringify({ type: 'object', required: ['line'], properties: { line: { $ref: './line.json' } } }),
  'line.json': JSON.stringify({ type: 'object', required: ['count'], properties: { count: { type: 'number' } } }),
  'payment.avsc': JSON.stringify({
    type: 'record',
    name: 'Payment',
    namespace: 'shop',
    fields: [
      { name: 'id', type: 'string' },
      { name: 'amount', type: 'long' },
      { name: 'tags', type: { type: 'map', values: { type: 'array', items: 'int' } } },
      { name: 'next', type: ['null', 'Payment'] },
      {
        name: 'means',
        type: [
          { type: 'record', name: 'Card', fields: [{ name: 'digits', type: 'string' }] },
          {
            type: 'record',
            name: 'Cash',
            fields: [{ name: 'kind', type: { type: 'enum', name: 'Kind', symbols: ['COIN', 'NOTE'] } }],
          },
        ],
      },
    ],
  }),
  'view.proto': `syntax = "proto3";
    package shop;
    message View { string page = 1; int64 at = 2; repeated Tag tags = 3; map<string, int32> counts = 4; optional string note = 5;
      Tag main = 6; Kind kind = 7; oneof who { string user = 8; Tag guest = 9; } }
    message Tag { string name = 1; }
    enum Kind { PLAIN = 0; RICH = 1; }`,
};

const GOOD = `
import type { Naru } from '@naru/client';
export async function good(naru: Naru): Promise<void> {
  await naru.publish('order.placed', { orderId: 'o', status: 'new', user: { name: 'x' }, note: null });
  naru.enqueue('order.shipped', { by: { van: 4 } });
  await naru.publish('order.parted', { line: { count: 1 } });
  await naru.publish('payment.made', { id: 'p', amount: 5n, tags: { a: [1] }, next: null, means: { 'shop.Cash': { kind: 'COIN' } } });
  await naru.publish('page.viewed', {
    page: '/', at: 5n, tags: [{ name: 't' }], counts: { a: 1 }, kind: 1, who: { case: 'user', value: 'u' },
  });
  await naru.publish('page.title', 'text', { timeoutMs: 5 });
  await naru.publish('page.image', new Uint8Array(1));
  await naru.publish('page.anything', { any: ['thing'] });
  const subscriber = naru.subscriber('g');
  subscriber.handle('order.placed', async (event) => {
    const status: 'new' | 'paid' = event.value.status;
    const name: string = event.value.user.name;
    await Promise.resolve([status, name]);
  });
  subscriber.handle('payment.made', (event, context) => {
    const amount: bigint = event.value.amount;
    context.note(String(amount));
  });
  subscriber.handleBatch('page.viewed', (events) => {
    const page: string | undefined = events[0]?.value.who.case === 'guest' ? events[0].value.who.value.name : undefined;
    return page === undefined ? undefined : Promise.resolve();
  });
}
`;
/** Each line is one error. */
const BAD = [
  `void naru.publish('order.plcaed', {});`,
  `void naru.publish('orders', {});`,
  `void naru.publish('order.placed', { orderId: 5, status: 'new', user: { name: 'x' } });`,
  `void naru.publish('order.placed', { orderId: 'o', status: 'old', user: { name: 'x' } });`,
  `void naru.publish('order.placed', { orderId: 'o', status: 'new', user: { nmae: 'x' } });`,
  `void naru.publish('order.placed', { orderId: 'o', status: 'new', user: { name: 'x' }, more: 1 });`,
  `naru.enqueue('order.shipped', { by: {} });`,
  `naru.enqueue('order.parted', { line: { count: 'many' } });`,
  `void naru.publish('payment.made', { id: 'p', amount: 5, tags: {}, next: null, means: { 'shop.Card': { digits: '1' } } });`,
  `void naru.publish('payment.made', { id: 'p', amount: 5n, tags: {}, next: null, means: { digits: '1' } });`,
  `void naru.publish('page.viewed', { page: '/', at: 5, tags: [], counts: {}, kind: 0, who: { case: undefined } });`,
  `void naru.publish('page.viewed', { page: '/', at: 5n, tags: [], counts: {}, kind: 0, who: { case: 'guest', value: 'u' } });`,
  `void naru.publish('page.title', 5);`,
  `naru.subscriber('g').handle('order.plcaed', () => {});`,
  `naru.subscriber('g').handle('order.placed', (event) => event.value.orderIdd);`,
  `naru.subscriber('g').handle('order.placed', (event) => { const id: number = event.value.orderId; return Promise.resolve(void id); });`,
];

it('lets the compiler take what is right, and refuse each thing that is wrong', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'naru-types-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  const bad = [`import type { Naru } from '@naru/client';`, 'declare const naru: Naru;', ...BAD];
  const tsconfig = {
    extends: join(ROOT, 'tsconfig.json'),
    compilerOptions: {
      paths: { '@naru/client': [join(ROOT, 'packages/client/src/index.ts')] },
      typeRoots: [join(ROOT, 'node_modules/@types')],
    },
    include: ['*.ts'],
  };
  const files = {
    ...FILES,
    'good.ts': GOOD,
    'bad.ts': bad.join('\n'),
    'tsconfig.json': JSON.stringify(tsconfig),
    'package.json': '{"type":"module"}',
  };
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  const catalog = await Catalog.load(join(directory, 'events.yaml'));
  await writeFile(join(directory, 'events.d.ts'), await catalogTypes(catalog));
  const found = await errorsOf(directory);
  expect(found.filter((line) => !line.startsWith('bad.ts'))).toEqual([]);
  const lines = found.map((line) => Number(/^bad\.ts\((\d+),/.exec(line)?.[1]));
  expect(lines).toEqual(BAD.map((_, index) => index + 3));
}, 60_000);

/** A line for each error, without what explains it. */
async function errorsOf(directory: string): Promise<string[]> {
  const output = await new Promise<string>((resolve) => {
    execFile(
      process.execPath,
      [join(ROOT, 'node_modules/typescript/bin/tsc'), '--noEmit', '-p', '.', '--pretty', 'false'],
      { cwd: directory },
      (_error, stdout) => {
        resolve(stdout);
      },
    );
  });
  return output.split('\n').filter((line) => /^\w[^/]*error TS/.test(line));
}
