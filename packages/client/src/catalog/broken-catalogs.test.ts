/** Catalogs that are wrong, each with the message that it gives: `$` stands for the folder. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { Catalog } from './catalog.ts';

type Files = Readonly<Record<string, string>>;

async function problemsOf(files: Files, environment: string | null): Promise<string[]> {
  const directory = await mkdtemp(join(tmpdir(), 'naru-broken-'));
  onTestFinished(() => rm(directory, { recursive: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(directory, name), text);
  try {
    const catalog = await Catalog.load(join(directory, 'e.yaml'), { environment });
    await catalog.check();
  } catch (error) {
    expect(error).toMatchObject({ name: 'NaruError', code: 'INVALID_CONFIGURATION' });
    return (error as Error).message.replaceAll(`${directory}/`, '').split('\n');
  }
  throw new Error('this catalog was accepted');
}

/** One event `a` in one file, on lines of their own. */
const one = (...fields: string[]): Files => ({
  'e.yaml': ['events:', '  a:', ...fields.map((field) => `    ${field}`)].join('\n'),
});
const two = (a: string, b: string): Files => ({
  'e.yaml': `events:\n  a: { topic: t, ${a} }\n  b: { topic: t, ${b} }\n`,
});
const chain = Object.fromEntries(
  Array.from({ length: 10 }, (_, i) => [i === 0 ? 'e.yaml' : `f${i}.yaml`, `include: [f${i + 1}.yaml]`]),
);
const many = Array.from({ length: 1_001 }, (_, i) => `  e${i}: {}`).join('\n');
const groups = (count: number, from = 0): string =>
  `groups: { ${Array.from({ length: count }, (_, i) => `g${i + from}: {}`).join(', ')} }`;

