import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Parser } from '@asyncapi/parser';
import { Broker } from '@naru/broker';
import { connect } from '@naru/client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { runCommandLine } from '../program.ts';
import { testTerminal } from '../test-terminal.ts';

let directory: string;
let file: string;
let broker: Broker | null;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'naru-catalog-command-'));
  file = join(directory, 'events.yaml');
  broker = null;
});

afterEach(async () => {
  await broker?.close();
  await rm(directory, { recursive: true });
});

async function catalog(...args: string[]) {
  const terminal = testTerminal();
  const exitCode = await runCommandLine(['catalog', ...args, '--file', file], terminal);
  return { exitCode, out: terminal.out(), err: terminal.err().replaceAll(`${directory}/`, '') };
}

/** A command that talks to a broker. */
async function online(...args: string[]) {
  broker ??= await Broker.start({ storage: 'memory', port: 0 });
  return catalog(...args, '--broker', broker.bootstrap);
}

const ORDER_SCHEMA = {
  type: 'object',
  required: ['orderId', 'lines'],
  properties: { orderId: { type: 'string' }, lines: { type: 'array', items: { $ref: '#/$defs/line' } } },
  $defs: { line: { type: 'object', properties: { count: { type: 'integer' } }, required: ['count'] } },
};
const PAYMENT_SCHEMA = {
  type: 'record',
  name: 'shop.Payment',
  fields: [
    { name: 'id', type: 'string' },
    { name: 'amount', type: 'long' },
    { name: 'means', type: ['null', { type: 'enum', name: 'Means', symbols: ['CARD', 'CASH'] }] },
  ],
};
const VIEW_SCHEMA = `syntax = "proto3";
package shop;
message View { string page = 1; int64 at = 2; repeated Tag tags = 3; oneof who { string user = 4; int32 guest = 5; } }
message Tag { string name = 1; }
`;

const CATALOG = `
events:
  order.placed:
    description: Somebody has ordered something.
    topic: orders
    key: /orderId
    schema: order.json
    partitions: 3
    retention: { time: 7d }
    groups: { payment: {}, shipping: { order: 2 } }
  payment.made: { key: /id, format: avro, schema: payment.avsc, registry: true, partitions: 2 }
  page.viewed: { type: parallel, format: protobuf, schema: view.proto, partitions: 1 }
  page.title: { format: string, partitions: 1 }
`;

async function files(text: string = CATALOG): Promise<void> {
  await writeFile(join(directory, 'order.json'), JSON.stringify(ORDER_SCHEMA));
  await writeFile(join(directory, 'payment.avsc'), JSON.stringify(PAYMENT_SCHEMA));
  await writeFile(join(directory, 'view.proto'), VIEW_SCHEMA);
  await writeFile(file, text);
}

it('check reads the catalog with its schemas and environments, without a broker', async () => {
  await files();
  expect(await catalog('check')).toEqual({ exitCode: 0, out: '', err: 'events.yaml is right: 4 events in 4 topics\n' });
  await files(`${CATALOG}environments:\n  prod: { events: { order.placed: { partitons: 12 } } }\n`);
  const { exitCode, err } = await catalog('check');
  expect(exitCode).toBe(1);
  expect(err).toMatch(
    /events\.yaml:\d+:37: unknown field "events\.order\.placed\.partitons"; did you mean "partitions"\?/,
  );
});

it.each([
  [
    'settings: { segmnt.bytes: 1MiB }',
    /^error: events\.yaml:3:3: topic orders: there is no setting "segmnt\.bytes"; there are /,
  ],
  ['settings: { delivery.limit: 0 }', /topic orders: delivery\.limit: expected a whole number from 1 to 1000, got "0"/],
  [
    'settings: { min.compaction.lag.ms: 2h, max.compaction.lag.ms: 1h }',
    /topic orders: max\.compaction\.lag\.ms \(3600000\) is below/,
  ],
])('check and apply refuse what no topic can have: %s', async (field, message) => {
  await files(CATALOG.replace('partitions: 3\n', `partitions: 3\n    ${field}\n`));
  const checked = await catalog('check');
  expect(checked).toMatchObject({ exitCode: 1, err: expect.stringMatching(message) });
  expect(await online('apply')).toEqual(checked);
  await using naru = await connect({ brokers: [(broker as Broker).bootstrap] });
  expect(await naru.admin.listTopics()).toEqual([]);
});

