import { SeededRandom } from '@naru/testkit';
import { describe, expect, it } from 'vitest';
import type { StoredBatch } from '../log-store.ts';
import { PartitionPieces } from './partition-pieces.ts';

const SEEDS = Array.from({ length: 50 }, (_, i) => 1 + i);

function batch(baseOffset: number, count: number, bytes: number, maxTimestampMs: number): StoredBatch {
  return { baseOffset, lastOffset: baseOffset + count - 1, maxTimestampMs, records: new Uint8Array(bytes) };
}

const bytesOf = (batches: readonly StoredBatch[]): number =>
  batches.reduce((sum, { records }) => sum + records.length, 0);

describe('PartitionPieces', () => {
  it.each(SEEDS)('knows all bytes exactly, and of every part at least where it may be: seed %i', (seed) => {
    const random = new SeededRandom(seed);
    let batches: StoredBatch[] = [];
    let [start, end] = [0, 0];
    let pieces = new PartitionPieces(0);
    const changes = ['start', 'end', 'clean', 'shrink', 'again'] as const;
    for (let step = 0; step < 400; step++) {
      const change = random.chance(0.85) ? 'append' : random.pick(changes);
      if (change === 'append') {
        const next = batch(end + (random.chance(0.1) ? 3 : 0), 1 + random.integer(3), 60 + random.integer(50), step);
        batches.push(next);
        pieces.append(next);
        end = next.lastOffset + 1;
      } else if (change === 'start') {
        start += random.integer(Math.ceil((end - start) / 3) + 1);
        const gone = batches.filter(({ lastOffset }) => lastOffset < start);
        batches = batches.slice(gone.length);
        pieces.cutStart(start, bytesOf(gone));
      } else if (change === 'end') {
        const at = random.integer(batches.length + 1);
        const offset = batches[at]?.baseOffset ?? end;
        // A log start inside a batch allows no cut at that batch's own beginning.
        if (offset < start || offset === end) continue;
        pieces.cutEnd(offset, bytesOf(batches.slice(at)));
        batches = batches.slice(0, at);
        end = offset;
      } else if (change === 'clean') {
        const last = batches[random.integer(batches.length + 1)]?.lastOffset ?? start - 1;
        const cleanEnd = Math.max(last + 1, pieces.cleanEnd);
        const below = bytesOf(batches.filter(({ lastOffset }) => lastOffset < cleanEnd));
        pieces.clean(cleanEnd, below);
        expect(pieces.cleanBytes).toBe(below);
      } else if (change === 'shrink') {
        const at = random.integer(batches.length + 1);
        const smaller = batches.slice(0, at).map((old) => ({ ...old, records: old.records.subarray(0, 55) }));
        const freedBytes = bytesOf(batches.slice(0, at)) - bytesOf(smaller);
        batches.splice(0, at, ...smaller);
        pieces.shrink(smaller.at(-1)?.lastOffset ?? start, freedBytes);
      } else pieces = new PartitionPieces(start, JSON.parse(JSON.stringify(pieces.state())));
      expect(pieces.bytes).toBe(bytesOf(batches));
      expect(pieces.cleanBytes + pieces.dirty.reduce((sum, piece) => sum + piece.bytes, 0)).toBe(pieces.bytes);
      expect(pieces.dirty.length).toBeLessThan(100);
      const wanted = random.integer(step + 1);
      const first = batches.find(({ maxTimestampMs }) => maxTimestampMs >= wanted);
      // Whoever searches takes batches that end there or later.
      if (first !== undefined) expect(pieces.firstWith(wanted, start)).toBeLessThanOrEqual(first.lastOffset);
    }
  });

  it('keeps the newest batches apart and takes few pieces for many', () => {
    const pieces = new PartitionPieces(0);
    for (let i = 0; i < 100_000; i++) pieces.append(batch(i, 1, 100, i));
    expect(pieces.dirty.length).toBeLessThan(150);
    expect(pieces.dirty.slice(-8).map((piece) => piece.bytes)).toEqual(Array.from({ length: 8 }, () => 100));
    // A moment is found within an eighth of its distance from the end.
    for (const age of [5, 50, 500, 5_000, 50_000]) {
      const found = pieces.firstWith(100_000 - age, 0) as number;
      expect(100_000 - age - found).toBeLessThanOrEqual(age / 4);
      expect(found).toBeLessThanOrEqual(100_000 - age);
    }
  });
});
