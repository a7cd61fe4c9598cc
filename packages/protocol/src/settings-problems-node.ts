/** What a schema finds wrong with settings, as sentences with places and with suggestions for names that are nearly right. */
import { z } from 'zod';
import type { SettingsPath } from './settings-document-node.ts';

/** Where `path` was written, or the key `key` inside it: `file:line:column`, or what else it came from. */
export type Locate = (path: SettingsPath, key?: string) => string;

/** One line a problem. Of an error that was made with `reportInput`, wrong words have suggestions. */
export function settingsProblems(schema: z.ZodType, error: z.ZodError, locate: Locate, what = 'setting'): string[] {
  return error.issues.flatMap((issue) => describe(schema, issue, locate, what));
}

/** `; did you mean "…"?` where one of `known` is nearly `name`; else nothing. */
export function suggestion(name: string, known: Iterable<string>): string {
  let best: string | undefined;
  let least = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase(), least);
    if (distance >= least || distance >= candidate.length) continue;
    least = distance;
    best = candidate;
  }
  return best === undefined ? '' : `; did you mean ${JSON.stringify(best)}?`;
}

function describe(schema: z.ZodType, issue: z.core.$ZodIssue, locate: Locate, what: string): string[] {
  const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part));
  const name = path.join('.');
  if (issue.code === 'unrecognized_keys') {
    const known = knownKeys(schema, path);
    return issue.keys.map(
      (key) => `${locate(path, key)}: unknown ${what} "${[...path, key].join('.')}"${suggestion(key, known)}`,
    );
  }
  return [`${locate(path)}: ${name === '' ? '' : `${name}: `}${messageOf(issue)}`];
}

function messageOf(issue: z.core.$ZodIssue): string {
  if (issue.code === 'invalid_value' && typeof issue.input === 'string')
    return `${issue.message}${suggestion(
      issue.input,
      issue.values.filter((value) => typeof value === 'string'),
    )}`;
  return issue.message;
}

/** The keys that an object has at `path` of what `schema` takes. */
function knownKeys(schema: z.ZodType, path: SettingsPath): string[] {
  let at: z.ZodType | undefined = inside(schema);
  for (const key of path) {
    if (at instanceof z.ZodObject) at = at.shape[key] as z.ZodType | undefined;
    else if (at instanceof z.ZodRecord) at = at.valueType as z.ZodType;
    else return [];
    if (at === undefined) return [];
    at = inside(at);
  }
  return at instanceof z.ZodObject ? Object.keys(at.shape) : [];
}

/** Without what only says what is so when there is nothing, or afterwards. */
function inside(schema: z.ZodType): z.ZodType {
  // Named one by one: taken out of `z` at once, all of zod would be in a bundle, with its messages in sixty languages.
  for (const wrapper of [z.ZodPrefault, z.ZodDefault, z.ZodOptional, z.ZodNullable])
    if (schema instanceof wrapper) return inside(schema.def.innerType as z.ZodType);
  if (schema instanceof z.ZodPipe) return inside(schema.def.in as z.ZodType);
  return schema;
}

/** Insertions, deletions, replacements and swaps of neighbours (optimal string alignment); `limit` for all that are more. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit || a.length > 200 || b.length > 200) return limit;
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, i) => i)];
  const at = (i: number, j: number): number => rows[i]?.[j] as number;
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    rows.push(row);
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(at(i - 1, j) + 1, (row[j - 1] as number) + 1, at(i - 1, j - 1) + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, at(i - 2, j - 2) + 1);
      row.push(least);
    }
  }
  return Math.min(limit, at(a.length, b.length));
}
