/**
 * The newest commits of a metadata store, for those who watch it. Serves stores of which this process is the only writer.
 */
import { NaruError } from '@naru/protocol';
import type { MetadataChange, Revision } from './metadata-store.ts';

/** Commits that a watcher may lag behind before it must take a snapshot anew. */
const HISTORY_LIMIT = 10_000;

export interface Commit {
  readonly revision: Revision;
  readonly changes: readonly MetadataChange[];
}

export class CommitHistory {
  readonly #commits: Commit[] = [];
  readonly #watchers = new Set<() => void>();
  #revision: Revision;
  #closed = false;

  /** @param revision of the store when it was opened */
  constructor(revision: Revision) {
    this.#revision = revision;
  }

  /** Of the newest commit. */
  get revision(): Revision {
    return this.#revision;
  }

  add(commit: Commit): void {
    this.#revision = commit.revision;
    this.#commits.push(commit);
    if (this.#commits.length > HISTORY_LIMIT) this.#commits.shift();
    for (const wake of this.#watchers) wake();
  }

  /** As MetadataStore.watch. */
  async *watch(afterRevision: Revision, signal: AbortSignal): AsyncIterable<Commit> {
    let seen = afterRevision;
    while (!signal.aborted && !this.#closed) {
      const oldest = this.#commits[0]?.revision ?? this.#revision + 1;
      if (seen + 1 < oldest) {
        throw new NaruError(
          'OFFSET_OUT_OF_RANGE',
          `revision ${seen} is no longer in the watch history: take a snapshot`,
        );
      }
      const next = this.#commits[seen + 1 - oldest];
      if (next !== undefined) {
        seen = next.revision;
        yield next;
        continue;
      }
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          this.#watchers.delete(wake);
          signal.removeEventListener('abort', wake);
          resolve();
        };
        this.#watchers.add(wake);
        signal.addEventListener('abort', wake, { once: true });
      });
    }
  }

  /** Ends all watches. */
  close(): void {
    this.#closed = true;
    for (const wake of this.#watchers) wake();
  }
}
