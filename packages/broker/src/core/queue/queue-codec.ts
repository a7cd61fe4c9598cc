/**
 * QueueState as bytes of the group log: QueueValue of proto/naru/internal/v1/group.proto, whose lists are varints.
 *
 * runs:       for each: state + 4 · (due time is there) + 8 · failures, length, then of an acquired one its lock's index,
 *             of one with a due time that, as distance from `base_ms`
 * locks:      for each: distance of its id from the one before (the first from 0), index of its member
 * held_locks: for each: offset, its lock's index
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import { toSafeInteger } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { QueueValueSchema } from '@naru/protocol/group-records';
import { RunBuilder, type QueueState, type RunState } from './queue-state.ts';

const STATES: readonly RunState[] = ['available', 'acquired', 'finished', 'dying'];
const HAS_DUE_TIME = 4;
const FAILURES = 8;

export function encodeQueueState(state: QueueState): Uint8Array {
  const lockIds = [...state.locks.keys()].sort((a, b) => a - b);
  const lockIndex = new Map(lockIds.map((lockId, index) => [lockId, index]));
  const members = [...new Set(state.locks.values())].sort();
  const memberIndex = new Map(members.map((memberId, index) => [memberId, index]));
  let baseMs = Infinity;
  for (const { notBeforeMs } of state.runs) if (notBeforeMs > 0) baseMs = Math.min(baseMs, notBeforeMs);
  const runs = new Varints();
  for (const run of state.runs) {
    const hasDueTime = run.notBeforeMs > 0;
    runs.add(STATES.indexOf(run.state) + (hasDueTime ? HAS_DUE_TIME : 0) + run.failures * FAILURES);
    runs.add(run.to - run.from);
    if (run.state === 'acquired') runs.add(lockIndex.get(run.lockId) as number);
    if (hasDueTime) runs.add(run.notBeforeMs - baseMs);
  }
  const locks = new Varints();
  let last = 0;
  for (const lockId of lockIds) {
    locks.add(lockId - last);
    locks.add(memberIndex.get(state.locks.get(lockId) as string) as number);
    last = lockId;
  }
  const heldLocks = new Varints();
  for (const [offset, lockId] of state.heldLocks) {
    heldLocks.add(offset);
    heldLocks.add(lockIndex.get(lockId) as number);
  }
  const message = create(QueueValueSchema, {
    startOffset: BigInt(state.startOffset),
    runs: runs.bytes(),
    members,
    locks: locks.bytes(),
    nextLockId: BigInt(state.nextLockId),
    baseMs: BigInt(baseMs === Infinity ? 0 : baseMs),
    heldLocks: heldLocks.bytes(),
  });
  return toBinary(QueueValueSchema, message);
}

/** @throws NaruError DATA_CORRUPT */
export function decodeQueueState(bytes: Uint8Array): QueueState {
  const value = fromBinary(QueueValueSchema, bytes);
  const startOffset = toSafeInteger(value.startOffset, 'start offset');
  const baseMs = toSafeInteger(value.baseMs, 'time');
  const lockIds: number[] = [];
  const locks = new Map<number, string>();
  let lockId = 0;
  for (const pieces = new VarintReader(value.locks); !pieces.isAtEnd;) {
    lockId += pieces.next();
    lockIds.push(lockId);
    locks.set(lockId, at(value.members, pieces.next()));
  }
  const heldLocks = new Map<number, number>();
  for (const pieces = new VarintReader(value.heldLocks); !pieces.isAtEnd;) {
    heldLocks.set(pieces.next(), at(lockIds, pieces.next()));
  }
  const nextLockId = toSafeInteger(value.nextLockId, 'lock');
  const builder = new RunBuilder();
  let from = startOffset;
  for (const pieces = new VarintReader(value.runs); !pieces.isAtEnd;) {
    const head = pieces.next();
    const state = STATES[head % HAS_DUE_TIME] as RunState;
    const to = from + pieces.next();
    const runLock = state === 'acquired' ? at(lockIds, pieces.next()) : 0;
    const notBeforeMs = head % FAILURES >= HAS_DUE_TIME ? baseMs + pieces.next() : 0;
    builder.add({ from, to, state, failures: Math.floor(head / FAILURES), notBeforeMs, lockId: runLock });
    from = to;
  }
  const empty: QueueState = { startOffset, endOffset: startOffset, runs: [], locks, heldLocks, nextLockId };
  return builder.build(empty);
}

function at<T>(list: readonly T[], index: number): T {
  const found = list[index];
  if (found === undefined)
    throw new NaruError('DATA_CORRUPT', 'a queue names a lock or a member that it does not have');
  return found;
}

/** Whole numbers up to 2^53, seven bits a byte, the lowest first. */
class Varints {
  #bytes = new Uint8Array(64);
  #length = 0;

  add(value: number): void {
    if (this.#length + 8 > this.#bytes.length) {
      const larger = new Uint8Array(this.#bytes.length * 2);
      larger.set(this.#bytes);
      this.#bytes = larger;
    }
    let rest = value;
    for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) this.#bytes[this.#length++] = (rest % 0x80) + 0x80;
    this.#bytes[this.#length++] = rest;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }
}

class VarintReader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  next(): number {
    let value = 0;
    for (let factor = 1; ; factor *= 0x80) {
      const byte = this.#bytes[this.#at++];
      if (byte === undefined || factor > 2 ** 49) throw new NaruError('DATA_CORRUPT', 'a number of a queue is cut off');
      value += (byte % 0x80) * factor;
      if (byte < 0x80) return value;
    }
  }
}
