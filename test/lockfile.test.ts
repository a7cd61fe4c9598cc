/** `npm ci`, with which every first start installs, refuses a lockfile that lacks an optional package of any platform. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { describe, expect, it, onTestFinished } from 'vitest';

const root = path.dirname(import.meta.dirname);
const script = path.join(root, 'scripts', 'complete-lockfile.mjs');

function completeLockfile(...args: string[]): { status: number | null; stdout: string } {
  const { status, stdout } = spawnSync(process.execPath, [script, ...args], { encoding: 'utf8' });
  return { status, stdout };
}

interface Manifest {
  readonly dependencies?: Readonly<Record<string, string>>;
}

function readJson(...file: string[]): unknown {
  return JSON.parse(fs.readFileSync(path.join(root, ...file), 'utf8'));
}

describe('package-lock.json', () => {
  it('has the optional packages of all platforms (else run scripts/complete-lockfile.mjs)', () => {
    expect(completeLockfile('--check')).toMatchObject({ status: 0 });
  });

  it('asks for what the package.json files ask for (else run npm install)', () => {
    const lock = readJson('package-lock.json') as { packages: Record<string, Manifest> };
    const folders = Object.keys(lock.packages).filter((folder) => !folder.includes('node_modules'));
    expect(folders).toContain('packages/broker');
    for (const folder of folders) {
      const { dependencies = {} } = readJson(folder, 'package.json') as Manifest;
      expect({ folder, dependencies: lock.packages[folder]?.dependencies ?? {} }).toEqual({ folder, dependencies });
    }
  });

  it('names no registry', () => {
    expect(fs.readFileSync(path.join(root, 'package-lock.json'), 'utf8')).not.toMatch(/"resolved": "http/);
  });
});

describe('completing a lockfile', () => {
  it('adds what is missing with its platform, in order, and then finds nothing more', () => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'naru-lockfile-'));
    onTestFinished(() => fs.rmSync(folder, { recursive: true }));
    const file = path.join(folder, 'package-lock.json');
    const optionalDependencies = {
      '@x/b-linux-arm64-musl': '1.0.0',
      '@x/a-win32-x64': '1.0.0',
      'other-range': '^1.0.0',
    };
    const owner = { version: '1.0.0', dev: true, optionalDependencies };
    fs.writeFileSync(file, JSON.stringify({ packages: { '': {}, 'node_modules/x': owner } }));

    expect(completeLockfile('--check', file).status).toBe(1);
    expect(completeLockfile(file)).toMatchObject({ status: 0, stdout: expect.stringContaining(': 2 optional') });
    expect(Object.entries(JSON.parse(fs.readFileSync(file, 'utf8')).packages)).toEqual([
      ['', {}],
      ['node_modules/@x/a-win32-x64', { version: '1.0.0', dev: true, optional: true, cpu: ['x64'], os: ['win32'] }],
      [
        'node_modules/@x/b-linux-arm64-musl',
        { version: '1.0.0', dev: true, optional: true, cpu: ['arm64'], libc: ['musl'], os: ['linux'] },
      ],
      ['node_modules/x', owner],
    ]);
    expect(completeLockfile('--check', file).status).toBe(0);
  });
});
