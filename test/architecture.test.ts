/**
 * The repository keeps to the table in architecture-rules.ts, and the checker that says so is seen to fail: every rule is
 * shown a small tree that breaks it.
 */
import fs from 'node:fs';
import path from 'node:path';

import { describe, expect, it } from 'vitest';

import type { RuleName } from './architecture-checker.ts';
import { checkArchitecture, formatViolation, isSourcePath } from './architecture-checker.ts';
import { architectureRules } from './architecture-rules.ts';

const root = path.dirname(import.meta.dirname);
const sourceFolders = ['packages', 'test', 'bench', 'examples', 'scripts', 'bin'];
const skippedFolders = new Set(['node_modules', 'coverage', 'dist']);

function readRepository(): Map<string, string> {
  const tree = new Map<string, string>();
  const visit = (folder: string): void => {
    for (const entry of fs.readdirSync(path.join(root, folder), { withFileTypes: true })) {
      const file = `${folder}/${entry.name}`;
      if (entry.isDirectory()) {
        if (!skippedFolders.has(entry.name)) visit(file);
      } else if (isSourcePath(file) || entry.name === 'package.json') {
        tree.set(file, fs.readFileSync(path.join(root, file), 'utf8'));
      }
    }
  };
  for (const folder of sourceFolders) if (fs.existsSync(path.join(root, folder))) visit(folder);
  return tree;
}

const manifest = JSON.stringify({
  dependencies: Object.fromEntries(
    ['@naru/base', '@naru/protocol', '@naru/client', '@naru/broker', '@naru/testkit', 'pino'].map((name) => [
      name,
      '1',
    ]),
  ),
});

/** Checks sources by path; every owner has a package.json that declares what the cases import. */
function check(sources: Record<string, string>): string[] {
  const tree = new Map(Object.entries(sources));
  for (const file of Object.keys(sources)) {
    const owner = file.startsWith('packages/') ? file.split('/').slice(0, 2).join('/') : file.split('/')[0];
    if (!tree.has(`${owner}/package.json`)) tree.set(`${owner}/package.json`, manifest);
  }
  return checkArchitecture(tree, architectureRules).map((violation) => `${violation.rule} ${violation.file}`);
}

const broker = 'packages/broker/src';

describe('the repository', () => {
  it('keeps to the architecture', () => {
    const tree = readRepository();
    expect(tree.size).toBeGreaterThan(20);
    expect(checkArchitecture(tree, architectureRules).map(formatViolation)).toEqual([]);
  });

  it('has every package of the layout in the table', () => {
    const packages = fs.readdirSync(path.join(root, 'packages'));
    expect(packages.filter((name) => architectureRules.mayImport[name] === undefined)).toEqual([]);
  });
});

