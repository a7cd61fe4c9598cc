/**
 * What a history knows of one partition: which value is at which offset, who has read it, and where polls left offsets out.
 *
 * Chunks of offsets that every group has passed and that are as they should be are collapsed, from the beginning on: of a
 * value there only its fingerprint stays, by which it is known again. What is not as it should be stays until it is told.
 */
import { assert } from '@naru/base';
import { counterOf, describeValue, fingerprint, writerOf } from './history-values.ts';
import { ACKNOWLEDGED, FAILED, READ } from './history-writer.ts';
import type { HistoryWriter } from './history-writer.ts';
import type { ViolationKind } from './history-violations.ts';

const CHUNK = 4_096;
/** A value this far behind the others is a mistake of the test. */
const MAX_EMPTY_CHUNKS = 1_000;
export const MAX_GROUPS = 8;
const NOTHING = -1;

interface Chunk {
  /** By offset; {@link NOTHING} where nobody saw a value. */
  readonly values: Float64Array;
  /** By offset: a bit for each group that has read it. */
  readonly readBy: Uint8Array;
}

/** Offsets strictly between `after` and `before` were not in a member's polls. */
interface Gap {
  readonly kind: 'int-poll-skip' | 'poll-skip';
  readonly member: string;
  readonly after: number;
  readonly before: number;
}

export interface LogContext {
  readonly groups: readonly string[];
  /** Undefined: nobody of that number. */
  writer(number: number): HistoryWriter | undefined;
}

type Tell = (kind: ViolationKind, message: string) => void;

/** What the judgement of a chunk carries to the next one. */
interface Judgement {
  readonly tell: Tell;
  /** By writer: its last counter, of those that a chunk has changed. */
  readonly last: Map<number, number>;
}

export class HistoryLog {
  readonly name: string;
  readonly #context: LogContext;
  readonly #chunks = new Map<number, Chunk>();
  /** Fingerprints of the chunks that are collapsed, 0 for nothing. */
  readonly #collapsed: Uint32Array[] = [];
  /** By writer: the last counter in what is collapsed. */
  readonly #last = new Map<number, number>();
  /** By group: the offset after the last one that it has read. */
  readonly #passed: number[];
  #gaps: Gap[] = [];
  #stored = 0;
  #end = 0;
  #lastRead = -1;
  #attemptAt = 2 * CHUNK;

  constructor(name: string, context: LogContext) {
    this.name = name;
    this.#context = context;
    this.#passed = context.groups.map(() => 0);
  }

  /** Offsets with a value. */
  get stored(): number {
    return this.#stored;
  }

  /** Offsets that are kept in full. */
  get live(): number {
    return this.#chunks.size * CHUNK;
  }

  /** `passed`: everybody has gone past the offset, and saw nothing. `other`: another value is there, which is described. */
  place(offset: number, value: number): 'new' | 'same' | 'passed' | { readonly other: string } {
    const index = Math.floor(offset / CHUNK);
    const collapsed = this.#collapsed[index];
    if (collapsed !== undefined) {
      const there = collapsed[offset % CHUNK];
      if (there === 0) return 'passed';
      return there === fingerprint(value) ? 'same' : { other: 'another value' };
    }
    const chunk = this.#chunk(index);
    const there = chunk.values[offset % CHUNK] as number;
    if (there === value) return 'same';
    if (there !== NOTHING) return { other: describeValue(there) };
    chunk.values[offset % CHUNK] = value;
    this.#stored += 1;
    this.#end = Math.max(this.#end, offset + 1);
    return 'new';
  }

  /** @param group by its index; -1 for one that need not read everything */
  read(offset: number, group: number): void {
    this.#lastRead = Math.max(this.#lastRead, offset);
    if (group < 0) return;
    this.#passed[group] = Math.max(this.#passed[group] ?? 0, offset + 1);
    const chunk = this.#chunks.get(Math.floor(offset / CHUNK));
    if (chunk === undefined) return;
    const readBy = chunk.readBy[offset % CHUNK] as number;
    chunk.readBy[offset % CHUNK] = readBy | (1 << group);
  }

