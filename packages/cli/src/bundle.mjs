/**
 * The command in a few CommonJS files, packages/cli/dist: what `npm run build` makes of the sources, so that Node has not to find and
 * read hundreds of them at every start, and what V8 compiles of them can be kept (kept-code.mjs).
 *
 * Plain JavaScript that imports nothing but Node's own: it runs before anything else of the command does.
 *
 * Invariant: a bundle counts only while the sources and the dependencies are those that it was made of.
 */
import { readFileSync, readdirSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const cli = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
const repository = path.dirname(path.dirname(cli));

export const bundleDirectory = path.join(cli, 'dist');
/** Has the {@link sourceStamp} of what the bundle was made of, and the name of its main file. */
export const STAMP = 'made-of.txt';
/** What a bundle has in it. */
const BUNDLED = ['base', 'protocol', 'client', 'broker', 'cli'];

/**
 * Number, sizes and times of all files that a bundle is made of, in text that is another one after an edit, a checkout or an update.
 * Not their content, which would take longer than is gained. Times count in seconds, since that is what archives and images keep.
 */
export function sourceStamp(root = repository) {
  let [files, bytes, seconds] = [0, 0, 0];
  const add = (file) => {
    const { size, mtimeMs } = statSync(file);
    files += 1;
    bytes += size;
    seconds += Math.floor(mtimeMs / 1000);
  };
  // By itself: Node asks the system once more for each entry when it walks.
  const walk = (directory) => {
    for (const entry of readdirSync(directory, { withFileTypes: true })) {
      const file = `${directory}/${entry.name}`;
      if (entry.isDirectory()) walk(file);
      else if (/\.(?:ts|mjs|json)$/.test(file) && !file.endsWith('.test.ts')) add(file);
    }
  };
  for (const name of BUNDLED) walk(path.join(root, 'packages', name, 'src'));
  add(path.join(root, 'package-lock.json'));
  return `${files} files, ${bytes} bytes, ${seconds} s`;
}

/** The bundle's main file; null when there is none, or it was made of something else. Throws nothing. */
export function freshBundle() {
  try {
    const [madeOf, main] = readFileSync(path.join(bundleDirectory, STAMP), 'utf8').split('\n');
    return madeOf === sourceStamp() ? path.join(bundleDirectory, main) : null;
  } catch {
    return null;
  }
}
