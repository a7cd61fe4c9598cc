/**
 * The bare limits of the disk: a write that is durable when it returns (O_DSYNC, into preallocated space), and the same bytes
 * twice, to such a journal and to segment files that nobody syncs. Asynchronous calls, as any server has to make them.
 */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { latencyHistogram, latencyOf, recordMs } from '../measurement.ts';
import type { LoadResult } from '../measurement.ts';
import { VALUE_BYTES } from '../payload.ts';

const MIB = 1024 * 1024;
const JOURNAL_BYTES = 256 * MIB;
const SMALL_WRITE_BYTES = 4 * 1024;
const SEGMENTS = 6;
/** Larger ones are begun anew, so that a long run does not fill the disk. */
const SEGMENT_BYTES = 512 * MIB;

export interface DiskWritesOptions {
  readonly directory: string;
}

export async function openDiskWrites({ directory }: DiskWritesOptions) {
  const journal = await openJournal(join(directory, 'journal'));
  const segments = await Promise.all(
    Array.from({ length: SEGMENTS }, (_, index) => open(join(directory, `segment-${index}`), 'w')),
  );
  return {
    ready: {},
    commands: {
      /** Writes of 1 MiB for `seconds`, each to the journal, and behind it to one of six segments. */
      doubleWrite: ({ seconds }: { seconds: number }) => doubleWrite(journal, segments, seconds),
      /** Writes of 4 KiB, one at a time, the next `pauseMs` after the one before. */
      smallWrites: ({ seconds, pauseMs }: { seconds: number; pauseMs: number }) =>
        smallWrites(journal, seconds, pauseMs),
    },
    close: async () => {
      await Promise.all([journal, ...segments].map((file) => file.close()));
    },
  };
}

async function openJournal(path: string): Promise<FileHandle> {
  const plain = await open(path, 'w');
  const zeros = new Uint8Array(MIB);
  for (let at = 0; at < JOURNAL_BYTES; at += MIB) await plain.write(zeros, 0, MIB, at);
  await plain.sync();
  await plain.close();
  return open(path, constants.O_WRONLY | constants.O_DSYNC);
}

async function doubleWrite(journal: FileHandle, segments: readonly FileHandle[], seconds: number): Promise<LoadResult> {
  const data = randomBytes(MIB);
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  let behind: Promise<unknown> = Promise.resolve();
  let writes = 0;
  for (; performance.now() < endMs; writes++) {
    await writeAll(journal, data, (writes * MIB) % JOURNAL_BYTES);
    await behind;
    const segment = segments[writes % SEGMENTS] as FileHandle;
    behind = writeAll(segment, data, (Math.floor(writes / SEGMENTS) * MIB) % SEGMENT_BYTES);
  }
  await behind;
  const elapsed = (performance.now() - startMs) / 1_000;
  return { events: (writes * MIB) / VALUE_BYTES, bytes: writes * MIB, seconds: elapsed };
}

async function smallWrites(journal: FileHandle, seconds: number, pauseMs: number): Promise<LoadResult> {
  const data = randomBytes(SMALL_WRITE_BYTES);
  const histogram = latencyHistogram();
  const startMs = performance.now();
  const endMs = startMs + seconds * 1_000;
  let writes = 0;
  for (; performance.now() < endMs; writes++) {
    const beginMs = performance.now();
    await writeAll(journal, data, (writes * SMALL_WRITE_BYTES) % JOURNAL_BYTES);
    recordMs(histogram, performance.now() - beginMs);
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
  }
  const elapsed = (performance.now() - startMs) / 1_000;
  return { events: writes, bytes: writes * SMALL_WRITE_BYTES, seconds: elapsed, latency: latencyOf(histogram) };
}

async function writeAll(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  const { bytesWritten } = await file.write(data, 0, data.length, position);
  if (bytesWritten !== data.length) throw new Error(`a write took ${bytesWritten} of ${data.length} bytes`);
}
