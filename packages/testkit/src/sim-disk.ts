/**
 * A disk that forgets what was not synced.
 *
 * It keeps two states of everything: what a running process sees, and what is durable. A power cut makes a new disk from the
 * durable state and a random part of the rest: each unsynced write is kept, dropped or torn at 512-byte sectors; each
 * unsynced directory entry is kept or forgotten. That is harsher than real file systems are, on purpose.
 *
 * Operations take effect when they are called and complete some microtasks later, by the seeded random, so a run is
 * deterministic as long as nothing else is asynchronous. Data written through 'write-dsync' is durable on completion; a
 * write in flight at the cut is like any unsynced write.
 *
 * Faults are added with {@link SimDisk.addFault}; space is limited with {@link SimDisk.capacityBytes}.
 */
import type { Disk, DiskFile, DiskOpenMode } from '@naru/base';
import type { SeededRandom } from './seeded-random.ts';
import { SimInode } from './sim-inode.ts';

export type SimOperation =
  | 'open'
  | 'write'
  | 'read'
  | 'size'
  | 'truncate'
  | 'sync'
  | 'makeDirectory'
  | 'list'
  | 'rename'
  | 'remove'
  | 'removeDirectory'
  | 'syncDirectory';

/** Makes operations fail. */
export interface SimFault {
  readonly operation: SimOperation;
  /** Default: every path. */
  readonly path?: RegExp | undefined;
  readonly code: string;
  /** Matching operations that still succeed. Default 0. */
  readonly skip?: number | undefined;
  /** Operations that fail. Default: all. */
  readonly times?: number | undefined;
  /** Bytes of a failing write that reach the file all the same. Default 0. */
  readonly partialBytes?: number | undefined;
}

/** Files and directories by path. */
interface Namespace {
  readonly files: Map<string, SimInode>;
  readonly directories: Set<string>;
}

/** A change of a directory that is not durable yet. */
interface EntryChange {
  readonly directory: string;
  readonly apply: (namespace: Namespace) => void;
}

interface ActiveFault {
  readonly fault: SimFault;
  seen: number;
}

const MAX_TURNS = 4;
const MAX_SLOW_TURNS = 5;

export class SimDisk implements Disk {
  /** Bytes of all files together, beyond which writes fail with ENOSPC. Default: unlimited. */
  capacityBytes = Infinity;
  /** Probability that an operation takes a few turns of the event loop, so that others overtake it. Default 0. */
  slowness = 0;
  /** False: 'write-dsync' is opened like 'write'. For proving that a test notices. */
  honoursDsync = true;
  readonly #random: SeededRandom;
  readonly #visible: Namespace;
  readonly #durable: Namespace;
  #changes: EntryChange[] = [];
  #faults: ActiveFault[] = [];
  #operations = 0;
  #cutAt = Infinity;
  #isCut = false;
  #onCut: () => void = () => undefined;
  /** Settles when the power is cut. */
  readonly whenCut: Promise<void>;

  constructor(random: SeededRandom, state?: { visible: Namespace; durable: Namespace; changes: EntryChange[] }) {
    this.#random = random;
    this.#visible = state?.visible ?? emptyNamespace();
    this.#durable = state?.durable ?? emptyNamespace();
    this.#changes = state?.changes ?? [];
    this.whenCut = new Promise((resolve) => {
      this.#onCut = resolve;
    });
  }

  /** Operations begun so far. */
  get operations(): number {
    return this.#operations;
  }

  get isCut(): boolean {
    return this.#isCut;
  }

