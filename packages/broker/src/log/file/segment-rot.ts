/**
 * Going on behind a place in a segment that has rotted: the next batch that is whole.
 *
 * Owns no state. What lies between is never taken for data, nor cut off: who asks for it is told that it is damaged.
 */
import type { DiskFile } from '@naru/base';
import { BATCH_HEADER_BYTES, crc32c } from '@naru/protocol/batch';
import { readUint32 } from './byte-fields.ts';
import { DamagedFileError } from './damaged-file-error.ts';
import type { StoredHeader } from './segment.ts';
import { readStoredHeader, walkBatches } from './segment.ts';

/** Searched at a time. */
const WINDOW_BYTES = 256 * 1024;
/** Where a batch says which format it has, and the format. */
const MAGIC_AT = 16;
const MAGIC = 2;
const CRC_AT = 17;
/** What the batch's own checksum covers begins here. */
const CRC_START = 21;

/** The first batch that begins at `from` or behind it, ends at `to` or before, and matches its checksum; null when none does. */
export async function nextIntactBatch(file: DiskFile, from: number, to: number): Promise<StoredHeader | null> {
  for (let start = from; start + BATCH_HEADER_BYTES <= to; start += WINDOW_BYTES) {
    // Windows overlap by a header, so that one that begins at the end of a window is seen whole.
    const bytes = new Uint8Array(Math.min(WINDOW_BYTES + BATCH_HEADER_BYTES - 1, to - start));
    const window = bytes.subarray(0, await file.read(bytes, start));
    for (let at = 0; at + BATCH_HEADER_BYTES <= window.length && at < WINDOW_BYTES; at++) {
      if (window[at + MAGIC_AT] !== MAGIC) continue;
      const header = readStoredHeader(window, at, start + at);
      if (header === null || header.position + header.sizeBytes > to) continue;
      if (await isIntact(file, header)) return header;
    }
  }
  return null;
}

/**
 * Walks batch headers as {@link walkBatches} does, going on behind what is damaged.
 *
 * @param skipped is told of each damaged place that was passed over, before what follows it is visited
 */
export async function walkAroundRot(
  file: DiskFile,
  path: string,
  from: number,
  to: number,
  visit: (header: StoredHeader) => boolean | undefined,
  skipped: (damage: DamagedFileError) => void = () => undefined,
): Promise<void> {
  for (let at = from; at < to;) {
    let last = at - 1;
    try {
      await walkBatches(file, path, at, to, (header) => {
        last = header.position;
        return visit(header);
      });
      return;
    } catch (error) {
      if (!(error instanceof DamagedFileError)) throw error;
      skipped(error);
      // The header before may be what is damaged: its size led here.
      const next = await nextIntactBatch(file, last + 1, to);
      if (next === null) return;
      at = next.position;
    }
  }
}

/** Whether the batch with this header is whole, and matches its checksum. */
export async function isIntact(file: DiskFile, header: StoredHeader): Promise<boolean> {
  const bytes = new Uint8Array(header.sizeBytes);
  const read = await file.read(bytes, header.position);
  return read === bytes.length && crc32c(bytes.subarray(CRC_START)) === readUint32(bytes, CRC_AT);
}
