import { expect, test } from 'vitest';
import { checkTopicPattern, compileTopicPattern } from './topic-pattern.ts';

function matches(pattern: string, name: string): boolean {
  const compiled = compileTopicPattern(pattern);
  if (typeof compiled === 'string') throw new Error(compiled);
  return compiled.matches(name);
}

const NAMES = ['', 'a', 'ab', 'abc', 'orders', 'orders-eu', 'orders.v2', 'aaaa', 'a1', '42', 'A_b', '-'];

test.each([
  'orders',
  'orders.*',
  'orders-(eu|us)',
  '(?:a|ab)(?:c|)',
  '[a-c]+',
  '[^a-c]*',
  '[]a-]+',
  '\\w+\\d?',
  '\\D*',
  'a{2,4}',
  'a{4}',
  '(a|b){1,}c?',
  '^orders$|a',
  'orders\\.v[0-9]',
  '[\\w.-]+',
  '(a*)*b?',
  'a*?b*?c??',
  '[a\\-c]+',
  '',
])('%s matches what the platform’s own matcher says', (pattern) => {
  for (const name of NAMES) {
    // The class that begins with a bracket is POSIX's, which the platform writes with a backslash.
    const same = new RegExp(`^(?:${pattern.replace('[]', '[\\]')})$`);
    expect([name, matches(pattern, name)]).toEqual([name, same.test(name)]);
  }
});

test.each([
  '(?=a)',
  '(a)\\1',
  '(?<n>a)',
  'a**',
  '*a',
  '(a',
  'a)',
  '[a',
  '[b-a]',
  'a{3,2}',
  '\\',
  '\\p{L}',
  '[[:alpha:]]',
  '('.repeat(60),
  'a'.repeat(2_000),
  '((((){999}){999}){999})',
  '((a{99}){99}){99}',
])('%s is refused', (pattern) => {
  expect(checkTopicPattern(pattern)).toEqual(expect.any(String));
});

test('a pattern that makes a backtracking matcher run for years is done at once', () => {
  expect(matches('(a|a)*(a|a)*(a|a)*(a*)*b', 'a'.repeat(249))).toBe(false);
});
