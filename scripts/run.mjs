#!/usr/bin/env node
/**
 * Runs a piece of this repository on its own Node 24, whatever Node the machine has, and installs the dependencies
 * first when they are missing or stale.
 *
 *   node scripts/run.mjs [--env K=V]… naru …args          the command line, packages/cli/src/main.mjs
 *   node scripts/run.mjs [--env K=V]… path/to/file.ts …   a file, from the working directory or the repository
 *   node scripts/run.mjs [--env K=V]… --bin NAME …args    a binary of the installed packages
 *   node scripts/run.mjs --install                        the dependencies alone
 *
 * Owns: the command line, the child's environment, and that this process ends as the child does. What is installed and
 * when: dependencies.mjs. Signals: child-outcome.mjs.
 *
 * Invariants:
 * - Plain JavaScript without dependencies for Node 16 and later: it runs before anything is installed.
 * - stdout belongs to the child; everything said here goes to stderr.
 */
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

import { RunError, outcomeOf, say } from './child-outcome.mjs';
import { chooseNode, ensureInstalled, modules, root } from './dependencies.mjs';

const cliMain = path.join(root, 'packages', 'cli', 'src', 'main.mjs');

/** JavaScript file of the installed packages' binary `name`: what npm's shims call, on any platform. */
function resolveBinary(name) {
  const { packages } = JSON.parse(fs.readFileSync(path.join(modules, '.package-lock.json'), 'utf8'));
  const owners = Object.keys(packages).filter((key) => packages[key].bin && packages[key].bin[name]);
  if (owners.length === 0) throw new RunError(`no installed package has a binary called ${name}`);
  const owner = owners.reduce((best, key) => (key.length < best.length ? key : best));
  return path.join(root, owner, packages[owner].bin[name]);
}

/** A native binary runs as it is, a script of any other kind on our Node. */
function isNative(file) {
  const descriptor = fs.openSync(file, 'r');
  try {
    const head = Buffer.alloc(4);
    fs.readSync(descriptor, head, 0, 4, 0);
    const magic = head.toString('latin1');
    return magic === '\x7fELF' || magic.startsWith('MZ') || head.readUInt32LE(0) === 0xfeedfacf;
  } finally {
    fs.closeSync(descriptor);
  }
}

function resolveFile(name) {
  for (const base of [process.cwd(), root]) {
    const file = path.resolve(base, name);
    if (fs.existsSync(file)) return file;
  }
  throw new RunError(`no such file: ${name}`);
}

function parseArguments(argv) {
  const env = {};
  let index = 0;
  for (; argv[index] === '--env'; index += 2) {
    const match = /^([^=]+)=(.*)$/s.exec(argv[index + 1] || '');
    if (match === null) throw new RunError('--env takes NAME=VALUE');
    env[match[1]] = match[2];
  }
  const [what, ...rest] = argv.slice(index);
  if (what === undefined) throw new RunError('what is to be run? naru, a file, or --bin NAME');
  if (what !== '--bin') return { env, kind: what === '--install' ? 'install' : 'file', what, args: rest };
  if (rest.length === 0) throw new RunError('--bin takes a name');
  return { env, kind: 'binary', what: rest[0], args: rest.slice(1) };
}

function nodeFlags(node, isCommandLine) {
  // Type stripping and node:sqlite are what we rely on; that they are called experimental is no news to the user.
  const flags = ['--disable-warning=ExperimentalWarning'];
  // Batches live outside V8's heap. Without this, every 64 MiB of them set off a collection of the whole heap, which takes
  // up to half of the time of a busy broker or publisher. A flag of V8, so only for the Node that is known to have it. Node
  // compiles its own modules anew by it, so the command line, which has to start quickly, sets it later: commands/start.ts.
  if (!isCommandLine && node.startsWith(modules)) flags.push('--external-memory-accounted-in-global-limit');
  return flags;
}

function childCommand(node, { kind, what, args }) {
  if (kind === 'binary') {
    const file = resolveBinary(what);
    return isNative(file) ? [file, args] : [node, [file, ...args]];
  }
  const file = what === 'naru' ? cliMain : resolveFile(what);
  return [node, [...nodeFlags(node, what === 'naru'), file, ...args]];
}

function childEnvironment(extra, isCommandLine) {
  const env = { ...process.env };
  const pathName = Object.keys(env).find((name) => name.toUpperCase() === 'PATH') || 'PATH';
  env[pathName] = [path.join(modules, '.bin'), env[pathName]].filter(Boolean).join(path.delimiter);
  // Keeps compiled code between starts. The command line has a cache of its own: main.mjs.
  if (!isCommandLine && env.NODE_COMPILE_CACHE === undefined)
    env.NODE_COMPILE_CACHE = path.join(modules, '.cache', 'node');
  return { ...env, ...extra };
}

/**
 * Runs what `argv` says and ends this process as it ended: same exit code, same signal.
 * Its own failures end with code 1 and one line on stderr.
 */
export async function run(argv) {
  try {
    const request = parseArguments(argv);
    const stamp = await ensureInstalled();
    if (request.kind === 'install') return;
    const [file, args] = childCommand(chooseNode(stamp), request);
    const child = spawn(file, args, { stdio: 'inherit', env: childEnvironment(request.env, request.what === 'naru') });
    const { code, signal } = await outcomeOf(child, `cannot run ${file}`);
    process.exitCode = code === null ? 1 : code;
    if (signal !== null) process.kill(process.pid, signal);
  } catch (error) {
    if (!(error instanceof RunError)) throw error;
    say(error.message);
    process.exitCode = 1;
  }
}

if (process.argv[1] !== undefined && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  await run(process.argv.slice(2));
}
