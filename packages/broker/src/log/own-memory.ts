/** For engines that keep batches and count their bytes alone. */
import type { AppendEntry } from './log-store.ts';

/** A batch that is at least this share of its memory stays in it. */
const KEPT_SHARE = 0.5;

/** `entry`, with its batch in memory that holds little else. */
export function ownMemory(entry: AppendEntry): AppendEntry {
  const { records } = entry;
  if (records.length >= records.buffer.byteLength * KEPT_SHARE) return entry;
  const copy = Buffer.allocUnsafeSlow(records.length);
  copy.set(records);
  return { ...entry, records: copy };
}
