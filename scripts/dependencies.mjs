/**
 * The dependencies of this repository: whether node_modules is what package-lock.json says, how it becomes so, and which
 * Node is in it.
 *
 * Invariants:
 * - Plain JavaScript without dependencies for Node 16 and later: it runs before anything is installed.
 * - Nothing is written to stdout.
 * - Two processes at once install once: the second waits for the first (`.naru-install.lock`).
 * - A node_modules that npm has already brought up to date is taken as it is.
 *
 * NARU_SKIP_INSTALL=1 takes node_modules as it is in any case.
 */
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';

import { RunError, outcomeOf, say } from './child-outcome.mjs';

/** The repository. */
export const root = path.dirname(path.dirname(fileURLToPath(import.meta.url)));
export const modules = path.join(root, 'node_modules');
const lockfilePath = path.join(root, 'package-lock.json');
const stampPath = path.join(modules, '.naru-install-stamp');
const installLockPath = path.join(root, '.naru-install.lock');

const minimumNodeMajor = 24;
/** How often the process that installs touches its lock. */
const heartbeatMs = 2_000;
/** A lock untouched for so long has lost its owner. */
const staleLockMs = 30_000;
/** How often a process that waits for another one's installation looks again. */
const lockPollMs = 200;
/** An installation that takes longer is not waited for. */
const lockWaitLimitMs = 15 * 60_000;