  /** Bytes of all files. */
  get usedBytes(): number {
    let total = 0;
    for (const inode of this.#visible.files.values()) total += inode.visible.length;
    return total;
  }

  /** Cuts the power when that many more operations have begun: the last one and all later never complete. */
  cutAfter(operations: number): void {
    this.#cutAt = this.#operations + operations;
  }

  cutNow(): void {
    this.#isCut = true;
    this.#onCut();
  }

  /** The disk after the power is back. This one never completes an operation again. */
  powerCut(random: SeededRandom): SimDisk {
    this.cutNow();
    const survived: Namespace = {
      files: new Map(this.#durable.files),
      directories: new Set(this.#durable.directories),
    };
    for (const { apply } of this.#changes) if (random.chance(0.5)) apply(survived);
    const files = new Map<string, SimInode>();
    const inodes = new Map<SimInode, SimInode>();
    for (const [path, inode] of survived.files) {
      if (!isReachable(parentOf(path), survived.directories)) continue;
      const after = inodes.get(inode) ?? inode.afterPowerCut(random);
      inodes.set(inode, after);
      files.set(path, after);
    }
    const directories = new Set([...survived.directories].filter((path) => isReachable(path, survived.directories)));
    const visible = { files, directories };
    const durable = { files: new Map(files), directories: new Set(directories) };
    return new SimDisk(random, { visible, durable, changes: [] });
  }

  /** The disk as the next process finds it when this one was killed: everything visible, nothing more durable. */
  processKill(random: SeededRandom): SimDisk {
    this.cutNow();
    return new SimDisk(random, { visible: this.#visible, durable: this.#durable, changes: this.#changes });
  }

  addFault(fault: SimFault): void {
    this.#faults.push({ fault, seen: 0 });
  }

  clearFaults(): void {
    this.#faults = [];
  }

  /** Every path of a file, sorted. */
  paths(): string[] {
    return [...this.#visible.files.keys()].sort();
  }

  /** A copy of a file's bytes, as a running process sees them. */
  contents(path: string): Uint8Array {
    return this.#require(path).visible.bytes();
  }

  /** Bit rot: changes bytes in what is visible and what is durable. */
  damage(path: string, position: number, bytes: Uint8Array): void {
    const inode = this.#require(path);
    inode.visible.write(bytes, position);
    inode.durable.write(bytes, position);
  }

  /** Loss: the file is gone, durably. */
  lose(path: string): void {
    this.#visible.files.delete(path);
    this.#durable.files.delete(path);
  }

  async open(path: string, mode: DiskOpenMode): Promise<DiskFile> {
    await this.#begin('open', path);
    let inode = this.#visible.files.get(path);
    if (inode === undefined) {
      if (mode === 'read' || !this.#visible.directories.has(parentOf(path))) throw diskError('ENOENT', path);
      inode = new SimInode();
      const created = inode;
      this.#change(parentOf(path), ({ files }) => files.set(path, created));
    }
    await this.#complete();
    return this.#file(path, inode, mode);
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#begin('makeDirectory', path);
    for (const directory of selfAndParents(path)) {
      if (this.#visible.directories.has(directory)) continue;
      this.#change(parentOf(directory), ({ directories }) => directories.add(directory));
    }
    await this.#complete();
  }

  async list(path: string): Promise<string[]> {
    await this.#begin('list', path);
    await this.#complete();
    const names: string[] = [];
    for (const entry of [...this.#visible.files.keys(), ...this.#visible.directories]) {
      if (entry !== path && parentOf(entry) === path) names.push(entry.slice(entry.lastIndexOf('/') + 1));
    }
    return names.sort();
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#begin('rename', from);
    const inode = this.#require(from);
    this.#change(parentOf(to), ({ files }) => {
      if (files.get(from) === inode) files.delete(from);
      files.set(to, inode);
    });
    await this.#complete();
  }

  async remove(path: string): Promise<void> {
    await this.#begin('remove', path);
    this.#removeFile(path);
    await this.#complete();
  }

  async removeDirectory(path: string): Promise<void> {
    await this.#begin('removeDirectory', path);
    const inside = `${path}/`;
    const { files, directories: all } = this.#visible;
    for (const file of files.keys()) if (file.startsWith(inside)) this.#removeFile(file);
    for (const directory of all) {
      if (directory !== path && !directory.startsWith(inside)) continue;
      this.#change(parentOf(directory), ({ directories }) => directories.delete(directory));
    }
    await this.#complete();
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#begin('syncDirectory', path);
    if (!this.#visible.directories.has(path)) throw diskError('ENOENT', path);
    const changes = this.#changes.filter(({ directory }) => directory === path);
    await this.#complete();
    for (const { apply } of changes) apply(this.#durable);
    this.#changes = this.#changes.filter((change) => !changes.includes(change));
  }

  #removeFile(path: string): void {
    const inode = this.#visible.files.get(path);
    if (inode === undefined) return;
    this.#change(parentOf(path), ({ files }) => {
      if (files.get(path) === inode) files.delete(path);
    });
  }

  #change(directory: string, apply: (namespace: Namespace) => void): void {
    apply(this.#visible);
    this.#changes.push({ directory, apply });
  }

  #require(path: string): SimInode {
    const inode = this.#visible.files.get(path);
    if (inode === undefined) throw diskError('ENOENT', path);
    return inode;
  }

  #file(path: string, inode: SimInode, mode: DiskOpenMode): DiskFile {
    const dsync = mode === 'write-dsync' && this.honoursDsync;
    return {
      write: async (buffers, position) => {
        const fault = await this.#begin('write', path, true);
        const data = concatenate(buffers);
        const room = this.capacityBytes - this.usedBytes + inode.visible.length - position;
        const allowed =
          fault === null ? Math.max(0, Math.min(data.length, room)) : Math.min(fault.partialBytes ?? 0, data.length);
        const write = inode.write(data.subarray(0, allowed), position);
        await this.#complete();
        if (fault !== null) throw diskError(fault.code, path);
        if (allowed < data.length) throw diskError('ENOSPC', path);
        if (dsync) inode.makeDurable(write);
      },
      read: async (buffer, position) => {
        await this.#begin('read', path);
        await this.#complete();
        return inode.visible.read(buffer, position);
      },
      size: async () => {
        await this.#begin('size', path);
        await this.#complete();
        return inode.visible.length;
      },
      truncate: async (size) => {
        await this.#begin('truncate', path);
        inode.truncate(size);
        await this.#complete();
      },
      sync: async () => {
        await this.#begin('sync', path);
        const until = inode.pendingCount;
        await this.#complete();
        inode.sync(until);
      },
      close: async () => this.#complete(),
    };
  }

  async #begin(operation: SimOperation, path: string, partial = false): Promise<SimFault | null> {
    if (!this.#isCut) {
      this.#operations += 1;
      // The operation at the cut still takes effect, without completing.
      if (this.#operations >= this.#cutAt) queueMicrotask(() => this.cutNow());
    } else await never();
    for (const active of this.#faults) {
      const { fault } = active;
      if (fault.operation !== operation || (fault.path !== undefined && !fault.path.test(path))) continue;
      active.seen += 1;
      const nth = active.seen - (fault.skip ?? 0);
      if (nth < 1 || nth > (fault.times ?? Infinity)) continue;
      if (partial) return fault;
      await this.#complete();
      throw diskError(fault.code, path);
    }
    return null;
  }

  async #complete(): Promise<void> {
    for (let turns = 1 + this.#random.integer(MAX_TURNS); turns > 0; turns--) await Promise.resolve();
    if (this.slowness > 0 && this.#random.chance(this.slowness)) {
      for (let turns = 1 + this.#random.integer(MAX_SLOW_TURNS); turns > 0; turns--) await nextTurn();
    }
    if (this.#isCut) await never();
  }
}

function never(): Promise<never> {
  return new Promise(() => undefined);
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

function emptyNamespace(): Namespace {
  return { files: new Map(), directories: new Set(['/', '']) };
}

function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

function selfAndParents(path: string): string[] {
  const paths: string[] = [];
  for (let at = path; at !== '/'; at = parentOf(at)) paths.unshift(at);
  return paths;
}

function isReachable(path: string, directories: ReadonlySet<string>): boolean {
  return path === '' || path === '/' || selfAndParents(path).every((parent) => directories.has(parent));
}

function concatenate(buffers: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(buffers.reduce((sum, buffer) => sum + buffer.length, 0));
  let at = 0;
  for (const buffer of buffers) {
    bytes.set(buffer, at);
    at += buffer.length;
  }
  return bytes;
}

function diskError(code: string, path: string): Error {
  return Object.assign(new Error(`${code}: simulated, ${path}`), { code });
}
