/** Sees a broker's log files come and go, so that a kill can hit just that. */
import { watch } from 'node:fs';
import type { FSWatcher } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Conditions } from './condition.ts';

export class FileEvents implements Disposable {
  readonly #watchers: FSWatcher[] = [];
  #checkpoints = 0;
  #segments = 0;

  /** @param dataDirectory of a broker that has its topics already */
  static async watch(dataDirectory: string, conditions: Conditions): Promise<FileEvents> {
    const events = new FileEvents();
    const add = (directory: string, appeared: (name: string) => void): void => {
      const watcher = watch(directory, (event, name) => {
        if (event !== 'rename' || name === null) return;
        appeared(name);
        conditions.changed();
      });
      events.#watchers.push(watcher);
    };
    add(join(dataDirectory, 'checkpoint'), (name) => {
      if (name.endsWith('.tmp')) events.#checkpoints += 1;
    });
    const segments = join(dataDirectory, 'segments');
    // A partition that recovery writes anew gets a new directory, and a segment in it.
    add(segments, () => {
      events.#segments += 1;
    });
    for (const name of await readdir(segments)) {
      add(join(segments, name), (file) => {
        if (file.endsWith('.log')) events.#segments += 1;
      });
    }
    return events;
  }

  /** Two for each checkpoint: it was begun to be written, it was put in its place. */
  get checkpoints(): number {
    return this.#checkpoints;
  }

  /** Segments that were begun. */
  get segments(): number {
    return this.#segments;
  }

  [Symbol.dispose](): void {
    for (const watcher of this.#watchers) watcher.close();
  }
}