describe('apply', () => {
  it('makes topics, groups and schemas; a second time there is nothing to do, and drift finds nothing', async () => {
    await files();
    expect((await online('drift')).exitCode).toBe(1);
    const first = await online('apply');
    expect(first.exitCode).toBe(0);
    expect(first.err).toContain('topic orders: create: ordered, 3 partitions');
    expect(first.err).toContain('schema payment.made-value: register that of payment.made');
    expect(await online('apply')).toEqual({ exitCode: 0, out: '', err: 'nothing to do\n' });
    expect(await online('drift')).toEqual({ exitCode: 0, out: '', err: 'the broker is as the catalog says\n' });
    await using naru = await connect({ brokers: [(broker as Broker).bootstrap] });
    expect(await naru.admin.describeTopic('orders')).toMatchObject({
      partitions: 3,
      config: { 'retention.ms': '604800000', groups: 'payment,shipping:order=2' },
    });
    expect(await naru.admin.describeTopic('page.viewed')).toMatchObject({ type: 'parallel' });
  });

  it('takes back what was set by hand, and says so before', async () => {
    await files();
    await online('apply');
    await using naru = await connect({ brokers: [(broker as Broker).bootstrap] });
    await naru.admin.changeTopicConfig('orders', { set: { 'segment.ms': '1d', groups: 'shipping' } });
    const { out, exitCode } = await online('drift', '-o', 'json');
    expect(exitCode).toBe(1);
    expect((JSON.parse(out) as { what: string }[]).map(({ what }) => what)).toEqual([
      'groups shipping → payment,shipping:order=2',
      'segment.ms 86400000 → (default)',
    ]);
    expect((await online('apply')).err).toContain('made 2 changes');
    expect((await online('drift')).exitCode).toBe(0);
  });

  it('refuses what would lose data or order, does nothing then, and does it when asked by name', async () => {
    await files();
    await online('apply');
    await files(CATALOG.replace('partitions: 3', 'partitions: 6').replace('7d', '1d'));
    const { exitCode, err } = await online('apply');
    expect(exitCode).toBe(1);
    expect(err).toContain(
      'partitions 3 → 6: keys move, so that order between old and new events is lost: --allow-key-reorder orders',
    );
    expect(err).toContain('retention.ms 604800000 → 86400000: events go earlier: --allow-delete-data orders');
    await using naru = await connect({ brokers: [(broker as Broker).bootstrap] });
    expect(await naru.admin.describeTopic('orders')).toMatchObject({
      partitions: 3,
      config: { 'retention.ms': '604800000' },
    });
    expect((await online('apply', '--allow-key-reorder', 'orders')).exitCode).toBe(1);
    expect((await online('apply', '--allow-key-reorder', 'order')).err).toContain('the catalog has no topic "order"');
    const asked = await online('apply', '--allow-key-reorder', 'orders', '--allow-delete-data', 'orders');
    expect(asked).toMatchObject({ exitCode: 0 });
    expect(await naru.admin.describeTopic('orders')).toMatchObject({
      partitions: 6,
      config: { 'retention.ms': '86400000' },
    });
  });

  it.each([
    ['fewer partitions', 'partitions: 3', 'partitions: 1', 'partitions 3 → 1: a topic keeps its partitions'],
    ['another type', 'topic: orders', 'topic: page.viewed', /type: is|events of one topic/],
    [
      'a policy that deletes',
      'retention: { time: 7d }',
      'retention: { policy: [delete, compact] }',
      'policy compact deletes events that are kept now',
    ],
    [
      'no limit of its own any more',
      '    retention: { time: 7d }\n',
      '',
      'retention.ms 604800000 → (default): events go earlier',
    ],
  ])('refuses %s', async (_name, from, to, message) => {
    await files();
    await online('apply');
    await files(CATALOG.replace(from, to).replace('partitions: 3\n    retention', 'partitions: 3\n    retention'));
    const { exitCode, err } = await online('apply');
    expect(exitCode).toBe(1);
    if (typeof message === 'string') expect(err).toContain(message);
    else expect(err).toMatch(message);
  });

  it('refuses a type that the topic does not have', async () => {
    await files();
    await online('apply');
    await files(CATALOG.replace('type: parallel', 'type: ordered'));
    expect((await online('apply')).err).toContain('type parallel → ordered: a topic keeps its type');
  });

  it('refuses a schema that is not compatible, with what the registry says', async () => {
    await files();
    await online('apply');
    const next = { ...PAYMENT_SCHEMA, fields: [...PAYMENT_SCHEMA.fields, { name: 'more', type: 'string' }] };
    await writeFile(join(directory, 'payment.avsc'), JSON.stringify(next));
    const { exitCode, err } = await online('apply');
    expect(exitCode).toBe(1);
    expect(err).toContain('schema payment.made-value: register that of payment.made: not compatible: ');
  });
});

it('types writes what the compiler checks', async () => {
  await files();
  const out = join(directory, 'events.d.ts');
  expect(await catalog('types', '--out', out)).toMatchObject({ exitCode: 0, err: 'wrote events.d.ts\n' });
  const text = await readFile(out, 'utf8');
  expect(text).toContain('"order.placed": OrderPlaced.Value;');
  expect(text).toContain('amount: bigint;');
  expect(text).toContain('"page.title": string;');
});

it('asyncapi writes a document that the official parser takes', async () => {
  await files();
  const { exitCode, out } = await catalog('asyncapi');
  expect(exitCode).toBe(0);
  const { document, diagnostics } = await new Parser().parse(out);
  const isError = ({ severity }: { readonly severity: number }): boolean => severity === 0;
  expect(diagnostics.filter(isError).map(({ message, path }) => `${path.join('.')}: ${message}`)).toEqual([]);
  expect(
    document
      ?.channels()
      .all()
      .map((channel) => channel.address()),
  ).toEqual(['orders', 'payment.made', 'page.viewed', 'page.title']);
  const placed = document
    ?.messages()
    .all()
    .find((message) => message.name() === 'order.placed');
  expect(placed?.payload()?.properties()?.['lines']?.items()).toMatchObject({});
  expect(
    document
      ?.operations()
      .all()
      .map((operation) => operation.id()),
  ).toContain('shipping.orders');
}, 30_000);
