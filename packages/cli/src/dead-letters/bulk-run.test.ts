import { describe, expect, it } from 'vitest';
import { BEGINNING, cursorText, readCursor, runBulk, type BulkCursor, type BulkOptions } from './bulk-run.ts';

/** `total` items; the cursor is the number of the next. Time passes only in waits. */
function run(total: number, options: Partial<BulkOptions<number>> = {}) {
  const sizes: number[] = [];
  const untils: bigint[] = [];
  const seen: number[] = [];
  let nowMs = 0;
  const stop = new AbortController();
  const outcome = runBulk<number>({
    step: ({ cursor, untilMs }, limit) => {
      const from = cursor === '' ? 0 : Number(cursor);
      const to = Math.min(total, from + limit);
      sizes.push(limit);
      untils.push(untilMs);
      const done = Array.from({ length: to - from }, (_, i) => from + i);
      return Promise.resolve({ done, refused: [], nextCursor: to === total ? '' : String(to), untilMs: 77n });
    },
    from: BEGINNING,
    limit: Infinity,
    rate: Infinity,
    report: ({ done }) => {
      seen.push(...done);
      return Promise.resolve(true);
    },
    clock: { nowMs: () => nowMs, monotonicMs: () => nowMs },
    wait: (ms) => {
      nowMs += ms;
      return Promise.resolve();
    },
    signal: stop.signal,
    ...options,
  });
  return { outcome, sizes, untils, seen, stop, elapsedMs: () => nowMs };
}

describe('a run over many dead letters', () => {
  it('goes on until nothing is left, bounded to the time of its first answer', async () => {
    const { outcome, seen, untils } = run(250);
    expect(await outcome).toEqual({ done: 250, refused: 0, next: null });
    expect(seen).toEqual(Array.from({ length: 250 }, (_, i) => i));
    expect(untils).toEqual([0n, 77n, 77n]);
  });

  it('keeps to its rate', async () => {
    const { outcome, sizes, elapsedMs } = run(100, { rate: 20 });
    await outcome;
    expect(sizes).toEqual([20, 20, 20, 20, 20]);
    expect(elapsedMs()).toBe(4_000);
  });

  it('does not do more than its limit, and says where it would go on', async () => {
    const { outcome, sizes } = run(250, { limit: 120 });
    expect(await outcome).toEqual({ done: 120, refused: 0, next: { cursor: '120', untilMs: 77n } });
    expect(sizes).toEqual([100, 20]);
  });

  it('finishes the step under way when it is interrupted, and resumes without leaving anything out', async () => {
    const seen: number[] = [];
    const stop = new AbortController();
    const report: BulkOptions<number>['report'] = ({ done }) => {
      seen.push(...done);
      if (seen.length === 100) stop.abort();
      return Promise.resolve(true);
    };
    const first = await run(250, { report, signal: stop.signal }).outcome;
    expect(first).toEqual({ done: 100, refused: 0, next: { cursor: '100', untilMs: 77n } });
    const from = readCursor(cursorText(first.next as BulkCursor)) as BulkCursor;
    const second = run(250, { from });
    await second.outcome;
    expect([...seen, ...second.seen]).toEqual(Array.from({ length: 250 }, (_, i) => i));
    expect(second.untils[0]).toBe(77n);
  });

  it('ends when nobody reads its report', async () => {
    const { outcome } = run(250, { report: () => Promise.resolve(false) });
    expect(await outcome).toMatchObject({ done: 100, next: { cursor: '100' } });
  });
});

it('refuses a cursor that it did not print', () => {
  expect(readCursor('elsewhere')).toBeNull();
  expect(readCursor('12.a.b:c')).toEqual({ untilMs: 12n, cursor: 'a.b:c' });
});
