#!/usr/bin/env node
/**
 * Adds to package-lock.json the optional packages of other platforms that npm left out, and prints how many.
 *
 * npm records an optional package only when the registry could give it at that moment, but `npm ci` refuses a lockfile
 * that lacks one, on every machine. Their versions are exact in the packages that ask for them, and their names say
 * the platform, so an entry needs nothing else. Run it after `npm install` (test/lockfile.test.ts says when).
 *
 *   node scripts/complete-lockfile.mjs [--check] [FILE]
 *
 * With --check nothing is written, and the exit code is 1 when something is missing. FILE is this repository's
 * package-lock.json unless given.
 *
 * Plain JavaScript without dependencies, Node 18 and later.
 */
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

const exactVersion = /^\d+\.\d+\.\d+(-[\w.]+)?$/;
const systems = ['darwin', 'linux', 'win32', 'android', 'freebsd', 'openbsd', 'netbsd', 'sunos', 'aix', 'openharmony'];
/** Longest first: `arm` is in `arm64`. */
const processors = [
  'arm64',
  'aarch64',
  'armv7',
  'arm',
  'x86_64',
  'x64',
  'ia32',
  'ppc64',
  'riscv64',
  's390x',
  'loong64',
];
const nodeProcessors = { aarch64: 'arm64', armv7: 'arm', x86_64: 'x64' };

/** What a platform package's name says of where it runs; npm compares it with process.platform, arch and libc. */
function platformOf(name) {
  const words = name.slice(name.indexOf('/') + 1).split(/[-.]/);
  const system = systems.find((each) => words.includes(each));
  const processor = processors.find((each) => words.includes(each));
  if (system === undefined || processor === undefined) return undefined;
  const cpu = [nodeProcessors[processor] || processor];
  if (words.some((word) => word.startsWith('musl'))) return { cpu, libc: ['musl'], os: [system] };
  if (system === 'linux' && words.some((word) => word.startsWith('gnu'))) return { cpu, libc: ['glibc'], os: [system] };
  return { cpu, os: [system] };
}

/** The entries that `lock` lacks, by their path in it. */
function missingEntries(lock) {
  const missing = {};
  for (const [owner, entry] of Object.entries(lock.packages)) {
    for (const [name, version] of Object.entries(entry.optionalDependencies || {})) {
      // Where node would look from the owner: its own node_modules, then each one above.
      const candidates = [`${owner}/node_modules/${name}`, `node_modules/${name}`];
      if (candidates.some((candidate) => lock.packages[candidate] !== undefined)) continue;
      const platform = platformOf(name);
      if (platform === undefined || !exactVersion.test(version)) continue;
      const { cpu, libc, os } = platform;
      // In the order in which npm writes them.
      const entryHere = { version, cpu, dev: entry.dev, libc, optional: true, os };
      missing[`node_modules/${name}`] = JSON.parse(JSON.stringify(entryHere));
    }
  }
  return missing;
}

/** Keeps npm's order of entries, so that its next run changes nothing. */
function completeLockfile(lock) {
  const packages = { ...lock.packages, ...missingEntries(lock) };
  const names = Object.keys(packages).sort((a, b) => a.localeCompare(b, 'en'));
  return { ...lock, packages: Object.fromEntries(names.map((name) => [name, packages[name]])) };
}

const args = process.argv.slice(2);
const check = args.includes('--check');
const ownLockfile = path.join(path.dirname(fileURLToPath(import.meta.url)), '..', 'package-lock.json');
const file = args.find((arg) => !arg.startsWith('--')) || ownLockfile;
const lock = JSON.parse(fs.readFileSync(file, 'utf8'));
const count = Object.keys(missingEntries(lock)).length;
if (count > 0 && !check) fs.writeFileSync(file, `${JSON.stringify(completeLockfile(lock), null, 2)}\n`);
process.stdout.write(
  `package-lock.json: ${count} optional packages of other platforms ${check ? 'missing' : 'added'}\n`,
);
if (count > 0 && check) process.exitCode = 1;
