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
 * Faults are added with {@link SimDisk.addFault}; space is limited with {@link SimDisk.capacityBytes} and
 * {@link SimDisk.maxEntries}.
 */
import type { Disk, DiskFile, DiskOpenMode } from '@naru/base';
import { crc32c } from '@naru/protocol/batch';
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
  /**
   * A failing sync drops what it should have made durable, as Linux does: readers go on seeing it, a later sync succeeds,
   * and it never reaches the disk. Default: it stays unsynced.
   */
  readonly discards?: boolean | undefined;
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

/** What one disk leaves to the next. */
interface DiskState {
  readonly visible: Namespace;
  readonly durable: Namespace;
  readonly changes: EntryChange[];
  readonly trace: string;
}

interface ActiveFault {
  readonly fault: SimFault;
  seen: number;
}

/** What else there is to say of an operation that begins. */
interface Begin {
  readonly mutates?: boolean | undefined;
  /** Its arguments, for the trace. */
  readonly detail?: string | undefined;
  /** Its caller makes it fail. */
  readonly handlesFault?: boolean | undefined;
}

const MAX_TURNS = 4;
const MAX_SLOW_TURNS = 5;

export class SimDisk implements Disk {
  /** Bytes of all files together, beyond which writes fail with ENOSPC. Default: unlimited. */
  capacityBytes = Infinity;
  /** Files and directories together, beyond which none is added: creating and renaming fail with ENOSPC. Default: unlimited. */
  maxEntries = Infinity;
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
  #mutations = 0;
  #cutAt = Infinity;
  #cutAtMutation = Infinity;
  #trace: number;
  /** What {@link trace} has yet to take in. */
  readonly #notes: string[] = [];
  #isCut = false;
  #onCut: () => void = () => undefined;
  /** Settles when the power is cut. */
  readonly whenCut: Promise<void>;

