/**
 * Loads the files of a bundle, with what V8 compiled of them at an earlier start.
 *
 * Node's own cache of compiled code has what is compiled when a file is loaded. Functions are compiled when they are first called,
 * which took more of a start than all loading; here, those that had been called when the code was kept are compiled already.
 *
 * Plain JavaScript that imports nothing but Node's own: it runs before anything else of the command does.
 *
 * Invariants:
 * - Names of files in a bundle have a hash of what is in them: V8 itself would take code of any other text of the same length.
 * - Code is kept and taken by the same version of Node and the same flags of V8, or not at all. Without it everything works, later.
 */
import { existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';
import path from 'node:path';
import process from 'node:process';
import { cachedDataVersionTag } from 'node:v8';
import { Script, constants } from 'node:vm';
import { crc32 } from 'node:zlib';

const CHECKSUM_BYTES = 4;
/** A bundle that is older was replaced long ago, or is compiled anew once. */
const KEPT_MS = 30 * 86_400_000;

export class KeptCode {
  #directory;
  #flags = cachedDataVersionTag();
  /** Module by file. */
  #modules = new Map();
  /** What is not kept yet, by file. */
  #scripts = new Map();

  /**
   * @param directory where code is kept, a directory that is there; null for nowhere
   * @param kind of run: code that others ran is of little use
   */
  constructor(directory, kind) {
    const version = `${process.version}-${process.arch}-${this.#flags.toString(16)}-${kind}`;
    this.#directory = directory === null ? null : path.join(directory, version);
  }

  /** What `file` exports, a CommonJS module of a bundle. */
  load(file) {
    const known = this.#modules.get(file);
    if (known !== undefined) return known.exports;
    const module = { exports: {} };
    this.#modules.set(file, module);
    const directory = path.dirname(file);
    const other = createRequire(file);
    const require = (name) => (name.startsWith('./') ? this.load(path.join(directory, name)) : other(name));
    this.#script(file).runInThisContext()(module.exports, require, module, file, directory);
    return module.exports;
  }

  /** Keeps what is compiled by now of files that had nothing kept. Throws nothing. */
  keep() {
    // Code says by which flags it was compiled, and would be refused.
    if (this.#directory === null || this.#scripts.size === 0 || cachedDataVersionTag() !== this.#flags) return;
    try {
      if (!existsSync(this.#directory)) mkdirSync(this.#directory);
      for (const [file, script] of this.#scripts) this.#write(file, script.createCachedData());
      this.#scripts.clear();
      for (const name of readdirSync(this.#directory)) {
        const kept = path.join(this.#directory, name);
        if (statSync(kept).mtimeMs < Date.now() - KEPT_MS) rmSync(kept, { force: true });
      }
    } catch {
      // The disk is full, or somebody else removes the same: the next start compiles again.
    }
  }

  #script(file) {
    const kept = this.#read(file);
    const script = new Script(Module.wrap(readFileSync(file, 'utf8')), {
      filename: file,
      cachedData: kept,
      importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
    });
    if (kept === undefined || script.cachedDataRejected === true) this.#scripts.set(file, script);
    return script;
  }

  #read(file) {
    if (this.#directory === null) return undefined;
    try {
      const kept = readFileSync(this.#pathOf(file));
      const code = kept.subarray(CHECKSUM_BYTES);
      // V8 would run what a full disk or a power cut left of it.
      return crc32(code) === kept.readUInt32LE() ? code : undefined;
    } catch {
      return undefined;
    }
  }

  /** All or nothing: another process may read it, or write the same. */
  #write(file, code) {
    const checksum = Buffer.alloc(CHECKSUM_BYTES);
    checksum.writeUInt32LE(crc32(code));
    const written = `${this.#pathOf(file)}.${process.pid}`;
    writeFileSync(written, Buffer.concat([checksum, code]));
    renameSync(written, this.#pathOf(file));
  }

  #pathOf(file) {
    return path.join(this.#directory, path.basename(file));
  }
}
