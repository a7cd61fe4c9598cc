/**
 * Applies the table of test/architecture-rules.ts to a tree of files. Pure: it gets the files as texts and answers what is
 * wrong with them, so that tests can show it trees that do not exist.
 *
 * Tests (`*.test.ts`, and everything in the folder `test/`) are free of the rules on layers, purity and declared
 * dependencies; generated files of those on size, names and imports.
 */
import { builtinModules } from 'node:module';
import path from 'node:path';

import type { ArchitectureRules } from './architecture-rules.ts';
import type { ImportSite, Source } from './source-scanner.ts';
import { lineAt, scanSource } from './source-scanner.ts';

/** Texts by path from the repository's root, parts joined with `/`: sources, and `package.json` of each package. */
export type SourceTree = ReadonlyMap<string, string>;

export interface Violation {
  readonly rule: RuleName;
  readonly file: string;
  /** 1-based; undefined where the file as a whole is meant. */
  readonly line?: number | undefined;
  readonly message: string;
}

export type RuleName =
  | 'unknown-package'
  | 'package-import'
  | 'test-only-import'
  | 'undeclared-dependency'
  | 'leaves-package'
  | 'layer'
  | 'folder-cycle'
  | 'purity'
  | 'browser-safe'
  | 'file-size'
  | 'banned-name';

interface SourceFile extends Source {
  readonly path: string;
  readonly text: string;
  /** `broker` for packages/broker/…, `bench` for bench/…; undefined for files at the root and in scripts/ and the like. */
  readonly owner: string | undefined;
  /** The owner's folder: `packages/broker`, `bench`. */
  readonly ownerRoot: string;
  readonly isTest: boolean;
  readonly isGenerated: boolean;
}

type Report = (rule: RuleName, file: SourceFile, message: string, line?: number) => void;

const sourceName = /\.(?:ts|tsx|mts|js|mjs)$/;
const nodeModules: ReadonlySet<string> = new Set(builtinModules);

export function isSourcePath(file: string): boolean {
  return sourceName.test(file);
}

/** Everything in `tree` that breaks `rules`, by file. */
export function checkArchitecture(tree: SourceTree, rules: ArchitectureRules): Violation[] {
  const violations: Violation[] = [];
  const report: Report = (rule, file, message, line) => violations.push({ rule, file: file.path, line, message });
  const files = [...tree].filter(([name]) => isSourcePath(name)).map(([name, text]) => describeFile(name, text, rules));
  for (const file of files) {
    checkNames(file, rules, report);
    checkSize(file, rules, report);
    if (file.owner === undefined) continue;
    if (rules.mayImport[file.owner] === undefined) {
      report('unknown-package', file, `${file.owner} is not in the table of test/architecture-rules.ts`);
      continue;
    }
    for (const site of file.imports) checkImport(file, site, tree, rules, report);
    checkPurity(file, rules, report);
  }
  checkFolderCycles(files, report);
  return violations.toSorted((a, b) => a.file.localeCompare(b.file) || (a.line ?? 0) - (b.line ?? 0));
}

export function formatViolation({ rule, file, line, message }: Violation): string {
  return `${file}${line === undefined ? '' : `:${line}`} [${rule}] ${message}`;
}

function describeFile(file: string, text: string, rules: ArchitectureRules): SourceFile {
  const [first = '', second = ''] = file.split('/');
  const inPackage = first === 'packages';
  const beside = file.includes('/') && rules.mayImport[first] !== undefined;
  return {
    ...scanSource(text),
    path: file,
    text,
    owner: inPackage ? second : beside ? first : undefined,
    ownerRoot: inPackage ? `${first}/${second}` : first,
    isTest: /\.test\.tsx?$/.test(file) || first === 'test',
    isGenerated: file.includes('/generated/'),
  };
}

