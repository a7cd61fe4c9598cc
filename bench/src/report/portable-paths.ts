/** Texts for others to read: where this machine keeps things is nothing to them. */
import { homedir, tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';

const REPOSITORY = fileURLToPath(new URL('../../..', import.meta.url)).replace(/\/$/, '');

/** The same text, with the repository as `<naru>`, the home directory as `~` and that of temporary files as `<temporary>`. */
export function withPortablePaths(text: string): string {
  const known = text.replaceAll(REPOSITORY, '<naru>').replaceAll(homedir(), '~');
  return known.replaceAll(`${tmpdir()}/`, '<temporary>/');
}
