/**
 * Finds and reads settings: defaults, then naru.yaml, then the environment, then what the program passes. Errors say
 * where: file, line and column, or the variable.
 *
 * A `broker` section in naru.yaml is the broker's and is not looked at here.
 */
import { readFile } from 'node:fs/promises';
import { NaruError } from '@naru/protocol';
import { LineCounter, isMap, isScalar, parseDocument } from 'yaml';
import type { Document } from 'yaml';
import type { z } from 'zod';
import { settingsSchema } from './settings.ts';
import type { Settings, SettingsInput } from './settings.ts';

export const DEFAULT_SETTINGS_FILE = 'naru.yaml';
/** A settings file is written by hand; anything larger is something else. */
const MAX_FILE_BYTES = 1024 * 1024;
const BROKER_SECTION = 'broker';

export type Environment = Readonly<Record<string, string | undefined>>;
type Tree = { [key: string]: unknown };
type Path = readonly (string | number)[];

/** Environment variables, and the setting that each overrides. */
const VARIABLES: Readonly<Record<string, { path: Path; parse: (text: string) => unknown }>> = {
  NARU_BROKERS: {
    path: ['brokers'],
    parse: (text) =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== ''),
  },
  NARU_CLIENT_ID: { path: ['clientId'], parse: String },
  NARU_CONNECT_TIMEOUT: { path: ['connectTimeoutMs'], parse: String },
  NARU_REQUEST_TIMEOUT: { path: ['requestTimeoutMs'], parse: String },
  NARU_PUBLISHER_LINGER: { path: ['publisher', 'lingerMs'], parse: String },
  NARU_PUBLISHER_BATCH_BYTES: { path: ['publisher', 'batchBytes'], parse: String },
  NARU_PUBLISHER_BUFFER_BYTES: { path: ['publisher', 'bufferBytes'], parse: String },
  NARU_PUBLISHER_COMPRESSION: { path: ['publisher', 'compression'], parse: String },
  NARU_PUBLISHER_DELIVERY_TIMEOUT: { path: ['publisher', 'deliveryTimeoutMs'], parse: String },
  NARU_SUBSCRIBER_CONCURRENCY: { path: ['subscriber', 'concurrency'], parse: Number },
  NARU_SUBSCRIBER_POLL_WAIT: { path: ['subscriber', 'pollWaitMs'], parse: String },
};

/**
 * @param source settings; the path of a YAML file, which must exist; or nothing for naru.yaml in the working directory
 *   (or the file that NARU_CONFIG names), if there is one
 * @throws NaruError INVALID_CONFIGURATION
 */
export async function loadSettings(
  source?: SettingsInput | string,
  environment: Environment = process.env,
): Promise<Settings> {
  if (source !== undefined && typeof source !== 'string') return fromObject(source, environment);
  const named = source ?? environment['NARU_CONFIG'];
  const file = named ?? DEFAULT_SETTINGS_FILE;
  const text = await readText(file, named !== undefined);
  return text === undefined ? fromObject({}, environment) : parseSettings(text, file, environment);
}

/** Settings of a YAML text, overlaid with the environment. `file` is for messages. */
export function parseSettings(text: string, file: string, environment: Environment = {}): Settings {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const broken = document.errors[0];
  if (broken !== undefined) throw invalid([`${at(file, lines, broken.pos[0])}: ${broken.message}`]);
  const content: unknown = document.toJS() ?? {};
  if (!isTree(content)) throw invalid([`${file}:1:1: expected settings such as "brokers: [localhost:9092]"`]);
  const tree = { ...content };
  delete tree[BROKER_SECTION];
  const overlaid = overlay(tree, environment);
  return validate(overlaid.tree, (path, key) => {
    const variable = overlaid.variables.get(path.join('.'));
    return variable ?? at(file, lines, offsetOf(document, path, key));
  });
}

function fromObject(settings: SettingsInput, environment: Environment): Settings {
  const overlaid = overlay({}, environment);
  const given = Object.fromEntries(Object.entries(settings).filter(([key]) => key !== BROKER_SECTION)) as Tree;
  return validate(merge(overlaid.tree, given), (path) => overlaid.variables.get(path.join('.')) ?? 'settings');
}

async function readText(file: string, mustExist: boolean): Promise<string | undefined> {
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

function overlay(tree: Tree, environment: Environment): { tree: Tree; variables: Map<string, string> } {
  let result = tree;
  const variables = new Map<string, string>();
  for (const [variable, { path, parse }] of Object.entries(VARIABLES)) {
    const text = environment[variable];
    if (text === undefined || text === '') continue;
    const leaf = path.reduceRight<unknown>((inner, key) => ({ [key]: inner }), parse(text));
    result = merge(result, leaf as Tree);
    variables.set(path.join('.'), `environment variable ${variable}`);
  }
  return { tree: result, variables };
}

function merge(below: Tree, above: Tree): Tree {
  const result = { ...below };
  for (const [key, value] of Object.entries(above)) {
    if (value === undefined) continue;
    const existing = result[key];
    result[key] = isTree(existing) && isTree(value) ? merge(existing, value) : value;
  }
  return result;
}

function validate(tree: Tree, locate: (path: Path, key?: string) => string): Settings {
  const result = settingsSchema.safeParse(tree);
  if (result.success) return result.data;
  throw invalid(result.error.issues.flatMap((issue) => describe(issue, locate)));
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

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
