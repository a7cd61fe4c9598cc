/**
 * Reads settings that people write: defaults, then a YAML file, then the environment, then what a program passes.
 * Errors say where: file, line and column, or the variable.
 *
 * Owns the reading. What settings there are, and their defaults, is said by the caller's schema.
 */
import { readFile } from 'node:fs/promises';
import { isMap, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import { parseByteSize, parseDuration } from '@naru/base';
import { z } from 'zod';
import { NaruError } from './errors.ts';

/** A settings file is written by hand; anything larger is something else. */
const MAX_FILE_BYTES = 1024 * 1024;

export type Environment = Readonly<Record<string, string | undefined>>;
export type SettingsTree = { [key: string]: unknown };
type Path = readonly (string | number)[];

/** An environment variable, the setting that it overrides, and how its text is read. */
export type SettingsVariables = Readonly<
  Record<string, { readonly path: Path; readonly parse: (text: string) => unknown }>
>;

export interface SettingsSpec<Schema extends z.ZodType> {
  readonly schema: Schema;
  readonly variables: SettingsVariables;
  /** Read only this key of the file, which another program's settings may share. */
  readonly section?: string | undefined;
  /** Keys of the file that belong to other programs. */
  readonly ignoredSections?: readonly string[] | undefined;
}

const UNLIMITED = 'unlimited';

const quantity = (parse: (text: string) => number | string, minimum: number, mayBeUnlimited = false) =>
  z
    .union([z.number(), z.string(), z.custom<number>(isInfinity)], 'expected a number, or text with a unit')
    .transform((input, context) => {
      if (mayBeUnlimited && (input === UNLIMITED || input === Infinity)) return Infinity;
      const value = typeof input === 'number' ? input : parse(input);
      if (typeof value === 'number' && Number.isSafeInteger(value) && value >= minimum) return value;
      const message = typeof value === 'string' ? value : `expected ${minimum} or more, got ${String(input)}`;
      context.addIssue({ code: 'custom', message });
      return z.NEVER;
    });

/** What a complete configuration holds for `unlimited`; zod takes it for no number. */
function isInfinity(value: unknown): boolean {
  return value === Infinity;
}

/** A setting in bytes, or text such as `64KiB`. */
export const byteSize = (minimum = 1) => quantity(parseByteSize, minimum);

/** A setting in milliseconds, or text such as `5s`. */
export const duration = (minimumMs = 0) => quantity(parseDuration, minimumMs);

/** As {@link byteSize}; `unlimited` is Infinity. */
export const byteSizeOrUnlimited = (minimum = 1) => quantity(parseByteSize, minimum, true);

/** As {@link duration}; `unlimited` is Infinity. */
export const durationOrUnlimited = (minimumMs = 0) => quantity(parseDuration, minimumMs, true);

/** A setting that is a whole number within bounds. */
export const count = (minimum: number, maximum: number) => z.number().int().min(minimum).max(maximum);

/**
 * Settings of a YAML text, under the environment, under `given`.
 *
 * @param file for messages
 * @throws NaruError INVALID_CONFIGURATION, naming every problem, a line each
 */
export function parseSettings<Schema extends z.ZodType>(
  spec: SettingsSpec<Schema>,
  text: string,
  file: string,
  environment: Environment = {},
  given: SettingsTree = {},
): z.output<Schema> {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) throw invalid([`${at(file, lines, broken.pos[0])}: ${broken.message}`]);
  const content: unknown = document.toJS() ?? {};
  if (!isTree(content)) throw invalid([`${file}:1:1: expected settings, such as "key: value"`]);
  const { section } = spec;
  let tree = content;
  if (section !== undefined) {
    const inside = content[section] ?? {};
    if (!isTree(inside))
      throw invalid([`${at(file, lines, offsetOf(document, [section]))}: ${section}: expected settings`]);
    tree = inside;
  }
  const prefix = section === undefined ? [] : [section];
  return validate(spec, tree, environment, given, (path, key) =>
    at(file, lines, offsetOf(document, [...prefix, ...path], key)),
  );
}

/** Settings without a file. */
export function settingsFrom<Schema extends z.ZodType>(
  spec: SettingsSpec<Schema>,
  given: SettingsTree,
  environment: Environment = {},
): z.output<Schema> {
  return validate(spec, {}, environment, given, () => 'settings');
}

