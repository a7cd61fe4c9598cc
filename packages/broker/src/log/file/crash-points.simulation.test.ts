/**
 * The file engine, crashed at every point of random workloads, and the proof that this finds what it is for: known bugs,
 * put back one at a time (planted-bugs.ts), are all caught.
 *
 * A failure prints seed and point: NARU_TEST_SEED=<seed> begins there, with NARU_TEST_POINT=<point> runs that one only.
 */
import type { CrashPointsReport, SimDisk } from '@naru/testkit';
import { CrashingStore, crashPoints, crashRun } from '@naru/testkit';
import { describe, expect, it, vi } from 'vitest';
import type { FileLogStoreOptions } from './file-log-store.ts';
import { FRAME_HEADER_BYTES, alignUp, decodeFrameHeader } from './journal-frame.ts';
import { checkpointFileSequence } from './checkpoint.ts';
import { journalFileNumber } from './journal-files.ts';
import type { FileLogLimits } from './limits.ts';
import type { PlantedBug } from './planted-bugs.ts';
import { openPlanted } from './planted-bugs.ts';
import { SegmentWriter } from './segment-writer.ts';

/** Within a few dozen operations journal files are filled and recycled, segments roll, and checkpoints are due. */
const TINY: Partial<FileLogLimits> = {
  journalFileBytes: 24 * 1024,
  journalBytes: 3 * 24 * 1024,
  maxAppendBytes: 2 * 1024,
  mergedFrameBytes: 3 * 1024,
  checkpointBytes: 12 * 1024,
  unwrittenBytes: 8 * 1024,
  cacheBytes: 2 * 1024,
  segmentBytes: 700,
  segmentAgeMs: 400,
  segmentWriteBytes: 1_024,
  indexIntervalBytes: 200,
  loadedIndexes: 2,
  openFiles: 3,
  readBytes: 2_000,
};

const LONG = process.env['NARU_TEST_LONG'] !== undefined;
const SEEDS = LONG ? 1_000 : 40;
const FIRST_SEED = Number(process.env['NARU_TEST_SEED'] ?? 1);
const ONLY_POINT = process.env['NARU_TEST_POINT'];

function opening(bug: PlantedBug | null) {
  return (surroundings: Omit<FileLogStoreOptions, 'path'>) =>
    openPlanted(bug, { ...surroundings, path: '/data', limits: TINY });
}

function points(seed: number, bug: PlantedBug | null = null): Promise<CrashPointsReport> {
  const onlyPoint = ONLY_POINT === undefined ? undefined : Number(ONLY_POINT);
  return crashPoints({ seed, checkpointChance: 0.08, rewriteChance: 0.25, onlyPoint, openStore: opening(bug) });
}

describe('a crash at any point', () => {
  it(
    'loses nothing that was acknowledged, and leaves nothing but a prefix of what was submitted',
    async () => {
      const submitted = new Map<string, number>();
      let crashes = 0;
      let checkpoints = 0;
      let rewrites = 0;
      for (let seed = FIRST_SEED; seed < FIRST_SEED + SEEDS; seed++) {
        const report = await points(seed);
        if (ONLY_POINT !== undefined) return;
        crashes += report.points;
        checkpoints += report.whole.checkpoints;
        rewrites += report.whole.rewrites;
        expect(report.points, `seed ${seed}`).toBeLessThanOrEqual(300);
        for (const [type, count] of report.submitted) submitted.set(type, (submitted.get(type) ?? 0) + count);
      }
      // The workloads are worth something only if all of this happened.
      expect(crashes).toBeGreaterThan(SEEDS * 100);
      expect(checkpoints).toBeGreaterThan(SEEDS * 3);
      expect(rewrites).toBeGreaterThan(SEEDS / 2);
      expect(submitted.get('append')).toBeGreaterThan(SEEDS * 10);
      for (const type of ['create', 'truncate', 'deleteBefore', 'delete'])
        expect({ [type]: (submitted.get(type) ?? 0) > SEEDS / 2 }).toEqual({ [type]: true });
    },
    LONG ? 3_600_000 : 300_000,
  );

  it('takes the same course again with the same seed, operation by operation', async () => {
    const [first, again, other] = [await points(3), await points(3), await points(4)];
    expect(again).toEqual(first);
    expect(other.trace).not.toBe(first.trace);
  }, 60_000);
});

