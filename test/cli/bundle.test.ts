import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, it } from 'vitest';
import { naru, NaruProcess } from './naru-process.ts';

const root = resolve(import.meta.dirname, '../..');
// In the package, so that what is not in a bundle is found from there.
const directory = mkdtempSync(join(root, 'packages/cli/dist-test-'));
const scratch = mkdtempSync(join(tmpdir(), 'naru-bundle-'));
afterAll(() => {
  for (const path of [directory, scratch]) rmSync(path, { recursive: true, force: true });
});

interface Kept {
  load(file: string): Record<string, unknown>;
  keep(): void;
}

const keptCode = pathToFileURL(join(root, 'packages/cli/src/kept-code.mjs')).href;
const { KeptCode } = (await import(keptCode)) as { KeptCode: new (directory: string | null, kind: string) => Kept };
const { sourceStamp } = (await import(pathToFileURL(join(root, 'packages/cli/src/bundle.mjs')).href)) as {
  sourceStamp: (root?: string) => string;
};

it('npm run build makes a command that does the same', async () => {
  execFileSync(process.execPath, [join(root, 'scripts/build.mjs'), directory]);
  const [, mainFile = ''] = readFileSync(join(directory, 'made-of.txt'), 'utf8').split('\n');
  const main = join(directory, 'run.mjs');
  const paths = [scratch, join(directory, mainFile)].map((path) => JSON.stringify(path));
  writeFileSync(
    main,
    `import { KeptCode } from '${keptCode}';
    const code = new KeptCode(${paths[0]}, process.argv[2]);
    await code.load(${paths[1]}).main(() => code.keep());`,
  );
  await using broker = new NaruProcess(
    ['start', '--port', '0', '--data', join(scratch, 'data'), '-o', 'json'],
    {},
    main,
  );
  const { port } = JSON.parse((await broker.outLines(1))[0] ?? '') as { port: number };
  const address = ['--broker', `127.0.0.1:${port}`];
  const created = await naru(['topic', 'create', 'orders', ...address], '', {}, main);
  expect(created.exitCode).toBe(0);
  const published = await naru(['publish', 'orders', '--value', '{"n":1}', ...address], '', {}, main);
  expect(published.exitCode).toBe(0);
  const { out } = await naru(['consume', 'orders', '--from', 'beginning', '--max', '1', ...address], '', {}, main);
  expect(JSON.parse(out)).toMatchObject({ topic: 'orders', value: { n: 1 } });
  // By what was kept.
  const again = await naru(['consume', 'orders', '--from', 'beginning', '--max', '1', ...address], '', {}, main);
  expect(again.out).toBe(out);
  // What is loaded late.
  const metrics = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  expect(metrics).toContain('naru_');
});

it('code that was kept is taken; broken code is not', () => {
  const file = join(directory, 'some-abc.cjs');
  writeFileSync(file, `exports.path = require('node:path'); exports.other = require('./other-abc.cjs').other;`);
  writeFileSync(join(directory, 'other-abc.cjs'), `exports.other = () => __filename;`);
  const kept = mkdtempSync(join(scratch, 'kept-'));
  const run = (where: string | null) => {
    const code = new KeptCode(where, 'test');
    const { path, other } = code.load(file) as { path: unknown; other: () => string };
    expect([typeof path, other()]).toEqual(['object', join(directory, 'other-abc.cjs')]);
    code.keep();
  };
  run(null);
  run(kept);
  const [version = ''] = readdirSync(kept);
  const names = readdirSync(join(kept, version));
  expect(names.toSorted()).toEqual(['other-abc.cjs', 'some-abc.cjs']);
  const [of = ''] = names.map((name) => join(kept, version, name));
  const code = readFileSync(of);
  for (const broken of [
    code.subarray(0, 100),
    Buffer.alloc(0),
    Buffer.concat([code.subarray(0, -4), Buffer.alloc(4)]),
  ]) {
    writeFileSync(of, broken);
    run(kept);
    expect(readFileSync(of).length).toBeGreaterThan(100);
  }
});

it('a bundle is stale as soon as one file of the sources is another', () => {
  const copy = join(scratch, 'copy');
  for (const name of ['base', 'protocol', 'client', 'broker', 'cli'])
    mkdirSync(join(copy, 'packages', name, 'src'), { recursive: true });
  cpSync(join(root, 'package-lock.json'), join(copy, 'package-lock.json'));
  const file = join(copy, 'packages/broker/src/some.ts');
  writeFileSync(file, 'export const one = 1;\n');
  utimesSync(file, 1_000, 1_000);
  const stamp = sourceStamp(copy);
  expect(sourceStamp(copy)).toBe(stamp);

  writeFileSync(file, 'export const one = 2;\n');
  expect(sourceStamp(copy)).not.toBe(stamp);
  utimesSync(file, 1_000, 1_000);
  expect(sourceStamp(copy)).toBe(stamp);
  writeFileSync(join(copy, 'packages/cli/src/more.ts'), '');
  expect(sourceStamp(copy)).not.toBe(stamp);
});