/**
 * The text of a settings file; undefined when it does not exist and need not.
 *
 * @throws NaruError INVALID_CONFIGURATION when it cannot be read
 */
export async function readSettingsFile(file: string, mustExist: boolean): Promise<string | undefined> {
  try {
    const text = await readFile(file, 'utf8');
    if (text.length > MAX_FILE_BYTES) throw invalid([`${file} is larger than ${MAX_FILE_BYTES} bytes`]);
    return text;
  } catch (error) {
    if (error instanceof NaruError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'ENOENT' && !mustExist) return undefined;
    const why = code === 'ENOENT' ? 'no such file' : (error as Error).message;
    throw new NaruError('INVALID_CONFIGURATION', `cannot read settings from ${file}: ${why}`, { cause: error });
  }
}

function validate<Schema extends z.ZodType>(
  spec: SettingsSpec<Schema>,
  fromFile: SettingsTree,
  environment: Environment,
  given: SettingsTree,
  locate: (path: Path, key?: string) => string,
): z.output<Schema> {
  const tree = without(fromFile, spec.ignoredSections ?? []);
  const overlaid = overlay(tree, spec.variables, environment);
  const own = without(given, spec.ignoredSections ?? []);
  const result = spec.schema.safeParse(merge(overlaid.tree, own));
  if (result.success) return result.data;
  const place = (path: Path, key?: string): string => {
    if (has(own, key === undefined ? path : [...path, key])) return 'settings';
    return overlaid.variables.get(path.join('.')) ?? locate(path, key);
  };
  throw invalid(result.error.issues.flatMap((issue) => describe(issue, place)));
}

function overlay(tree: SettingsTree, variables: SettingsVariables, environment: Environment) {
  let result = tree;
  const used = new Map<string, string>();
  for (const [variable, { path, parse }] of Object.entries(variables)) {
    const text = environment[variable];
    if (text === undefined || text === '') continue;
    const leaf = path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), parse(text));
    result = merge(result, leaf as SettingsTree);
    used.set(path.join('.'), `environment variable ${variable}`);
  }
  return { tree: result, variables: used };
}

function merge(below: SettingsTree, above: SettingsTree): SettingsTree {
  const result = { ...below };
  for (const [key, value] of Object.entries(above)) {
    if (value === undefined) continue;
    const existing = result[key];
    result[key] = isTree(existing) && isTree(value) ? merge(existing, value) : value;
  }
  return result;
}

function without(tree: SettingsTree, keys: readonly string[]): SettingsTree {
  return Object.fromEntries(Object.entries(tree).filter(([key]) => !keys.includes(key)));
}

function has(tree: SettingsTree, path: Path): boolean {
  let node: unknown = tree;
  for (const key of path) {
    if (!isTree(node) || node[key] === undefined) return false;
    node = node[key];
  }
  return path.length > 0;
}

function describe(issue: z.core.$ZodIssue, locate: (path: Path, key?: string) => string): string[] {
  const path = issue.path.map((part) => (typeof part === 'symbol' ? String(part) : part));
  const name = path.join('.');
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => `${locate(path, key)}: unknown setting "${[...path, key].join('.')}"`);
  }
  return [`${locate(path)}: ${name === '' ? '' : `${name}: `}${issue.message}`];
}

function invalid(problems: string[]): NaruError {
  return new NaruError('INVALID_CONFIGURATION', problems.join('\n'));
}

function at(file: string, lines: LineCounter, offset: number): string {
  const { line, col } = lines.linePos(offset);
  return `${file}:${line}:${col}`;
}

/** Where `path` is in the document, or the key `key` inside it; the nearest thing that exists. */
function offsetOf(document: Document.Parsed, path: Path, key?: string): number {
  for (let length = path.length; length >= 0; length--) {
    const node: unknown = length === 0 ? document.contents : document.getIn(path.slice(0, length), true);
    if (key !== undefined && isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
      if (isScalar(pair?.key) && pair.key.range) return pair.key.range[0];
    }
    const range = (node as { range?: readonly number[] | null } | null | undefined)?.range;
    if (range?.[0] !== undefined) return range[0];
  }
  return 0;
}

function isTree(value: unknown): value is SettingsTree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