const BROKEN: readonly (readonly [name: string, files: Files, ...problems: (string | RegExp)[]])[] = [
  // Files
  ['no such file', {}, /^cannot read the catalog .*e\.yaml: no such file$/],
  ['no YAML', { 'e.yaml': 'events: {\n  a: [1, 2\n' }, /^e\.yaml:\d+:\d+: .*flow/i],
  ['a key that is there twice', { 'e.yaml': 'events:\n  a: {}\n  a: {}\n' }, 'e.yaml:3:3: Map keys must be unique'],
  ['a list', { 'e.yaml': '- a' }, 'e.yaml:1:1: expected settings, such as "key: value"'],
  [
    'nested too deeply',
    { 'e.yaml': `events: ${'{a: '.repeat(60)}1${'}'.repeat(60)}` },
    'e.yaml:1:1: nested deeper than 50',
  ],
  ['too large', { 'e.yaml': `# ${'x'.repeat(1024 * 1024)}` }, 'e.yaml is larger than 1048576 bytes'],
  [
    'an event called __proto__',
    { 'e.yaml': 'events:\n  __proto__: {}' },
    'e.yaml:2:3: the name "__proto__" is not allowed',
  ],
  ['a misspelt section', { 'e.yaml': 'evnts: {}' }, 'e.yaml:1:1: unknown field "evnts"; did you mean "events"?'],
  [
    'events as a list',
    { 'e.yaml': 'events: [a]' },
    'e.yaml:1:9: events: expected names of events, such as order.placed',
  ],
  ['include of text', { 'e.yaml': 'include: more.yaml' }, 'e.yaml:1:10: include: expected a list of files'],
  ['include of a number', { 'e.yaml': 'include: [7]' }, 'e.yaml:1:11: include.0: expected the name of a file'],
  [
    'a missing included file',
    { 'e.yaml': 'include:\n  - more.yaml' },
    'e.yaml:2:5: include.0: cannot read the catalog more.yaml: no such file',
  ],
  [
    'files that include each other',
    { 'e.yaml': 'include: [b.yaml]', 'b.yaml': 'include: [e.yaml]' },
    'b.yaml:1:11: include.0: files include each other: e.yaml → b.yaml → e.yaml',
  ],
  [
    'a file included twice',
    { 'e.yaml': 'include: [b.yaml, b.yaml]', 'b.yaml': '' },
    'e.yaml:1:19: include.1: b.yaml is included already',
  ],
  ['includes too deep', chain, 'f8.yaml:1:11: include.0: files are included more than 8 deep'],
  [
    'an event in two files',
    { 'e.yaml': 'events: { a: {} }\ninclude: [b.yaml]', 'b.yaml': 'events: { a: {} }' },
    'b.yaml:1:11: events.a: is at e.yaml:1:11 already',
  ],
  [
    'environments of an included file',
    { 'e.yaml': 'include: [b.yaml]', 'b.yaml': 'environments: {}' },
    'b.yaml:1:1: unknown field "environments"; environments stand in the first file',
  ],
  [
    'an error in an included file',
    { 'e.yaml': 'include: [b.yaml]', 'b.yaml': 'events:\n  a:\n    kye: /id' },
    'b.yaml:3:5: unknown field "events.a.kye"; did you mean "key"?',
  ],
  [
    'an environment with another section',
    { 'e.yaml': 'environments:\n  prod:\n    event: {}' },
    'e.yaml:3:5: unknown field "environments.prod.event"; did you mean "events"?',
  ],
  [
    'an environment with a wrong value',
    { 'e.yaml': 'events: { a: { partitions: 3 } }\nenvironments:\n  prod: { events: { a: { partitions: 0 } } }' },
    'e.yaml:3:38: events.a.partitions: Too small: expected number to be >=1',
  ],
  [
    'an environment that is not there',
    { 'e.yaml': 'environments: { production: {} }' },
    'e.yaml:1:15: no environment "prod"; there are production',
  ],
  ['too many events', { 'e.yaml': `events:\n${many}` }, 'e.yaml:2:3: events: expected at most 1000 events'],
  // Fields
  ['a misspelt field', one('topik: t'), 'e.yaml:3:5: unknown field "events.a.topik"; did you mean "topic"?'],
  [
    'a field of the wrong case',
    one('deadletter: {}'),
    'e.yaml:3:5: unknown field "events.a.deadletter"; did you mean "deadLetter"?',
  ],
  ['a field of nothing', one('xylophone: 1'), 'e.yaml:3:5: unknown field "events.a.xylophone"'],
  [
    'a misspelt field of a group',
    one('groups:', '  g: { concurency: 3 }'),
    'e.yaml:4:12: unknown field "events.a.groups.g.concurency"; did you mean "concurrency"?',
  ],
  [
    'a misspelt field of a wait',
    one('retry: { backoff: { intial: 1s } }'),
    'e.yaml:3:25: unknown field "events.a.retry.backoff.intial"; did you mean "initial"?',
  ],
  [
    'an event that is text',
    { 'e.yaml': 'events: { a: orders }' },
    'e.yaml:1:14: events.a: Invalid input: expected object, received string',
  ],
  [
    'a name with a space',
    { 'e.yaml': 'events: { "a b": { topic: t } }' },
    /e\.yaml:1:19: events\.a b: .*an event's name has up to 249 .*got "a b"|e\.yaml.*Invalid key/,
  ],
  [
    'a name that is no topic',
    { 'e.yaml': 'events: { shop/order: {} }' },
    `e.yaml:1:23: events.shop/order: the event's name is no topic's: topic name "shop/order" has other characters than a-z, A-Z, 0-9, '.', '_' and '-'; say which with "topic"`,
  ],
  [
    'a topic with a space',
    one('topic: my orders'),
    `e.yaml:3:12: events.a.topic: topic name "my orders" has other characters than a-z, A-Z, 0-9, '.', '_' and '-'`,
  ],
  [
    'a topic of the broker',
    one('topic: __groups'),
    'e.yaml:3:12: events.a.topic: topics that begin with "__" are the broker\'s own',
  ],
  [
    'an unknown type',
    one('type: orderd'),
    'e.yaml:3:11: events.a.type: Invalid option: expected one of "ordered"|"parallel"; did you mean "ordered"?',
  ],
  [
    'an unknown format',
    one('format: protobuff'),
    /^e\.yaml:3:13: events\.a\.format: Invalid option: .*; did you mean "protobuf"\?$/,
  ],
  [
    'a key that is no pointer',
    one('key: orderId'),
    'e.yaml:3:10: events.a.key: expected a JSON pointer such as /orderId, got "orderId"; it begins with "/"',
  ],
  [
    'a pointer with a bad escape',
    one('key: /a~2b'),
    'e.yaml:3:10: events.a.key: expected a JSON pointer, got "/a~2b"; "~" is written ~0, and "/" in a name ~1',
  ],
  [
    'a pointer through a prototype',
    one('key: /__proto__/x'),
    'e.yaml:3:10: events.a.key: a pointer must not lead through "__proto__"',
  ],
  [
    'partitions as text',
    one('partitions: many'),
    'e.yaml:3:17: events.a.partitions: Invalid input: expected number, received string',
  ],
  [
    'a time without a unit that is one',
    one('retention: { time: 7 days }'),
    /^e\.yaml:3:24: events\.a\.retention\.time: expected a number with a unit .*got "7 days"$/,
  ],
  [
    'a size without a unit that is one',
    one('retention: { size: 10 gigs }'),
    /^e\.yaml:3:24: events\.a\.retention\.size: expected a number with a unit .*got "10 gigs"$/,
  ],
  [
    'a time of nothing',
    one('retention: { time: 0s }'),
    'e.yaml:3:24: events.a.retention.time: expected 1 or more, got 0s',
  ],
  [
    'an unknown policy',
    one('retention: { policy: keep }'),
    'e.yaml:3:26: events.a.retention.policy: expected delete, compact, acknowledged, or a list of them',
  ],
  [
    'a policy twice',
    one('key: /id', 'retention: { policy: [compact, compact] }'),
    'e.yaml:4:26: events.a.retention.policy: one policy is there twice',
  ],
  [
    'compact without a key',
    one('retention: { policy: compact }'),
    'e.yaml:3:26: events.a.retention.policy: compact keeps the newest event of each key, and this event has no "key"',
  ],
  [
    'acknowledged without groups',
    one('retention: { policy: acknowledged }'),
    'e.yaml:3:26: events.a.retention.policy: topic a: acknowledged needs groups: without one nothing would ever be finished',
  ],
  [
    'attempts of none',
    one('retry: { attempts: 0 }'),
    'e.yaml:3:24: events.a.retry.attempts: Too small: expected number to be >=1',
  ],
  [
    'too much jitter',
    one('retry: { backoff: { jitter: 2 } }'),
    'e.yaml:3:33: events.a.retry.backoff.jitter: Too big: expected number to be <=1',
  ],
  [
    'a setting that is a field',
    one('settings: { retention.ms: 5 }'),
    'e.yaml:3:31: events.a.settings.retention.ms: is what the field retention.time says',
  ],
  // Groups
  [
    'an order of nothing',
    one('groups: { g: { order: 0 } }'),
    'e.yaml:3:27: events.a.groups.g.order: Too small: expected number to be >=1',
  ],
  [
    'nobody before the second',
    one('groups: { g: { order: 2 } }'),
    'e.yaml:3:27: events.a.groups.g.order: g has order 2, but topic a has no group before it',
  ],
  [
    'order in a parallel topic',
    one('type: parallel', 'groups: { f: {}, g: { order: 2 } }'),
    'e.yaml:4:34: events.a.groups.g.order: g has order 2, and a parallel topic has no order to wait in',
  ],
  [
    'parking in a parallel topic',
    one('type: parallel', 'deadLetter: { afterDeadLetter: park }', 'groups: { g: {} }'),
    'e.yaml:5:18: events.a.groups.g.deadLetter: g is to park keys, and a parallel topic keeps none in order',
  ],
  [
    'releasing what nobody withholds',
    one('groups: { g: { onDeadLetter: release } }'),
    'e.yaml:3:34: events.a.groups.g.onDeadLetter: g is of the first order: it waits for nobody who could release anything',
  ],
  [
    'a name with a separator',
    one('groups: { "g:1": {} }'),
    'e.yaml:3:22: events.a.groups.g:1: a group that is declared for a topic has no ":", "," or "=" in its name',
  ],
  [
    'an unknown guarantee',
    one('groups: { g: { guarantee: exactly-one } }'),
    /^e\.yaml:3:31: events\.a\.groups\.g\.guarantee: Invalid option: .*; did you mean "exactly-once"\?$/,
  ],
  [
    'retry at most once',
    one('groups: { g: { guarantee: at-most-once, retry: {} } }'),
    'e.yaml:3:52: events.a.groups.g.retry: with guarantee at-most-once nothing is tried again',
  ],
  ['too many groups of an event', one(groups(101)), 'e.yaml:3:13: events.a.groups: expected at most 100 groups'],
  [
    'too many groups of a topic',
    two(groups(60), groups(60, 60)),
    /^e\.yaml:2:\d+: events\.a\.groups: topic t has 120 groups; at most 100 can be declared$/,
  ],
  // Events of one topic or group
  [
    'different types',
    two('type: ordered', 'type: parallel'),
    'e.yaml:3:24: events.b.type: is "parallel", but "ordered" at e.yaml:2:24: events of one topic (t) have to agree',
  ],
  [
    'different partitions',
    two('partitions: 3', 'partitions: 6'),
    'e.yaml:3:30: events.b.partitions: is 6, but 3 at e.yaml:2:30: events of one topic (t) have to agree',
  ],
  [
    'different retention',
    two('retention: { time: 1d }', 'retention: { time: 2d }'),
    'e.yaml:3:37: events.b.retention.time: is 172800000, but 86400000 at e.yaml:2:37: events of one topic (t) have to agree',
  ],
  [
    'different order',
    two('groups: { g: { order: 1 } }', 'groups: { g: { order: 2 }, f: {} }'),
    /^e\.yaml:3:40: events\.b\.groups\.g\.order: is 2, but 1 at e\.yaml:2:40: /,
  ],
  [
    'different parking',
    two(
      'groups: { g: {} }, deadLetter: { afterDeadLetter: park }',
      'groups: { g: {} }, deadLetter: { afterDeadLetter: continue }',
    ),
    /^e\.yaml:3:31: events\.b\.groups\.g\.deadLetter: is "continue", but "park" at e\.yaml:2:31: /,
  ],
  [
    'different concurrency of a group',
    { 'e.yaml': 'events:\n  a: { groups: { g: { concurrency: 1 } } }\n  b: { groups: { g: { concurrency: 2 } } }' },
    'e.yaml:3:36: events.b.groups.g.concurrency: is 2, but 1 at e.yaml:2:36: a group has one concurrency for all of its events',
  ],
  // Schemas
  ['Avro without a schema', one('format: avro'), 'e.yaml:3:13: events.a.format: avro needs a "schema"'],
  [
    'a schema for text',
    one('format: string', 'schema: s.json'),
    'e.yaml:4:13: events.a.schema: format string has no schema',
  ],
  [
    'a key in bytes',
    one('format: bytes', 'key: /id'),
    'e.yaml:4:10: events.a.key: a value of format bytes has nothing that a pointer could point to',
  ],
  [
    'a message of JSON',
    one('message: M'),
    'e.yaml:3:14: events.a.message: only format protobuf has messages, not json',
  ],
  [
    'a part of an Avro schema',
    one('format: avro', 'schema: s.avsc#/x'),
    'e.yaml:4:13: events.a.schema: only a JSON Schema has parts: "#" in s.avsc#/x',
  ],
  [
    'references without a schema',
    one('references: { x: x.json }'),
    'e.yaml:3:17: events.a.references: there is no "schema" that could refer to them',
  ],
  [
    'a registry without a schema',
    one('registry: true'),
    'e.yaml:3:15: events.a.registry: there is no "schema" to register',
  ],
  [
    'a subject without a registry',
    one('schema: s.json', 'subject: a'),
    'e.yaml:4:14: events.a.subject: only events with "registry: true" have a subject',
  ],
  [
    'a missing schema',
    one('schema: s.json'),
    'e.yaml:3:13: events.a.schema: cannot read the schema s.json: no such file',
  ],
  [
    'a schema that is no JSON',
    { ...one('schema: s.json'), 's.json': '{' },
    /^e\.yaml:3:13: events\.a\.schema: schema: not JSON: /,
  ],
  [
    'a broken JSON Schema',
    { ...one('schema: s.json'), 's.json': '{"properties":{"n":{"type":"nubmer"}}}' },
    /^e\.yaml:3:13: events\.a\.schema: \/properties\/n\/type: schema: .*"number"/,
  ],
  [
    'a missing part',
    { ...one('schema: s.json#/definitions/c'), 's.json': '{"definitions":{"b":{}}}' },
    'e.yaml:3:13: events.a.schema: s.json has nothing at "/definitions/c"; there is b',
  ],
  [
    'a missing reference',
    { ...one('schema: s.json', 'references: { r: r.json }'), 's.json': '{}' },
    'e.yaml:3:13: events.a.schema: cannot read the schema r.json: no such file',
  ],
  [
    'a broken Avro schema',
    {
      ...one('format: avro', 'schema: s.avsc'),
      's.avsc': '{"type":"record","name":"R","fields":[{"name":"x","type":"strnig"}]}',
    },
    /^e\.yaml:4:13: events\.a\.schema: .*strnig/,
  ],
  [
    'a broken Protobuf schema',
    { ...one('format: protobuf', 'schema: s.proto'), 's.proto': 'syntax = "proto3"; message M { strin id = 1; }' },
    /^e\.yaml:4:13: events\.a\.schema: .*strin/,
  ],
  [
    'a missing message',
    {
      ...one('format: protobuf', 'schema: s.proto', 'message: N'),
      's.proto': 'syntax = "proto3"; message M { string id = 1; }',
    },
    'e.yaml:4:13: events.a.schema: schema: has no message N; it has M',
  ],
];

describe.each(BROKEN.map(([name, files, ...expected]) => ({ name, files, expected })))('$name', (broken) => {
  const { name, files, expected } = broken;
  it('is refused with where and why', async () => {
    const problems = await problemsOf(files, /environment /.test(name) ? 'prod' : null);
    expect(problems).toEqual(expected.map((line) => (typeof line === 'string' ? line : expect.stringMatching(line))));
  });
});

it('all problems of a catalog are told at once', async () => {
  const files = { 'e.yaml': 'events:\n  a: { kye: /x, type: odd }\n  b: { partitions: -1 }\n' };
  expect(await problemsOf(files, null)).toHaveLength(3);
});