function checkImport(
  file: SourceFile,
  site: ImportSite,
  tree: SourceTree,
  rules: ArchitectureRules,
  report: Report,
): void {
  const { specifier, line } = site;
  if (specifier.startsWith('.')) {
    const target = path.posix.join(path.posix.dirname(file.path), specifier);
    if (!target.startsWith(`${file.ownerRoot}/`))
      report('leaves-package', file, `'${specifier}' is outside ${file.ownerRoot}`, line);
    else checkLayer(file, target, line, rules, report);
    return;
  }
  if (isNodeModule(specifier)) {
    checkNodeImport(file, site, rules, report);
    return;
  }
  const [scope = '', name = ''] = specifier.split('/');
  if (scope === '@naru') checkPackageImport(file, name, line, rules, report);
  if (!file.isTest && !file.isGenerated && !specifier.startsWith('#')) {
    const dependency = scope.startsWith('@') ? `${scope}/${name}` : scope;
    if (!declaredDependencies(file, tree).has(dependency)) {
      report('undeclared-dependency', file, `'${dependency}' is not in ${file.ownerRoot}/package.json`, line);
    }
  }
}

function checkPackageImport(
  file: SourceFile,
  name: string,
  line: number,
  rules: ArchitectureRules,
  report: Report,
): void {
  if (rules.onlyTestsImport.includes(name)) {
    if (!file.isTest && name !== file.owner) report('test-only-import', file, `only tests import @naru/${name}`, line);
    return;
  }
  if (file.isTest && name === file.owner) return; // A test may see its package as users do.
  const allowed = rules.mayImport[file.owner ?? ''] ?? [];
  if (!allowed.includes(name)) report('package-import', file, `${file.owner} may not import @naru/${name}`, line);
}

function declaredDependencies(file: SourceFile, tree: SourceTree): Set<string> {
  const manifest = tree.get(`${file.ownerRoot}/package.json`);
  if (manifest === undefined) return new Set();
  const { dependencies, peerDependencies, optionalDependencies } = JSON.parse(manifest) as Record<
    string,
    object | undefined
  >;
  return new Set(Object.keys({ ...dependencies, ...peerDependencies, ...optionalDependencies }));
}

function isNodeModule(specifier: string): boolean {
  return specifier.startsWith('node:') || nodeModules.has(specifier);
}

function checkNodeImport(
  file: SourceFile,
  { specifier, line }: ImportSite,
  rules: ArchitectureRules,
  report: Report,
): void {
  if (file.isTest) return;
  if (isPure(file, rules)) report('purity', file, `imports '${specifier}'`, line);
  const stem = path.posix.basename(file.path).replace(sourceName, '');
  if (rules.browserSafe.includes(file.owner ?? '') && !stem.endsWith(rules.nodeOnlySuffix)) {
    report('browser-safe', file, `imports '${specifier}'; only files named *${rules.nodeOnlySuffix}.ts may`, line);
  }
}

/** First folder below the package's `src`, `.` for files in `src` itself. */
function layerFolder(file: string, ownerRoot: string): string {
  const parts = file.slice(`${ownerRoot}/src/`.length).split('/');
  return parts.length > 1 ? (parts[0] ?? '.') : '.';
}

function checkLayer(file: SourceFile, target: string, line: number, rules: ArchitectureRules, report: Report): void {
  const layers = rules.layers[file.owner ?? ''];
  if (layers === undefined || file.isTest) return;
  const from = layerFolder(file.path, file.ownerRoot);
  const to = layerFolder(target, file.ownerRoot);
  const levelOf = (folder: string): number => layers.findIndex((level) => level.includes(folder));
  if (levelOf(from) < 0) report('layer', file, `the folder ${from} is in no layer of ${file.owner}`, line);
  else if (levelOf(to) < 0) report('layer', file, `the folder ${to} is in no layer of ${file.owner}`, line);
  else if (from !== to && levelOf(to) >= levelOf(from)) report('layer', file, `${from} may not import ${to}`, line);
}

function isPure(file: SourceFile, rules: ArchitectureRules): boolean {
  return !file.isTest && rules.pure.some((folder) => file.path.startsWith(`${folder}/`));
}