/** The file's text, or undefined when there is none. */
function readIfThere(file) {
  try {
    return fs.readFileSync(file, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
    throw error;
  }
}

/** Node binaries that npm may have installed for this platform, relative to node_modules. */
function bundledNodes() {
  const platform = process.platform === 'win32' ? 'win' : process.platform;
  const file = process.platform === 'win32' ? 'node.exe' : 'node';
  const names = [`node-${platform}-${process.arch}`, `node-bin-${platform}-${process.arch}`];
  return names.map((name) => path.join(name, 'bin', file));
}

/** The first bundled Node that starts here (it does not on another libc), relative to node_modules, or null. */
function findBundledNode() {
  for (const candidate of bundledNodes()) {
    const file = path.join(modules, candidate);
    if (fs.existsSync(file) && spawnSync(file, ['--version'], { stdio: 'ignore' }).status === 0) return candidate;
  }
  return null;
}

export function chooseNode(stamp) {
  if (stamp.node !== null) return path.join(modules, stamp.node);
  if (Number.parseInt(process.versions.node, 10) >= minimumNodeMajor) return process.execPath;
  throw new RunError(
    `needs Node ${minimumNodeMajor}: none was installed for ${process.platform}-${process.arch} ` +
      `(optional dependencies left out?), and this is Node ${process.versions.node}`,
  );
}

/** What node_modules should be made from: the lockfile, on this platform. */
function expectedStamp(lockfile) {
  const lock = createHash('sha256').update(lockfile).digest('hex');
  return { lock, platform: `${process.platform}-${process.arch}` };
}

/** The stamp in node_modules when it is the expected one, else undefined. */
function currentStamp(expected) {
  let stamp;
  try {
    stamp = JSON.parse(readIfThere(stampPath) || 'null');
  } catch {
    return undefined; // Cut short by a crash.
  }
  if (!stamp || stamp.lock !== expected.lock || stamp.platform !== expected.platform) return undefined;
  if (stamp.node && !fs.existsSync(path.join(modules, stamp.node))) return undefined;
  return stamp;
}

function writeStamp(expected) {
  const stamp = { ...expected, node: findBundledNode() };
  const temporary = `${stampPath}.${process.pid}`;
  fs.writeFileSync(temporary, `${JSON.stringify(stamp)}\n`);
  fs.renameSync(temporary, stampPath);
  return stamp;
}

/**
 * True when somebody else's npm has already installed what the lockfile says: npm's own record of node_modules has each
 * of its packages, except optional ones of other platforms.
 */
function installedByHand(lockfile) {
  const record = readIfThere(path.join(modules, '.package-lock.json'));
  if (record === undefined) return false;
  const wanted = JSON.parse(lockfile).packages;
  const present = JSON.parse(record).packages;
  const runsHere = (list, value) =>
    list === undefined || list.includes(value) || (list[0].startsWith('!') && !list.includes(`!${value}`));
  return Object.entries(wanted).every(([name, entry]) => {
    if (name === '') return true;
    const found = present[name];
    if (found === undefined) return entry.optional === true && !isOurNode(name, entry, runsHere);
    if (!fs.existsSync(path.join(root, name))) return false;
    return found.version === entry.version && found.integrity === entry.integrity && found.resolved === entry.resolved;
  });
}

/** An optional package that may not be missing here: the platform's Node. */
function isOurNode(name, entry, runsHere) {
  return (
    bundledNodes().some((file) => name === `node_modules/${file.split(path.sep)[0]}`) &&
    runsHere([].concat(entry.os || process.platform), process.platform) &&
    runsHere([].concat(entry.cpu || process.arch), process.arch)
  );
}

/** Makes node_modules what package-lock.json says, and answers its stamp. */
export async function ensureInstalled() {
  const lockfile = readIfThere(lockfilePath);
  if (lockfile === undefined) throw new RunError(`${lockfilePath} is missing`);
  const expected = expectedStamp(lockfile);
  const stamp = currentStamp(expected);
  if (stamp !== undefined) return stamp;
  if (process.env.NARU_SKIP_INSTALL === '1') return { ...expected, node: findBundledNode() };

  const release = await takeInstallLock();
  try {
    const afterWaiting = currentStamp(expected); // Another process may have done it meanwhile.
    if (afterWaiting !== undefined) return afterWaiting;
    if (!installedByHand(lockfile)) await install();
    return writeStamp(expected);
  } finally {
    release();
  }
}

/** How to call npm: the one that runs us, or the one on the path. */
function npmCommand() {
  const running = process.env.npm_execpath;
  if (running !== undefined && /^np[mx]-cli\.c?js$/.test(path.basename(running))) {
    const file = path.join(path.dirname(running), path.basename(running).replace('npx', 'npm'));
    if (fs.existsSync(file)) return { file: process.execPath, args: [file], shell: false };
  }
  return { file: 'npm', args: [], shell: process.platform === 'win32' };
}

/** npm's settings for the command that runs us (which package `npx` is to run, say) are not meant for `npm ci`. */
function npmEnvironment() {
  const env = { ...process.env };
  const keep =
    /^npm_config_(cache|registry|userconfig|globalconfig|(https?_?)?proxy|noproxy|cafile|ca|strict_ssl)$|^npm_config_\/\//i;
  for (const name of Object.keys(env)) {
    if (/^npm_(config|package|lifecycle)_/i.test(name) && !keep.test(name)) delete env[name];
  }
  return env;
}

async function install() {
  const reason = fs.existsSync(modules) ? 'node_modules is not what package-lock.json says' : 'first start';
  say(`installing dependencies (${reason}; once, needs the network)…`);
  const startedAt = Date.now();
  const { file, args, shell } = npmCommand();
  const options = ['ci', '--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  // npm's stdout goes to our stderr: ours is for the child alone.
  const child = spawn(file, [...args, ...options], {
    cwd: root,
    env: npmEnvironment(),
    shell,
    stdio: ['ignore', 2, 2],
  });
  const { code, signal } = await outcomeOf(child, `cannot run npm (${file})`);
  if (signal !== null) throw new RunError(`npm ci was stopped by ${signal}`);
  if (code !== 0) throw new RunError(`npm ci failed with exit code ${code}; see above`);
  say(`dependencies installed in ${((Date.now() - startedAt) / 1000).toFixed(1)} s`);
}

/** Takes the lock, waiting for whoever has it, and answers the function that gives it back. */
async function takeInstallLock() {
  const waitUntil = Date.now() + lockWaitLimitMs;
  for (let told = false; ;) {
    if (createLock()) break;
    if (!removeStaleLock()) {
      if (!told) say('another process is installing the dependencies, waiting for it…');
      told = true;
      if (Date.now() > waitUntil) throw new RunError(`gave up waiting; is ${installLockPath} left over?`);
      await new Promise((resolve) => setTimeout(resolve, lockPollMs));
    }
  }
  const heartbeat = setInterval(() => {
    const now = new Date();
    fs.utimes(installLockPath, now, now, () => {}); // A lock that somebody removed is not worth dying for.
  }, heartbeatMs);
  return () => {
    clearInterval(heartbeat);
    fs.rmSync(installLockPath, { force: true });
  };
}

function createLock() {
  try {
    fs.writeFileSync(installLockPath, `${os.hostname()} ${process.pid}\n`, { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    if (error.code === 'EACCES' || error.code === 'EROFS') {
      throw new RunError(`dependencies must be installed first, and ${root} is not writable`);
    }
    throw error;
  }
}

/** Removes a lock that nobody touches any more. True when it is worth trying to take it again at once. */
function removeStaleLock() {
  let touchedAt;
  try {
    touchedAt = fs.statSync(installLockPath).mtimeMs;
  } catch {
    return true; // Given back meanwhile.
  }
  if (Date.now() - touchedAt < staleLockMs) return false;
  // Of several that see the same stale lock only one succeeds in moving it away.
  const moved = `${installLockPath}.${process.pid}`;
  try {
    fs.renameSync(installLockPath, moved);
    fs.rmSync(moved, { force: true });
  } catch {
    // Another one was faster.
  }
  return true;
}
