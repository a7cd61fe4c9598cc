/** One file of a SimDisk: what is visible, what is durable, and the changes between the two. */
import type { SeededRandom } from './seeded-random.ts';

const SECTOR_BYTES = 512;

/** A byte array that grows. */
export class SimBytes {
  #buffer: Uint8Array = new Uint8Array(0);
  #length = 0;

  get length(): number {
    return this.#length;
  }

  bytes(): Uint8Array {
    return this.#buffer.slice(0, this.#length);
  }

  write(data: Uint8Array, position: number): void {
    const end = position + data.length;
    this.#reserve(end);
    this.#buffer.set(data, position);
    this.#length = Math.max(this.#length, end);
  }

  truncate(size: number): void {
    this.#reserve(size);
    // Bytes beyond the end are zeros, as on a real disk.
    if (size < this.#length) this.#buffer.fill(0, size, this.#length);
    this.#length = size;
  }

  read(into: Uint8Array, position: number): number {
    const part = this.#buffer.subarray(position, Math.min(position + into.length, this.#length));
    into.set(part);
    return part.length;
  }

  copy(): SimBytes {
    const copy = new SimBytes();
    copy.write(this.bytes(), 0);
    return copy;
  }

  #reserve(size: number): void {
    if (size <= this.#buffer.length) return;
    const grown = new Uint8Array(Math.max(size, this.#buffer.length * 2, 4096));
    grown.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = grown;
  }
}

/** A change that is not durable. */
export type PendingChange =
  | { readonly type: 'write'; readonly data: Uint8Array; readonly position: number }
  | { readonly type: 'truncate'; readonly size: number };

export class SimInode {
  readonly visible: SimBytes;
  readonly durable: SimBytes;
  #pending: PendingChange[] = [];

  constructor(contents = new SimBytes()) {
    this.visible = contents;
    this.durable = contents.copy();
  }

  get pendingCount(): number {
    return this.#pending.length;
  }

  write(data: Uint8Array, position: number): PendingChange {
    const change: PendingChange = { type: 'write', data, position };
    this.visible.write(data, position);
    this.#pending.push(change);
    return change;
  }

  truncate(size: number): void {
    this.visible.truncate(size);
    this.#pending.push({ type: 'truncate', size });
  }

  /** Makes this change durable, and no other but what it overwrites: a page is never older on the disk than before. */
  makeDurable(change: PendingChange): void {
    const at = this.#pending.indexOf(change);
    if (at < 0) return;
    const earlier = this.#pending.slice(0, at + 1);
    const involved = new Set(earlier.filter((other) => other === change || overlap(other, change)));
    for (const other of earlier) if (involved.has(other)) apply(this.durable, other);
    this.#pending = this.#pending.filter((other) => !involved.has(other));
  }

  /** Makes the first `count` changes durable. */
  sync(count: number): void {
    for (const change of this.#pending.splice(0, count)) apply(this.durable, change);
  }

  /** Forgets that the first `count` changes are not durable: they stay visible, and never reach the disk. */
  discard(count: number): void {
    this.#pending.splice(0, count);
  }

  /** Durable contents and a random part of the changes since. */
  afterPowerCut(random: SeededRandom): SimInode {
    const contents = this.durable.copy();
    for (const change of this.#pending) {
      const fate = random.float();
      if (fate < 0.4) apply(contents, change);
      else if (fate < 0.7 && change.type === 'write') tear(contents, change.data, change.position, random);
    }
    return new SimInode(contents);
  }
}

function overlap(a: PendingChange, b: PendingChange): boolean {
  if (a.type === 'truncate' || b.type === 'truncate') return true;
  return a.position < b.position + b.data.length && b.position < a.position + a.data.length;
}

function apply(bytes: SimBytes, change: PendingChange): void {
  if (change.type === 'write') bytes.write(change.data, change.position);
  else bytes.truncate(change.size);
}

/** Each sector of the write arrives or not. The file may have grown to its new size all the same. */
function tear(bytes: SimBytes, data: Uint8Array, position: number, random: SeededRandom): void {
  const end = position + data.length;
  if (bytes.length < end && random.chance(0.5)) bytes.truncate(end);
  for (let at = position; at < end;) {
    const next = Math.min(end, (Math.floor(at / SECTOR_BYTES) + 1) * SECTOR_BYTES);
    if (random.chance(0.5)) bytes.write(data.subarray(at - position, next - position), at);
    at = next;
  }
}
