/** What fetch.sh has put into the cache of peers, which the tests with other clients use too. */
import { existsSync, readdirSync } from 'node:fs';
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';

export const PEER_CACHE =
  process.env['NARU_PEER_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'naru-peers');
export const HOW_TO_FETCH = 'run bench/src/peer-servers/fetch.sh';

/** The directory `PREFIX-VERSION` with the highest version; null when there is none. */
export function cached(prefix: string, suffix = ''): { readonly path: string; readonly version: string } | null {
  const names = existsSync(PEER_CACHE) ? readdirSync(PEER_CACHE) : [];
  const found = names
    .filter((name) => name.startsWith(`${prefix}-`) && name.endsWith(suffix))
    .sort((a, b) => a.localeCompare(b, 'en', { numeric: true }))
    .at(-1);
  if (found === undefined) return null;
  return { path: join(PEER_CACHE, found), version: found.slice(prefix.length + 1, found.length - suffix.length) };
}

/** A Debian with servers in it, for `chroot`; null when there is none, or when this user may not use it. */
export function debianRoot(): string | null {
  const found = cached('debian');
  return found === null || process.getuid?.() !== 0 ? null : found.path;
}

/** What `command` prints on either output, without the blanks around it; null when it does not run. */
export function output(command: string, args: readonly string[]): string | null {
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8' });
  return status === 0 ? `${stdout}${stderr}`.trim() : null;
}
