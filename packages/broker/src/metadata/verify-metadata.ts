/** Verifies a metadata database and reads what it holds; changes nothing. */
import type { DatabaseSync } from 'node:sqlite';
import type { MetadataEntry } from './metadata-store.ts';
import { METADATA_FORMAT_VERSION } from './sqlite-metadata-store.ts';

/** Lines that SQLite's own check gives at most. */
const MAX_CHECK_LINES = 20;

export interface VerifiedMetadata {
  /** What can be read; null when nothing can. */
  readonly entries: readonly MetadataEntry[] | null;
  /** One sentence each, without a full stop. */
  readonly problems: readonly string[];
}

export function verifyMetadata(database: DatabaseSync): VerifiedMetadata {
  const problems: string[] = [];
  let entries: MetadataEntry[] | null = null;
  try {
    for (const row of database.prepare(`PRAGMA integrity_check(${MAX_CHECK_LINES})`).all()) {
      const line = String(Object.values(row)[0]);
      if (line !== 'ok') problems.push(`SQLite finds it damaged: ${line}`);
    }
    const version = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
    if (version > METADATA_FORMAT_VERSION) {
      problems.push(`it has format ${version}; this version of Naru reads up to ${METADATA_FORMAT_VERSION}`);
    } else entries = readEntries(database, problems);
  } catch (error) {
    problems.push(`it cannot be read as metadata: ${(error as Error).message}`);
  }
  return { entries, problems };
}

function readEntries(database: DatabaseSync, problems: string[]): MetadataEntry[] {
  const entries: MetadataEntry[] = [];
  const current = Number(database.prepare('SELECT revision FROM state').get()?.['revision']);
  for (const row of database.prepare('SELECT key, value, revision FROM entries ORDER BY key').iterate()) {
    const key = String(row['key']);
    const revision = Number(row['revision']);
    try {
      entries.push({ key, value: JSON.parse(String(row['value'])) as unknown, revision });
    } catch {
      problems.push(`the entry ${JSON.stringify(key)} is not JSON`);
    }
    // Also when there is no current revision at all.
    if (!(revision <= current)) problems.push(`the entry ${JSON.stringify(key)} is newer than the whole`);
  }
  return entries;
}
