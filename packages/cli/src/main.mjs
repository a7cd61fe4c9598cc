/**
 * What Node is started with for the `naru` command. Prepares the process, then loads the command: its bundle, where one was built
 * of these sources, else main.ts.
 *
 * Plain JavaScript that imports nothing but Node's own: what is loaded before code that was kept is compiled at every start, and for
 * TypeScript Node would load a compiler first, which takes longer and more memory than any of our packages.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { enableCompileCache, flushCompileCache } from 'node:module';
import { homedir } from 'node:os';
import path from 'node:path';
import process from 'node:process';

import { freshBundle } from './bundle.mjs';
import { KeptCode } from './kept-code.mjs';

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

// Without one everything is compiled at every start.
const directory = cacheDirectory();
const bundle = freshBundle();
if (bundle === null) {
  // Throws nothing.
  if (directory !== null) enableCompileCache(directory);
  const { main } = await import('./main.ts');
  await main(flushCompileCache);
} else {
  const code = new KeptCode(directory, process.argv[2] === 'start' ? 'start' : 'command');
  await code.load(bundle).main(() => code.keep());
}
