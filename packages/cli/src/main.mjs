/**
 * What Node is started with for the `naru` command. Prepares the process, then loads the command: its bundle, where one was built
 * of these sources, else main.ts.
 *
 * Plain JavaScript that imports nothing but Node's own: what is loaded before the cache of compiled code is on is compiled at every
 * start, and for TypeScript Node would load a compiler first, which takes longer and more memory than any of our packages.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { enableCompileCache } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { pathToFileURL } from 'node:url';
import { setFlagsFromString } from 'node:v8';

import { freshBundle } from './bundle.mjs';

/**
 * Below the user's cache directory, and made; null where it cannot be: no home, as in a container, or nothing may be written.
 * Made level by level: Node's own way of making several at once does not end on some file systems that refuse it.
 */
function cacheDirectory() {
  const given = process.env.XDG_CACHE_HOME || '';
  try {
    let directory = path.isAbsolute(given) ? given : path.join(homedir(), '.cache');
    for (const level of ['', 'naru', 'compiled']) {
      directory = path.join(directory, level);
      if (!existsSync(directory)) mkdirSync(directory);
    }
    return directory;
  } catch {
    return null;
  }
}

// While a broker starts, nearly all that it allocates is its code, which stays. For that V8 would make the room of short-lived
// objects as large as it gets, and never smaller again. `naru start` lets it grow when the broker serves.
if (process.argv[2] === 'start') setFlagsFromString('--semi-space-growth-factor=1');

// Without one everything is compiled at every start. Throws nothing.
const directory = cacheDirectory();
if (directory !== null) enableCompileCache(directory);

const bundle = freshBundle();
await (bundle === null ? import('./main.ts') : import(pathToFileURL(bundle).href));