  /** A poll went on at `before` after `after`. */
  leftOut(gap: Gap, maxGaps: number): void {
    assert(this.#gaps.length < maxGaps, `the polls of a partition have at most ${maxGaps} open gaps`);
    this.#gaps.push(gap);
  }

  /** Collapses what can be, when there is enough of it to look. */
  collapse(): void {
    const passed = Math.min(...this.#passed);
    if (this.#passed.length === 0 || passed < this.#attemptAt) return;
    this.#attemptAt = passed + CHUNK;
    while ((this.#collapsed.length + 1) * CHUNK < passed) {
      const index = this.#collapsed.length;
      let isHealthy = true;
      const judgement = { tell: () => (isHealthy = false), last: new Map<number, number>() };
      this.#judge(index, judgement);
      this.#judgeGaps(judgement.tell, (index + 1) * CHUNK);
      if (!isHealthy) return;
      this.#close(index, judgement.last);
    }
  }

  /** Tells what is wrong with everything that is not collapsed, and counts its reads. */
  finish(tell: Tell): void {
    this.#judgeGaps(tell, Infinity);
    const last = new Map<number, number>();
    for (const index of [...this.#chunks.keys()].toSorted((a, b) => a - b)) {
      this.#judge(index, { tell, last });
      this.#countReads(index);
    }
  }

  /** Where a value is, of what is not collapsed. */
  offsetOf(value: number): number | undefined {
    for (const [index, { values }] of this.#chunks) {
      const found = values.indexOf(value);
      if (found >= 0) return index * CHUNK + found;
    }
    return undefined;
  }

  #chunk(index: number): Chunk {
    const found = this.#chunks.get(index);
    if (found !== undefined) return found;
    assert(index <= this.#end / CHUNK + MAX_EMPTY_CHUNKS, `${this.name} has no offset near ${index * CHUNK}`);
    const chunk = { values: new Float64Array(CHUNK).fill(NOTHING), readBy: new Uint8Array(CHUNK) };
    this.#chunks.set(index, chunk);
    return chunk;
  }

  /** All groups have passed the chunk, or the history is over. */
  #judge(index: number, judgement: Judgement): void {
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) return;
    for (let i = 0; i < CHUNK; i++) {
      const value = chunk.values[i] as number;
      if (value !== NOTHING) this.#judgeValue(value, index * CHUNK + i, chunk.readBy[i] as number, judgement);
    }
  }

  #judgeValue(value: number, offset: number, readBy: number, { tell, last }: Judgement): void {
    const { groups } = this.#context;
    const writer = this.#context.writer(writerOf(value));
    const counter = counterOf(value);
    if (writer === undefined || counter >= writer.sent) {
      tell('phantom', `${this.name}/${offset} holds ${describeValue(value)}, which nobody sent`);
      return;
    }
    const before = last.get(writerOf(value)) ?? this.#last.get(writerOf(value)) ?? -1;
    if (counter < before) {
      const kind = writer.areOneCall(counter, before) ? 'int-nonmonotonic-send' : 'nonmonotonic-send';
      tell(kind, `${writer.name} sent ${before} after ${counter}, but it is before it, at ${this.name}/${offset}`);
    }
    last.set(writerOf(value), counter);
    // What was in a transaction is told with the whole of it.
    if (writer.outcomeOf(counter) !== 'none') return;
    const flags = writer.flags(counter);
    if ((flags & (ACKNOWLEDGED | READ)) === 0 || (flags & FAILED) !== 0) return;
    const where = `${describeValue(value)}, stored at ${this.name}/${offset},`;
    if ((flags & READ) === 0 && offset < this.#lastRead) {
      tell('lost-write', `${where} was read by nobody, but later offsets were`);
      return;
    }
    for (const [group, name] of groups.entries()) {
      if ((readBy & (1 << group)) === 0) tell('unseen', `${where} was not read by ${name}`);
    }
  }

  /** An offset that holds no value (a marker, or what was compacted away) or one of an aborted transaction may be left out. */
  #judgeGaps(tell: Tell, end: number): void {
    for (const { kind, member, after, before } of this.#gaps) {
      if (after >= end) continue;
      const from = Math.max(after + 1, this.#collapsed.length * CHUNK);
      for (let offset = from; offset < Math.min(before, end); offset++) {
        const value = this.#chunks.get(Math.floor(offset / CHUNK))?.values[offset % CHUNK] ?? NOTHING;
        if (value === NOTHING || this.#context.writer(writerOf(value))?.isVisible(counterOf(value)) !== true) continue;
        const left = `left out ${offset} (${describeValue(value)})`;
        tell(kind, `${member} polled ${this.name}/${before} after ${after} and ${left}`);
        break;
      }
    }
  }

  #countReads(index: number): void {
    const chunk = this.#chunks.get(index);
    if (chunk === undefined) return;
    for (let i = 0; i < CHUNK; i++) {
      const readBy = chunk.readBy[i] as number;
      if (readBy === 0) continue;
      const value = chunk.values[i] as number;
      const writer = this.#context.writer(writerOf(value));
      for (let group = 0; group < this.#passed.length; group++) {
        if ((readBy & (1 << group)) !== 0) writer?.countRead(counterOf(value), group);
      }
    }
  }

  #close(index: number, last: ReadonlyMap<number, number>): void {
    this.#countReads(index);
    for (const [writer, counter] of last) this.#last.set(writer, counter);
    const prints = new Uint32Array(CHUNK);
    for (const [i, value] of (this.#chunks.get(index)?.values ?? []).entries()) {
      if (value !== NOTHING) prints[i] = fingerprint(value);
    }
    this.#collapsed.push(prints);
    this.#chunks.delete(index);
    this.#gaps = this.#gaps.filter(({ before }) => before > (index + 1) * CHUNK);
  }
}
