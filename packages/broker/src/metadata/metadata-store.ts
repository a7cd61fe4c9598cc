/**
 * Small facts that must agree everywhere: topics, ids, epochs. A revisioned key-value store with conditional commits,
 * so that the embedded one can be replaced by etcd; nothing above may assume that it is local.
 */

/** The revision of the whole store; grows by one with each commit. */
export type Revision = number;

export interface MetadataEntry {
  readonly key: string;
  /** JSON. */
  readonly value: unknown;
  /** The revision that wrote it. */
  readonly revision: Revision;
}

export interface MetadataSnapshot {
  readonly revision: Revision;
  readonly entries: readonly MetadataEntry[];
}

export type MetadataCondition =
  /** The key must have been written last by this revision; 0 means that it must not exist. */
  { readonly key: string; readonly revision: Revision };

export type MetadataChange =
  | { readonly key: string; readonly value: unknown }
  | { readonly key: string; readonly deleted: true };

export type CommitResult =
  | { readonly ok: true; readonly revision: Revision }
  /** The first condition that did not hold; nothing was changed. */
  | { readonly ok: false; readonly key: string };

/**
 * Everything rejects with STORAGE_UNAVAILABLE while the storage cannot be reached, except that a commit whose outcome is not
 * known waits until it is.
 */
export interface MetadataStore {
  snapshot(): Promise<MetadataSnapshot>;
  /** Undefined when there is none. */
  get(key: string): Promise<MetadataEntry | undefined>;
  /** Applies all changes, or none. Durable when it resolves. */
  commit(conditions: readonly MetadataCondition[], changes: readonly MetadataChange[]): Promise<CommitResult>;
  /** Every commit after `afterRevision`, in order, until the signal aborts. */
  watch(
    afterRevision: Revision,
    signal: AbortSignal,
  ): AsyncIterable<{ revision: Revision; changes: readonly MetadataChange[] }>;
  close(): Promise<void>;
}
