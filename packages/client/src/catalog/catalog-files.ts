/**
 * The files of a catalog as one tree: what is included, and what the chosen environment lays over it; with the place of everything.
 *
 * Owns reading, inclusion and overlay. What the tree may say is catalog-schema.ts's.
 *
 * Invariants
 * - An event stands in one file. Only an environment says more of it, in the first file's `environments`.
 * - Schema files are named relative to the file that names them.
 */
import { readFile } from 'node:fs/promises';
import { dirname, relative, resolve } from 'node:path';
import {
  ENVIRONMENTS,
  MAX_SETTINGS_FILE_BYTES,
  SettingsDocument,
  isTree,
  mergeSettings,
  overlayPath,
  saysAt,
  suggestion,
} from '@naru/protocol/settings-node';
import type { SettingsPath, SettingsTree } from '@naru/protocol/settings-node';
import { CatalogProblems } from './catalog-problems.ts';

/** A file that includes a file that includes a file… */
const MAX_INCLUDE_DEPTH = 8;
const MAX_FILES = 1_000;
const FILE_KEYS = ['events', 'include', ENVIRONMENTS];

export interface CatalogFiles {
  readonly tree: SettingsTree;
  /** `file:line:column`. */
  readonly place: (path: SettingsPath, key?: string) => string;
  /** The folder that file names at `path` are relative to. */
  readonly folder: (path: SettingsPath) => string;
  /** Environments that the first file knows. */
  readonly environments: readonly string[];
}

interface Source {
  readonly document: SettingsDocument;
  readonly path: string;
}

/**
 * Reads `file` and what it includes.
 *
 * @param environment a name of `environments`; null for none
 * @throws NaruError INVALID_CONFIGURATION, naming every problem with file, line and column
 */
export async function readCatalogFiles(file: string, environment: string | null): Promise<CatalogFiles> {
  const reading = new CatalogReading();
  const first = await reading.read(resolve(file), [], undefined);
  reading.problems.throwIfAny();
  const { document } = first;
  const overlay = overlayPath(document, environment);
  const above = overlay === undefined || !isTree(overlay.value) ? {} : overlay.value;
  const unknown = Object.keys(above).find((key) => key !== 'events');
  if (overlay !== undefined && unknown !== undefined) {
    const name = [...overlay.path, unknown].join('.');
    const place = document.place(overlay.path, unknown);
    reading.problems.add(`${place}: unknown field "${name}"${suggestion(unknown, ['events'])}`);
  }
  reading.problems.throwIfAny();
  const events = Object.fromEntries([...reading.events].map(([name, { value }]) => [name, value]));
  const from = (path: SettingsPath, key?: string): { source: Source; prefix: SettingsPath } => {
    const whole = key === undefined ? path : [...path, key];
    if (overlay !== undefined && saysAt(above, whole)) return { source: first, prefix: overlay.path };
    const name = whole[0] === 'events' ? whole[1] : undefined;
    return { source: reading.events.get(String(name))?.source ?? first, prefix: [] };
  };
  return {
    tree: mergeSettings({ events }, above),
    environments: Object.keys(isTree(document.tree[ENVIRONMENTS]) ? document.tree[ENVIRONMENTS] : {}),
    place: (path, key) => {
      const { source, prefix } = from(path, key);
      return source.document.place([...prefix, ...path], key);
    },
    folder: (path) => dirname(from(path).source.path),
  };
}

class CatalogReading {
  readonly problems = new CatalogProblems();
  readonly events = new Map<string, { readonly value: unknown; readonly source: Source }>();
  readonly #read = new Set<string>();

  /** @param chain files that include it, the first one first */
  async read(path: string, chain: readonly string[], place: string | undefined): Promise<Source> {
    this.#read.add(path);
    const document = new SettingsDocument(await readText(path, place), shown(path));
    const source = { document, path };
    for (const key of Object.keys(document.tree)) {
      if (FILE_KEYS.includes(key) && (key !== ENVIRONMENTS || chain.length === 0)) continue;
      const why = key === ENVIRONMENTS ? '; environments stand in the first file' : suggestion(key, FILE_KEYS);
      this.problems.add(`${document.place([], key)}: unknown field "${key}"${why}`);
    }
    this.#take(source);
    await this.#include(source, [...chain, path]);
    return source;
  }

  #take(source: Source): void {
    const { document } = source;
    const events = document.tree['events'] ?? {};
    if (!isTree(events)) {
      this.problems.add(`${document.place(['events'])}: events: expected names of events, such as order.placed`);
      return;
    }
    for (const [name, value] of Object.entries(events)) {
      const before = this.events.get(name);
      const path = ['events', name];
      if (before === undefined) this.events.set(name, { value: value ?? {}, source });
      else {
        const other = before.source.document.place(['events'], name);
        this.problems.add(`${document.place(['events'], name)}: ${path.join('.')}: is at ${other} already`);
      }
    }
  }

  async #include({ document, path }: Source, chain: readonly string[]): Promise<void> {
    const include = document.tree['include'] ?? [];
    if (!Array.isArray(include)) {
      this.problems.add(`${document.place(['include'])}: include: expected a list of files`);
      return;
    }
    for (const [index, name] of include.entries()) {
      const place = document.place(['include', index]);
      if (typeof name !== 'string') {
        this.problems.add(`${place}: include.${index}: expected the name of a file`);
        continue;
      }
      const file = resolve(dirname(path), name);
      const wrong = this.#refusal(file, chain);
      if (wrong === undefined) await this.read(file, chain, `${place}: include.${index}`);
      else this.problems.add(`${place}: include.${index}: ${wrong}`);
    }
  }

  #refusal(file: string, chain: readonly string[]): string | undefined {
    const at = chain.indexOf(file);
    if (at >= 0) return `files include each other: ${[...chain.slice(at), file].map(shown).join(' → ')}`;
    if (this.#read.has(file)) return `${shown(file)} is included already`;
    if (chain.length > MAX_INCLUDE_DEPTH) return `files are included more than ${MAX_INCLUDE_DEPTH} deep`;
    if (this.#read.size >= MAX_FILES) return `the catalog has more than ${MAX_FILES} files`;
    return undefined;
  }
}

async function readText(path: string, place: string | undefined): Promise<string> {
  const prefix = place === undefined ? '' : `${place}: `;
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'no such file' : (error as Error).message;
    throw CatalogProblems.error([`${prefix}cannot read the catalog ${shown(path)}: ${why}`]);
  }
  if (bytes.length > MAX_SETTINGS_FILE_BYTES)
    throw CatalogProblems.error([`${prefix}${shown(path)} is larger than ${MAX_SETTINGS_FILE_BYTES} bytes`]);
  return bytes.toString('utf8');
}

/** As a person in the working directory would name it. */
export function shown(path: string): string {
  const near = relative(process.cwd(), path);
  return near.startsWith('..') ? path : near || path;
}
