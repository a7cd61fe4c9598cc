/**
 * `npm run build [-- DIRECTORY]`: bundles the naru command into packages/cli/dist, from which `naru` then starts in half the time.
 *
 * Optional: without a bundle, or with one that is not of these sources, the sources run. What a running broker has not loaded yet
 * stays where it is, for a day: names of files have a hash of what is in them.
 */
import { readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { rolldown } from 'rolldown';

import { STAMP, bundleDirectory, sourceStamp } from '../packages/cli/src/bundle.mjs';

const main = path.join(path.dirname(bundleDirectory), 'src', 'main.ts');
/** They choose a native library when they are loaded, by where they are. */
const NATIVE = ['@node-rs/crc32'];
const KEPT_MS = 86_400_000;

const directory = path.resolve(process.argv[2] ?? bundleDirectory);
const stampPath = path.join(directory, STAMP);
// Taken before the sources are read: what is changed meanwhile makes this a stale one.
const stamp = sourceStamp();
rmSync(stampPath, { force: true });
const bundle = await rolldown({ input: main, platform: 'node', external: NATIVE, logLevel: 'silent' });
const { output } = await bundle.write({
  dir: directory,
  format: 'cjs',
  entryFileNames: '[name]-[hash].cjs',
  chunkFileNames: '[name]-[hash].cjs',
  // Licenses stay; everything else would be read at every start.
  comments: { legal: true, annotation: false, jsdoc: false },
});
await bundle.close();
const files = new Set(output.map(({ fileName }) => fileName));
for (const name of readdirSync(directory)) {
  const file = path.join(directory, name);
  if (!files.has(name) && statSync(file).mtimeMs < Date.now() - KEPT_MS) rmSync(file);
}
const { fileName: mainFile } = output.find(({ isEntry }) => isEntry);
writeFileSync(stampPath, `${stamp}\n${mainFile}\n`);
console.log(`${files.size} files in ${path.relative(process.cwd(), directory)}`);