function checkPurity(file: SourceFile, rules: ArchitectureRules, report: Report): void {
  if (!isPure(file, rules)) return;
  for (const { what, pattern } of rules.impure) {
    const match = pattern.exec(file.code);
    if (match !== null) report('purity', file, `touches ${what}`, lineAt(file.text, match.index));
  }
}

function checkSize(file: SourceFile, rules: ArchitectureRules, report: Report): void {
  const lines = file.text.split('\n').length - (file.text.endsWith('\n') ? 1 : 0);
  if (lines > rules.maxLines && !file.isGenerated)
    report('file-size', file, `${lines} lines; at most ${rules.maxLines}`);
}

function wordsOf(name: string): string[] {
  return name
    .replaceAll(/([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])/g, '$1$3-$2$4')
    .toLowerCase()
    .split(/[^a-z0-9]+/);
}

function checkNames(file: SourceFile, rules: ArchitectureRules, report: Report): void {
  if (file.isGenerated) return;
  const bannedIn = (name: string): string | undefined => wordsOf(name).find((word) => rules.bannedWords.includes(word));
  for (const part of file.path.split('/')) {
    const stem = part.replace(/\..*$/, '');
    const banned = bannedIn(stem) ?? rules.bannedFileNames.find((name) => name === stem);
    if (banned !== undefined) report('banned-name', file, `'${banned}' in the name of ${part}`);
  }
  const seen = new Set<string>(rules.foreignNames);
  for (const match of file.code.matchAll(/[A-Za-z_$][\w$]*/g)) {
    const [identifier] = match;
    if (seen.has(identifier)) continue;
    seen.add(identifier);
    const banned = bannedIn(identifier);
    if (banned !== undefined)
      report('banned-name', file, `'${banned}' in ${identifier}`, lineAt(file.text, match.index));
  }
}

/**
 * Cycles between neighbouring folders. An import counts between the two folders where the paths part:
 * a/b/x.ts → a/c/d/y.ts is a/b → a/c. A folder and what is inside it are one family and may know each other.
 */
function checkFolderCycles(files: readonly SourceFile[], report: Report): void {
  const edges = new Map<string, Map<string, SourceFile>>();
  for (const file of files) {
    if (file.isTest || file.isGenerated) continue;
    for (const { specifier } of file.imports) {
      if (!specifier.startsWith('.')) continue;
      const edge = folderEdge(file.path, path.posix.join(path.posix.dirname(file.path), specifier));
      if (edge === undefined) continue;
      const targets = edges.get(edge.from) ?? new Map<string, SourceFile>();
      if (!targets.has(edge.to)) targets.set(edge.to, file);
      edges.set(edge.from, targets);
    }
  }
  for (const cycle of findCycles(edges)) {
    const [first = '', second = first] = cycle;
    const file = edges.get(first)?.get(second);
    if (file !== undefined) report('folder-cycle', file, [...cycle, first].join(' → '));
  }
}

function folderEdge(fromFile: string, toFile: string): { from: string; to: string } | undefined {
  const from = fromFile.split('/');
  const to = toFile.split('/');
  let shared = 0;
  while (shared < from.length && from[shared] === to[shared]) shared += 1;
  if (shared >= from.length - 1 || shared >= to.length - 1) return undefined;
  return { from: from.slice(0, shared + 1).join('/'), to: to.slice(0, shared + 1).join('/') };
}

/** One cycle for each edge that closes one in a depth-first walk: none exactly when there is no cycle. */
function findCycles(edges: ReadonlyMap<string, ReadonlyMap<string, unknown>>): string[][] {
  const cycles: string[][] = [];
  const done = new Set<string>();
  const walk = (folder: string, trail: readonly string[]): void => {
    const start = trail.indexOf(folder);
    if (start >= 0) cycles.push(trail.slice(start));
    if (start >= 0 || done.has(folder)) return;
    for (const next of edges.get(folder)?.keys() ?? []) walk(next, [...trail, folder]);
    done.add(folder);
  };
  for (const folder of edges.keys()) walk(folder, []);
  return cycles;
}
