/** docs/settings.md lists every setting of both sides with the default that is in force, and no other. */
import { readFileSync } from 'node:fs';
import { parseByteSize, parseDuration } from '@naru/base';
import { brokerSchema } from '@naru/broker';
import { settingsSchema } from '@naru/client';
import { describe, expect, it } from 'vitest';

const document = readFileSync(new URL('../docs/settings.md', import.meta.url), 'utf8');

/** Setting → default, as the table under `heading` has it. */
function documented(heading: string): Map<string, string> {
  const section = document.split(`\n## ${heading}\n`)[1]?.split('\n## ')[0] ?? '';
  const rows = section.matchAll(/^\| `([^`]+)` \| `([^`]*)` \|/gm);
  return new Map([...rows].map((row) => [row[1] as string, row[2] as string]));
}

/** Every leaf of complete settings; back-off policies by the names that a user writes. */
function leaves(tree: object, path: readonly string[] = []): [string, unknown][] {
  return Object.entries(tree).flatMap(([key, value]: [string, unknown]) => {
    const name = key === 'initialMs' ? 'initial' : key === 'maxMs' ? 'max' : key;
    const inside = typeof value === 'object' && value !== null && !Array.isArray(value);
    return inside ? leaves(value, [...path, name]) : [[[...path, name].join('.'), value] as [string, unknown]];
  });
}

/** A default as the document writes it means `value`. */
function means(text: string, value: unknown): boolean {
  if (Array.isArray(value)) return text === `[${value.join(', ')}]`;
  if (value === Infinity) return text === 'unlimited';
  if (typeof value !== 'number') return text === String(value);
  return Number(text) === value || parseDuration(text) === value || parseByteSize(text) === value;
}

describe.each([
  ['The SDK', settingsSchema.parse({})],
  ['The broker', brokerSchema.parse({})],
])('%s', (heading, defaults) => {
  const rows = documented(heading);

  it('has every setting documented, and documents no other', () => {
    expect([...rows.keys()].sort()).toEqual(
      leaves(defaults)
        .map(([name]) => name)
        .sort(),
    );
  });

  it.each(leaves(defaults))('documents the default of %s', (name, value) => {
    expect(means(rows.get(name) ?? '', value), `${name}: documented ${rows.get(name)}, in force ${String(value)}`).toBe(
      true,
    );
  });
});
