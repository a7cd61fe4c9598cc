import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { withPortablePaths } from './portable-paths.ts';

it('names no place of this machine', () => {
  const own = join(import.meta.dirname, '../../data');
  const text = `java -cp ${join(homedir(), '.cache/tools/*')} --config ${own} --log ${join(tmpdir(), 'log')} --user /var/empty`;
  expect(withPortablePaths(text)).toBe(
    'java -cp ~/.cache/tools/* --config <naru>/bench/data --log <temporary>/log --user /var/empty',
  );
});