  constructor(random: SeededRandom, state?: DiskState) {
    this.#random = random;
    this.#trace = Number.parseInt(state?.trace ?? '0', 16);
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

  /** Operations begun so far that change what is on the disk, or make it durable. */
  get mutations(): number {
    return this.#mutations;
  }

  /** A checksum of every operation so far, its arguments and its outcome, on this disk and those before it. */
  get trace(): string {
    this.#trace = crc32c(new TextEncoder().encode(this.#notes.splice(0).join('\n')), this.#trace);
    return this.#trace.toString(16).padStart(8, '0');
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

  /** The same, counting as {@link mutations} does. */
  cutAfterMutations(mutations: number): void {
    this.#cutAtMutation = this.#mutations + mutations;
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
    return new SimDisk(random, { visible, durable, changes: [], trace: this.trace });
  }

  /** The disk as the next process finds it when this one was killed: everything visible, nothing more durable. */
  processKill(random: SeededRandom): SimDisk {
    this.cutNow();
    const state = { visible: this.#visible, durable: this.#durable, changes: this.#changes, trace: this.trace };
    return new SimDisk(random, state);
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
    await this.#begin('open', path, { mutates: mode !== 'read' && !this.#visible.files.has(path), detail: mode });
    let inode = this.#visible.files.get(path);
    if (inode === undefined) {
      if (mode === 'read' || !this.#visible.directories.has(parentOf(path))) throw this.#failed('ENOENT', path);
      this.#needEntry(path);
      inode = new SimInode();
      const created = inode;
      this.#change(parentOf(path), ({ files }) => files.set(path, created));
    }
    await this.#complete();
    return this.#file(path, inode, mode);
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#begin('makeDirectory', path, { mutates: !this.#visible.directories.has(path) });
    for (const directory of selfAndParents(path)) {
      if (this.#visible.directories.has(directory)) continue;
      this.#needEntry(path);
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
    names.sort();
    this.#note(names.join(' '));
    return names;
  }

  async rename(from: string, to: string): Promise<void> {
    await this.#begin('rename', from, { mutates: true, detail: to });
    const inode = this.#require(from);
    if (!this.#visible.files.has(to)) this.#needEntry(to);
    this.#change(parentOf(to), ({ files }) => {
      if (files.get(from) === inode) files.delete(from);
      files.set(to, inode);
    });
    await this.#complete();
  }

  async remove(path: string): Promise<void> {
    await this.#begin('remove', path, { mutates: true });
    this.#removeFile(path);
    await this.#complete();
  }

  async removeDirectory(path: string): Promise<void> {
    await this.#begin('removeDirectory', path, { mutates: true });
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
    await this.#begin('syncDirectory', path, { mutates: true });
    if (!this.#visible.directories.has(path)) throw this.#failed('ENOENT', path);
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
    if (inode === undefined) throw this.#failed('ENOENT', path);
    return inode;
  }

  /** Directories need space too. A file's new name may need as much as a new file. */
  #needEntry(path: string): void {
    const { files, directories } = this.#visible;
    if (files.size + directories.size >= this.maxEntries) throw this.#failed('ENOSPC', path);
  }

  #file(path: string, inode: SimInode, mode: DiskOpenMode): DiskFile {
    const dsync = mode === 'write-dsync' && this.honoursDsync;
    return {
      write: async (buffers, position) => {
        const data = concatenate(buffers);
        const detail = `${position} ${data.length} ${crc32c(data)}`;
        const fault = await this.#begin('write', path, { mutates: true, detail, handlesFault: true });
        const isLimited = this.capacityBytes !== Infinity;
        const room = isLimited ? this.capacityBytes - this.usedBytes + inode.visible.length - position : Infinity;
        const allowed =
          fault === null ? Math.max(0, Math.min(data.length, room)) : Math.min(fault.partialBytes ?? 0, data.length);
        const write = inode.write(data.subarray(0, allowed), position);
        await this.#complete();
        if (fault !== null) throw this.#failed(fault.code, path);
        if (allowed < data.length) throw this.#failed('ENOSPC', path);
        if (dsync) inode.makeDurable(write);
      },
      read: async (buffer, position) => {
        await this.#begin('read', path, { detail: `${position} ${buffer.length}` });
        await this.#complete();
        const read = inode.visible.read(buffer, position);
        this.#note(`${crc32c(buffer.subarray(0, read))}`);
        return read;
      },
      size: async () => {
        await this.#begin('size', path);
        await this.#complete();
        this.#note(`${inode.visible.length}`);
        return inode.visible.length;
      },
      truncate: async (size) => {
        await this.#begin('truncate', path, { mutates: true, detail: `${size}` });
        inode.truncate(size);
        await this.#complete();
      },
      sync: async () => {
        const fault = await this.#begin('sync', path, { mutates: true, handlesFault: true });
        const until = inode.pendingCount;
        await this.#complete();
        if (fault === null) return inode.sync(until);
        if (fault.discards === true) inode.discard(until);
        throw this.#failed(fault.code, path);
      },
      close: async () => this.#complete(),
    };
  }

  async #begin(operation: SimOperation, path: string, { mutates, detail, handlesFault }: Begin = {}) {
    if (this.#isCut) await never();
    this.#operations += 1;
    if (mutates === true) this.#mutations += 1;
    this.#note(`${operation} ${path} ${detail ?? ''}`);
    // The operation at the cut still takes effect, without completing.
    if (this.#operations >= this.#cutAt || this.#mutations >= this.#cutAtMutation) queueMicrotask(() => this.cutNow());
    for (const active of this.#faults) {
      const { fault } = active;
      if (fault.operation !== operation || (fault.path !== undefined && !fault.path.test(path))) continue;
      active.seen += 1;
      const nth = active.seen - (fault.skip ?? 0);
      if (nth < 1 || nth > (fault.times ?? Infinity)) continue;
      if (handlesFault === true) return fault;
      await this.#complete();
      throw this.#failed(fault.code, path);
    }
    return null;
  }

  #failed(code: string, path: string): Error {
    this.#note(code);
    return Object.assign(new Error(`${code}: simulated, ${path}`), { code });
  }

  #note(what: string): void {
    this.#notes.push(what);
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
