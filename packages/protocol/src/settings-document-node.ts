/**
 * A YAML text that somebody wrote: what it says, and where each thing of it stands, for messages.
 *
 * Owns reading and places. What may be in it is its reader's business.
 */
import { readFile } from 'node:fs/promises';
import { isMap, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import { NaruError } from './errors.ts';

/** A settings file is written by hand; anything larger is something else. */
export const MAX_SETTINGS_FILE_BYTES = 1024 * 1024;
/** Nested deeper than any settings are. */
const MAX_DEPTH = 50;

export type SettingsTree = { [key: string]: unknown };
export type SettingsPath = readonly (string | number)[];

export class SettingsDocument {
  readonly file: string;
  readonly tree: SettingsTree;
  readonly #document: Document.Parsed;
  readonly #lines: LineCounter;

  /**
   * @param file for messages
   * @throws NaruError INVALID_CONFIGURATION for what is no YAML, or no map
   */
  constructor(text: string, file: string) {
    const lines = new LineCounter();
    const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
    this.file = file;
    this.#document = document;
    this.#lines = lines;
    const broken = document.errors[0];
    if (broken !== undefined) throw invalidSettings([`${this.#at(broken.pos[0])}: ${broken.message}`]);
    const content = this.#content();
    if (!isTree(content)) throw invalidSettings([`${file}:1:1: expected settings, such as "key: value"`]);
    if (depthOf(content) > MAX_DEPTH) throw invalidSettings([`${file}:1:1: nested deeper than ${MAX_DEPTH}`]);
    const hidden = prototypeKey(content, []);
    if (hidden !== null)
      throw invalidSettings([`${this.place(hidden, '__proto__')}: the name "__proto__" is not allowed`]);
    this.tree = content;
  }

  /** `file:line:column` of `path`, or of the key `key` inside it; of the nearest thing that exists. */
  place(path: SettingsPath, key?: string): string {
    return this.#at(offsetOf(this.#document, path, key));
  }

  #content(): unknown {
    try {
      return this.#document.toJS() ?? {};
    } catch (error) {
      // Aliases of aliases that would become too much, for one.
      throw invalidSettings([`${this.file}:1:1: ${(error as Error).message}`]);
    }
  }

  #at(offset: number): string {
    const { line, col } = this.#lines.linePos(offset);
    return `${this.file}:${line}:${col}`;
  }
}

/**
 * The text of a settings file; undefined when it does not exist and need not.
 *
 * @throws NaruError INVALID_CONFIGURATION when it cannot be read
 */
export async function readSettingsFile(file: string, mustExist: boolean): Promise<string | undefined> {
  try {
    const text = await readFile(file, 'utf8');
    if (text.length > MAX_SETTINGS_FILE_BYTES)
      throw invalidSettings([`${file} is larger than ${MAX_SETTINGS_FILE_BYTES} bytes`]);
    return text;
  } catch (error) {
    if (error instanceof NaruError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' && !mustExist) return undefined;
    const why = code === 'ENOENT' ? 'no such file' : (error as Error).message;
    throw new NaruError('INVALID_CONFIGURATION', `cannot read settings from ${file}: ${why}`, { cause: error });
  }
}

export function invalidSettings(problems: readonly string[]): NaruError {
  return new NaruError('INVALID_CONFIGURATION', problems.join('\n'));
}

export function isTree(value: unknown): value is SettingsTree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `above` wins; maps are merged, everything else is replaced. */
export function mergeSettings(below: SettingsTree, above: SettingsTree): SettingsTree {
  const result = { ...below };
  for (const [key, value] of Object.entries(above)) {
    if (value === undefined) continue;
    const existing = Object.hasOwn(result, key) ? result[key] : undefined;
    result[key] = isTree(existing) && isTree(value) ? mergeSettings(existing, value) : value;
  }
  return result;
}

/** Whether `tree` says something at `path`. */
export function saysAt(tree: unknown, path: SettingsPath): boolean {
  let node: unknown = tree;
  for (const key of path) {
    if (typeof node !== 'object' || node === null || !Object.hasOwn(node, key)) return false;
    node = (node as SettingsTree)[key];
    if (node === undefined) return false;
  }
  return path.length > 0;
}

/** Where something is called `__proto__`, which code that copies settings would lose or follow; null for nowhere. */
function prototypeKey(value: unknown, path: SettingsPath): SettingsPath | null {
  if (typeof value !== 'object' || value === null) return null;
  if (Object.hasOwn(value, '__proto__')) return path;
  for (const [key, inner] of Object.entries(value)) {
    const found = prototypeKey(inner, [...path, Array.isArray(value) ? Number(key) : key]);
    if (found !== null) return found;
  }
  return null;
}

function depthOf(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}

function offsetOf(document: Document.Parsed, path: SettingsPath, key?: string): number {
  for (let length = path.length; length >= 0; length--) {
    const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (key !== undefined && length === path.length && isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
      if (isScalar(pair?.key) && pair.key.range) return pair.key.range[0];
    }
    const range = (node as { range?: readonly number[] | null } | null | undefined)?.range;
    if (range?.[0] !== undefined) return range[0];
  }
  return 0;
}