describe('the checker finds', () => {
  const cases: [name: string, rule: RuleName, file: string, text: string][] = [
    ['a package that nobody knows', 'unknown-package', 'packages/extras/src/a.ts', 'export {};'],
    ['base importing protocol', 'package-import', 'packages/base/src/a.ts', "import '@naru/protocol';"],
    ['protocol importing client', 'package-import', 'packages/protocol/src/a.ts', "import '@naru/client';"],
    ['client importing broker', 'package-import', 'packages/client/src/a.ts', "import { Broker } from '@naru/broker';"],
    ['broker importing client', 'package-import', `${broker}/broker.ts`, "import '@naru/client';"],
    ['a sub-path import', 'package-import', 'packages/client/src/a.ts', "import { x } from '@naru/broker/log';"],
    ['a type import', 'package-import', 'packages/client/src/a.ts', "import type { X } from '@naru/broker';"],
    ['an inline type import', 'package-import', 'packages/client/src/a.ts', "type X = import('@naru/broker').X;"],
    ['a re-export', 'package-import', 'packages/client/src/a.ts', "export * from '@naru/broker';"],
    ['a dynamic import', 'package-import', 'packages/client/src/a.ts', 'const x = await import(`@naru/broker`);'],
    ['a test of client importing broker', 'package-import', 'packages/client/src/a.test.ts', "import '@naru/broker';"],
    ['a package importing itself by name', 'package-import', `${broker}/broker.ts`, "import '@naru/broker';"],
    ['a source importing testkit', 'test-only-import', `${broker}/broker.ts`, "import '@naru/testkit';"],
    ['a dependency nobody declared', 'undeclared-dependency', `${broker}/broker.ts`, "import 'zod/v4';"],
    ['a relative import out of a package', 'leaves-package', `${broker}/broker.ts`, "import '../../base/src/a.ts';"],
    ['a relative import out of a test', 'leaves-package', 'test/a.test.ts', "import '../packages/base/src/a.ts';"],
    ['core importing log', 'layer', `${broker}/core/group/a.ts`, "import type { L } from '../../log/log-store.ts';"],
    ['log importing metadata', 'layer', `${broker}/log/a.ts`, "import '../metadata/m.ts';"],
    ['core importing runtime', 'layer', `${broker}/core/a.ts`, "import '../runtime/shard.ts';"],
    ['runtime importing service', 'layer', `${broker}/runtime/a.ts`, "import '../service/publish.ts';"],
    ['service importing doors', 'layer', `${broker}/service/a.ts`, "import '../doors/sniff.ts';"],
    ['a door importing the top', 'layer', `${broker}/doors/grpc/a.ts`, "import '../../config.ts';"],
    ['a folder in no layer', 'layer', `${broker}/misc/a.ts`, "import './b.ts';"],
    ['node: in core', 'purity', `${broker}/core/a.ts`, "import { Buffer } from 'node:buffer';"],
    ['an old node name in core', 'purity', `${broker}/core/a.ts`, "import fs from 'fs';"],
    ['Date.now in core', 'purity', `${broker}/core/a.ts`, 'const now = Date.now();'],
    ['new Date() in core', 'purity', `${broker}/core/a.ts`, 'const now = new Date();'],
    ['performance.now in core', 'purity', `${broker}/core/a.ts`, 'const now = performance.now();'],
    ['setTimeout in core', 'purity', `${broker}/core/a.ts`, 'setTimeout(() => {}, 1);'],
    ['setInterval in core', 'purity', `${broker}/core/a.ts`, 'const t = setInterval(f, 1);'],
    ['setImmediate in core', 'purity', `${broker}/core/a.ts`, 'setImmediate(f);'],
    ['console in core', 'purity', `${broker}/core/a.ts`, "console.log('x');"],
    ['Math.random in core', 'purity', `${broker}/core/a.ts`, 'const r = Math.random();'],
    ['crypto in core', 'purity', `${broker}/core/a.ts`, 'const id = crypto.randomUUID();'],
    ['impurity inside a template', 'purity', `${broker}/core/a.ts`, 'const id = `a ${`b ${Date.now()}`} c`;'],
    ['node: in protocol', 'browser-safe', 'packages/protocol/src/batch/a.ts', "import zlib from 'node:zlib';"],
    ['a file too long', 'file-size', 'packages/base/src/a.ts', 'export {};\n'.repeat(501)],
    ['a banned file name', 'banned-name', 'packages/base/src/string-utils.ts', 'export {};'],
    ['a file called common', 'banned-name', 'packages/base/src/common.ts', 'export {};'],
    ['a banned folder name', 'banned-name', 'packages/base/src/helpers/a.ts', 'export {};'],
    ['a Manager', 'banned-name', 'packages/base/src/a.ts', 'export class GroupManager {}'],
    ['an Impl', 'banned-name', 'packages/base/src/a.ts', 'const logStoreImpl = 1;'],
  ];

  it.each(cases)('%s', (_name, rule, file, text) => {
    expect(check({ [file]: text })).toEqual([`${rule} ${file}`]);
  });

  it('folders that import each other', () => {
    const a = `${broker}/core/group/a.ts`;
    const b = `${broker}/core/partition/b.ts`;
    expect(check({ [a]: "import '../partition/b.ts';", [b]: "import '../group/a.ts';" })).toEqual([
      `folder-cycle ${a}`,
    ]);
  });

  it('folders that import each other in a ring', () => {
    const at = (folder: string): string => `packages/client/src/${folder}/a.ts`;
    const found = check({
      [at('x')]: "import '../y/a.ts';",
      [at('y')]: "import '../z/deep/a.ts';",
      [at('z/deep')]: "import '../../x/a.ts';",
    });
    expect(found).toHaveLength(1);
    expect(found[0]).toContain('folder-cycle');
  });

  it('the line', () => {
    const tree = new Map([
      ['packages/base/src/a.ts', "/* 1\n2 */\nconst a = 'b';\nimport '../../protocol/src/a.ts';\n"],
    ]);
    expect(checkArchitecture(tree, architectureRules).map(({ rule, line }) => ({ rule, line }))).toEqual([
      { rule: 'leaves-package', line: 4 },
    ]);
  });
});

describe('the checker allows', () => {
  const cases: [name: string, file: string, text: string][] = [
    ['the imports of the table', 'packages/cli/src/main.ts', "import '@naru/client';\nimport '@naru/broker';"],
    ['testkit in tests', `${broker}/core/a.test.ts`, "import '@naru/testkit';\nimport fs from 'node:fs';"],
    ['a package by its own name in its tests', `${broker}/a.test.ts`, "import '@naru/broker';"],
    ['a lower layer', `${broker}/doors/grpc/a.ts`, "import '../../service/publish.ts';\nimport '../../core/x.ts';"],
    ['everything below at the top', `${broker}/broker.ts`, "import './doors/sniff.ts';\nimport './config.ts';"],
    ['a folder and what is inside it', `${broker}/log/file/a.ts`, "import '../log-store.ts';"],
    ['node: in a -node file', 'packages/protocol/src/compression-node.ts', "import zlib from 'node:zlib';"],
    [
      'words in comments and strings',
      `${broker}/core/a.ts`,
      "// Date.now() of a Manager\nconst a = 'console.log utils';",
    ],
    [
      'imports in comments and strings',
      `${broker}/core/a.ts`,
      "/* import 'node:fs' */ const a = \"import 'node:fs'\";",
    ],
    [
      'quotes in a regular expression',
      `${broker}/core/a.ts`,
      "const a = /['\"`/]/.test(b) ? 1 / 2 / 3 : 'Date.now()';",
    ],
    ['braces in a template', `${broker}/core/a.ts`, 'const a = `${f({ a: { b: 1 } })} Date.now() ${c}`;'],
    ['a member with the name of a timer', `${broker}/core/a.ts`, 'timers.setTimeout(1); const c = { setTimeout: 2 };'],
    ['a date of a value', `${broker}/core/a.ts`, 'const a = new Date(nowMs);'],
    ['what another library calls a Manager', 'packages/client/src/a.ts', 'const x = new Http2SessionManager();'],
    ['implements', 'packages/base/src/a.ts', 'class A implements B {}'],
    [
      'generated files of any size and name',
      'packages/protocol/src/generated/common_pb.ts',
      'let utils;\n'.repeat(600),
    ],
    ['500 lines', 'packages/base/src/a.ts', 'export {};\n'.repeat(500)],
  ];

  it.each(cases)('%s', (_name, file, text) => {
    expect(check({ [file]: text })).toEqual([]);
  });
});