describe('a bug that was put back', () => {
  /** How many seeds it may take, and what is noticed. */
  const noticed: readonly (readonly [PlantedBug, number, RegExp])[] = [
    ['no-directory-sync', 2, /acknowledged operations are lost|is missing/],
    ['ack-before-sync', 2, /acknowledged operations are lost|the journal is damaged/],
    ['checkpoint-before-sync', 3, /stored data is damaged/],
    ['snapshot-ahead', 3, /the state at the snapshot is wrong|recovery tells of|does not fit its checkpoint/],
    ['stale-frames', 3, /is written twice|recovery tells of|does not fit its checkpoint/],
  ];

  it.each(noticed)(
    '(%s) is noticed within %i workloads',
    async (bug, seeds, message) => {
      const found: string[] = [];
      for (let seed = 1; seed <= seeds && found.length === 0; seed++)
        await points(seed, bug).catch((error: unknown) => found.push(String(error)));
      expect(found).toHaveLength(1);
      // A broken promise of the store, not some failure of the harness.
      expect(found[0]).toMatch(message);
    },
    60_000,
  );

  it('(index-trusted) is noticed by longer runs, in which segments that were closed are truncated and closed again', async () => {
    const found: string[] = [];
    for (let seed = 1; seed <= 12 && found.length === 0; seed++) {
      await crashRun({ seed, crashes: 4, crashWithin: [500, 2_500], openStore: opening('index-trusted') }).catch(
        (error: unknown) => found.push(String(error)),
      );
    }
    expect(found[0]).toMatch(/stored data is damaged|has another batch when|has other bytes/);
  });

  it('(old files removed before a checkpoint lists the new ones) is noticed when compaction is crashed', async () => {
    vi.spyOn(SegmentWriter.prototype, 'supersede').mockImplementation(function (this: SegmentWriter, log, segments) {
      // What a checkpoint does otherwise. It fails when the disk is cut meanwhile.
      this.dispose(log, segments).catch(() => undefined);
    });
    const found: string[] = [];
    for (let seed = 1; seed <= 6 && found.length === 0; seed++)
      await points(seed).catch((error: unknown) => found.push(String(error)));
    expect(found[0]).toMatch(/the file is missing/);
  }, 60_000);

  it('(truncate-at-rot) is noticed by what is lost, where the store itself refuses to open', async () => {
    let tried = 0;
    let lost = 0;
    for (let seed = 1; seed <= 6; seed++) {
      const outcomes: string[] = [];
      for (const bug of [null, 'truncate-at-rot'] as const) {
        const store = new CrashingStore({ seed, openStore: opening(bug) });
        await store.round({ steps: 60, closes: false });
        store.crash(false);
        if (!rotAcknowledgedFrame(store.disk)) continue;
        tried += 1;
        outcomes.push(await store.round({ steps: 0 }).then(() => 'opened', String));
      }
      if (outcomes.length === 0) continue;
      expect(outcomes[0]).toMatch(/the journal is damaged/);
      // Where the journal that is missing began by cutting files, they are too short for it.
      expect(outcomes[1]).toMatch(/acknowledged operations are lost|the files end at offset/);
      if (outcomes[1]?.includes('are lost') === true) lost += 1;
    }
    expect(lost).toBeGreaterThan(1);
    expect(tried).toBeGreaterThan(6);
  });
});

/** Damages a frame that a later one follows in its file, so that it had been durable. False when there is none. */
function rotAcknowledgedFrame(disk: SimDisk): boolean {
  const sequences = disk.paths().map((path) => checkpointFileSequence(path.slice(path.lastIndexOf('/') + 1)) ?? 0);
  const covered = Math.max(...sequences);
  let newest = 0;
  let place: { readonly path: string; readonly at: number } | undefined;
  for (const path of disk.paths()) {
    const number = journalFileNumber(path.slice(path.lastIndexOf('/') + 1));
    if (number === null) continue;
    const bytes = disk.contents(path);
    const frames = [];
    for (let at = 0; ;) {
      const header = decodeFrameHeader(bytes.subarray(at), bytes.subarray(at + 4, at + 12), number, at);
      if (header === null || header.sequence < (frames.at(-1)?.sequence ?? 0)) break;
      frames.push({ at, sequence: header.sequence });
      at += alignUp(FRAME_HEADER_BYTES + header.payloadBytes);
    }
    const last = frames.at(-1)?.sequence ?? 0;
    if (last < newest) continue;
    newest = last;
    const damaged = frames.find(({ sequence }) => sequence > covered && sequence < last);
    place = damaged === undefined ? undefined : { path, at: damaged.at };
  }
  if (place === undefined) return false;
  disk.damage(place.path, place.at + FRAME_HEADER_BYTES + 20, new Uint8Array([0xde, 0xad, 0xbe, 0xef]));
  return true;
}
