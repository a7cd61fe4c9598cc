/**
 * Reads settings that people write: defaults, then a YAML file, then what the file says for the environment that is chosen, then
 * variables, then what a program passes. Errors say where: file, line and column, or the variable.
 *
 * Owns what wins over what. What settings there are, and their defaults, is said by the caller's schema.
 */
import { parseByteSize, parseDuration } from '@naru/base';
import { z } from 'zod';
import {
  SettingsDocument,
  invalidSettings,
  isTree,
  mergeSettings,
  saysAt,
  type SettingsPath,
  type SettingsTree,
} from './settings-document-node.ts';
import { settingsProblems, suggestion, type Locate } from './settings-problems-node.ts';

export * from './settings-document-node.ts';
export * from './settings-problems-node.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Of a settings file: what is different in one environment, by its name. */
export const ENVIRONMENTS = 'environments';
/** Names the environment; the setting `environment` of the same file, or of a program, does the same. */
export const ENVIRONMENT_VARIABLE = 'NARU_ENV';

/** An environment variable, the setting that it overrides, and how its text is read. */
export type SettingsVariables = Readonly<
  Record<string, { readonly path: SettingsPath; readonly parse: (text: string) => unknown }>
>;

export interface SettingsSpec<Schema extends z.ZodType> {
  readonly schema: Schema;
  readonly variables: SettingsVariables;
  /** Read only this key of the file, which another program's settings may share. */
  readonly section?: string | undefined;
  /** Keys of the file that belong to other programs. */
  readonly ignoredSections?: readonly string[] | undefined;
}

/** Settings, and where each came from: `naru.yaml:3`, `environment variable NARU_PORT`, `given` or `default`, by dotted path. */
export interface ExplainedSettings<Schema extends z.ZodType> {
  readonly settings: z.output<Schema>;
  readonly origins: ReadonlyMap<string, string>;
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
  return explainSettings(spec, { text, file }, environment, given).settings;
}

/** Settings without a file. */
export function settingsFrom<Schema extends z.ZodType>(
  spec: SettingsSpec<Schema>,
  given: SettingsTree,
  environment: Environment = {},
): z.output<Schema> {
  return explainSettings(spec, undefined, environment, given).settings;
}

/** Settings with their origins. @throws as {@link parseSettings} */
export function explainSettings<Schema extends z.ZodType>(
  spec: SettingsSpec<Schema>,
  source: { readonly text: string; readonly file: string } | undefined,
  environment: Environment = {},
  given: SettingsTree = {},
): ExplainedSettings<Schema> {
  const own = without(given, spec.ignoredSections ?? []);
  const written = source === undefined ? NOTHING_WRITTEN : readLayers(spec, source, environment, own);
  const variables = variableLayer(spec.variables, environment);
  const tree = mergeSettings(mergeSettings(written.tree, variables.tree), own);
  // Once in a process: code that zod would make for the next time is only waited for.
  const result = spec.schema.safeParse(tree, { reportInput: true, jitless: true });
  const place: Locate = (path, key) => {
    if (saysAt(own, key === undefined ? path : [...path, key])) return 'settings';
    return variables.names.get(path.join('.')) ?? written.locate(path, key);
  };
  if (!result.success) throw invalidSettings(settingsProblems(spec.schema, result.error, place));
  const origins = new Map<string, string>();
  for (const path of leaves(result.data)) {
    const name = path.join('.');
    const variable = variables.names.get(name);
    if (saysAt(own, path)) origins.set(name, 'given');
    else if (variable !== undefined) origins.set(name, variable);
    else if (saysAt(written.tree, path)) origins.set(name, written.locate(path).replace(/:\d+$/, ''));
    else origins.set(name, 'default');
  }
  return { settings: result.data, origins };
}

/** What the file says, and where. */
interface Written {
  readonly tree: SettingsTree;
  readonly locate: Locate;
}

const NOTHING_WRITTEN: Written = { tree: {}, locate: () => 'settings' };

/** The file's settings under those of the environment that is chosen. */
function readLayers(
  { section, ignoredSections = [] }: Pick<SettingsSpec<z.ZodType>, 'section' | 'ignoredSections'>,
  { text, file }: { readonly text: string; readonly file: string },
  environment: Environment,
  given: SettingsTree,
): Written {
  const document = new SettingsDocument(text, file);
  const sectionOf = (tree: SettingsTree, prefix: SettingsPath): { tree: SettingsTree; prefix: SettingsPath } => {
    if (section === undefined) return { tree: without(tree, ignoredSections), prefix };
    const path = [...prefix, section];
    return { tree: treeAt(document, tree[section], path), prefix: path };
  };
  const base = sectionOf(without(document.tree, [ENVIRONMENTS]), []);
  const name = given['environment'] ?? (environment[ENVIRONMENT_VARIABLE] || document.tree['environment']);
  const chosen = overlayPath(document, name);
  if (chosen === undefined)
    return { tree: base.tree, locate: (path, key) => document.place([...base.prefix, ...path], key) };
  const above = sectionOf(treeAt(document, chosen.value, chosen.path), chosen.path);
  return {
    tree: mergeSettings(base.tree, above.tree),
    locate: (path, key) => {
      const isAbove = saysAt(above.tree, key === undefined ? path : [...path, key]);
      return document.place([...(isAbove ? above : base).prefix, ...path], key);
    },
  };
}

/**
 * Where the file has what is different in the environment `name`; undefined without a name, or in a file that knows no environments.
 *
 * @throws NaruError INVALID_CONFIGURATION for a name that it does not have
 */
export function overlayPath(
  document: SettingsDocument,
  name: unknown,
): { readonly path: SettingsPath; readonly value: unknown } | undefined {
  if (document.tree[ENVIRONMENTS] === undefined) return undefined;
  const environments = treeAt(document, document.tree[ENVIRONMENTS], [ENVIRONMENTS]);
  if (name === undefined || name === null || name === '') return undefined;
  if (typeof name === 'string' && Object.hasOwn(environments, name))
    return { path: [ENVIRONMENTS, name], value: environments[name] };
  const known = Object.keys(environments);
  const hint = (typeof name === 'string' ? suggestion(name, known) : '') || `; there are ${known.join(', ') || 'none'}`;
  throw invalidSettings([`${document.place([ENVIRONMENTS])}: no environment ${JSON.stringify(name)}${hint}`]);
}

function treeAt(document: SettingsDocument, value: unknown, path: SettingsPath): SettingsTree {
  if (value === undefined || value === null) return {};
  if (isTree(value)) return value;
  throw invalidSettings([`${document.place(path)}: ${path.join('.')}: expected settings`]);
}

function variableLayer(variables: SettingsVariables, environment: Environment) {
  let tree: SettingsTree = {};
  const names = new Map<string, string>();
  for (const [variable, { path, parse }] of Object.entries(variables)) {
    const text = environment[variable];
    if (text === undefined || text === '') continue;
    const leaf = path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), parse(text));
    tree = mergeSettings(tree, leaf as SettingsTree);
    names.set(path.join('.'), `environment variable ${variable}`);
  }
  return { tree, names };
}

function leaves(value: unknown, path: SettingsPath = []): SettingsPath[] {
  if (!isTree(value)) return [path];
  return Object.entries(value).flatMap(([key, inner]) => leaves(inner, [...path, key]));
}

function without(tree: SettingsTree, keys: readonly string[]): SettingsTree {
  return Object.fromEntries(Object.entries(tree).filter(([key]) => !keys.includes(key)));
}
