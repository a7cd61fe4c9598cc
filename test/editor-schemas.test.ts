/**
 * schemas/*.schema.json, for editors, say what the code checks; docs/catalog.md documents the fields that there are.
 *
 * `NARU_WRITE_SCHEMAS=1 npm test -- test/editor-schemas.test.ts` writes them anew.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { brokerSchema } from '@naru/broker';
import { catalogFileSchema, settingsSchema } from '@naru/client';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

type Json = { [key: string]: unknown };

const naruFileSchema = settingsSchema.extend({
  broker: brokerSchema.optional(),
  environments: z.record(z.string(), settingsSchema.extend({ broker: brokerSchema.optional() })).optional(),
});

/** Setting or field → meaning, of the tables under a heading. */
function meanings(file: string, heading: string): Map<string, string> {
  const document = readFileSync(new URL(`../docs/${file}`, import.meta.url), 'utf8');
  const section = document.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = section.matchAll(/^\| `([^`]+)` \|.*\| ([^|]+) \|$/gm);
  return new Map(
    [...rows].map((row) => [row[1] as string, (row[2] as string).replaceAll(/\[([^\]]+)\]\([^)]+\)/g, '$1')]),
  );
}

const fields = meanings('catalog.md', 'Fields of an event');
const clientSettings = meanings('settings.md', 'The SDK');
const brokerSettings = meanings('settings.md', 'The broker');

function inner(schema: Json, path: readonly string[]): Json {
  return path.reduce<Json>((node, key) => node[key] as Json, schema);
}

/** Paths of everything that can be written, `*` for names that the user chooses. */
function described(schema: Json, of: ReadonlyMap<string, string>, path: readonly string[] = []): string[] {
  const entries = Object.entries((schema['properties'] ?? {}) as Readonly<Record<string, Json>>);
  const { additionalProperties } = schema;
  if (typeof additionalProperties === 'object' && additionalProperties !== null)
    entries.push(['*', additionalProperties as Json]);
  const own = entries.flatMap(([key, property]) => {
    const name = [...path, key].join('.');
    const meaning = of.get(name);
    if (meaning !== undefined) property['description'] = meaning;
    const below = described(property, of, [...path, key]);
    return below.length > 0 ? below : [name];
  });
  const branches = (schema['anyOf'] ?? []) as Json[];
  return [...own, ...branches.flatMap((branch) => described(branch, of, path))];
}

/** What code takes as numbers beside the usual (Infinity of complete settings) is nothing for a file. */
function withoutAnything(node: unknown): unknown {
  if (Array.isArray(node)) return node.map(withoutAnything);
  if (typeof node !== 'object' || node === null) return node;
  const entries = Object.entries(node).map(([key, value]) => {
    const isUnion = key === 'anyOf' && Array.isArray(value);
    const branches = isUnion ? value.filter((branch) => Object.keys(branch as object).length > 0) : value;
    return [key, withoutAnything(branches)] as const;
  });
  return Object.fromEntries(entries);
}

function generated(schema: z.ZodType, title: string): Json {
  const made = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any', target: 'draft-2020-12' });
  return { title, ...(withoutAnything(made) as Json) };
}

function eventsSchema(): Json {
  const schema = generated(catalogFileSchema, 'Naru event catalog (events.yaml)');
  const event = inner(schema, ['properties', 'events', 'additionalProperties']);
  described(event, fields);
  return schema;
}

function naruSchema(): Json {
  const schema = generated(naruFileSchema, 'Naru settings (naru.yaml)');
  for (const root of [schema, inner(schema, ['properties', 'environments', 'additionalProperties'])]) {
    described(root, clientSettings);
    described(inner(root, ['properties', 'broker']), brokerSettings);
  }
  return schema;
}

describe.each([
  ['events', eventsSchema],
  ['naru', naruSchema],
])('schemas/%s.schema.json', (name, make) => {
  const url = new URL(`../schemas/${name}.schema.json`, import.meta.url);

  it('is what the code says', () => {
    const text = `${JSON.stringify(make(), null, 2)}\n`;
    if (process.env['NARU_WRITE_SCHEMAS'] === '1') writeFileSync(url, text);
    expect(JSON.parse(readFileSync(url, 'utf8'))).toEqual(JSON.parse(text));
  });
});

function validator(make: () => Json): (text: string) => boolean {
  const validate = new Ajv2020({ strict: false, validateFormats: false }).compile(make());
  return (text) => validate(parse(text) ?? {});
}

it('the example of the documentation is right for an editor, and what is wrong is wrong', () => {
  const isRight = validator(eventsSchema);
  const example = /```yaml\n([\s\S]*?)```/.exec(
    readFileSync(new URL('../docs/catalog.md', import.meta.url), 'utf8'),
  )?.[1];
  expect(isRight(example ?? '')).toBe(true);
  expect(isRight('events: { a: {} }\ninclude: [b.yaml]')).toBe(true);
  expect(isRight('events: { a: { kye: /x } }')).toBe(false);
  expect(isRight('events: { a: { groups: { g: { order: 0 } } } }')).toBe(false);
  expect(isRight('events: { a: { partitions: many } }')).toBe(false);
});

it('settings are right and wrong for an editor as for the code', () => {
  const isRight = validator(naruSchema);
  expect(
    isRight('clientId: a\nbroker: { port: 1, log: { segmentBytes: 1MiB } }\nenvironments: { prod: { clientId: b } }'),
  ).toBe(true);
  expect(isRight('retention: {}')).toBe(false);
  expect(isRight('broker: { workers: 2 }')).toBe(false);
  expect(isRight('publisher: { compression: rar }')).toBe(false);
});

it('docs/catalog.md documents every field of an event, and no other', () => {
  const schema = generated(catalogFileSchema, '');
  const event = inner(schema, ['properties', 'events', 'additionalProperties']);
  const found = described(event, fields);
  const isDocumented = (name: string): boolean => fields.has(name) || /^groups\.\*\.(?:retry|deadLetter)\./.test(name);
  expect(found.filter((name) => !isDocumented(name))).toEqual([]);
  const paths = new Set(found.flatMap((name) => name.split('.').map((_, i, parts) => parts.slice(0, i + 1).join('.'))));
  expect([...fields.keys()].filter((name) => !paths.has(name))).toEqual([]);
});
