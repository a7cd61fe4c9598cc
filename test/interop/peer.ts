/**
 * Clients that are not npm packages of this repository. Without one, its tests are skipped and say so; in CI they fail, so that
 * a peer cannot go missing unnoticed.
 */
import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where the scripts beside the tests put what they fetch or build. */
export const PEER_CACHE =
  process.env['NARU_PEER_CACHE'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'naru-peers');

/**
 * For `describe.skipIf`: whether the tests of a peer are left out here, which is said.
 *
 * @param missing why the peer is not there, and how to get it; null when it is
 * @throws Error in CI, where nothing may be missing
 */
export function peerIsMissing(name: string, missing: string | null): boolean {
  if (missing === null) return false;
  if (process.env['CI'] !== undefined) throw new Error(missing);
  process.stderr.write(`skipped: ${name}: ${missing}\n`);
  return true;
}

/** True when the command runs. */
export function commandWorks(command: string, ...args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore' }).status === 0;
}
