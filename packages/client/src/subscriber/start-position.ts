/** Where to begin reading, as users say it and as the wire does. */
import type { MessageInitShape } from '@bufbuild/protobuf';
import { NaruError } from '@naru/protocol';
import type { StartPositionSchema } from '@naru/protocol/proto';

/**
 * - `beginning`: the oldest event that is kept. The default: reading too much shows, missing events does not.
 * - `end`: only what comes after now.
 * - an offset; a time, for the first event with that timestamp or a later one.
 * - `none`: a group without a committed offset is refused with NO_OFFSET.
 */
export type StartPosition = 'beginning' | 'end' | 'none' | bigint | Date;

/** Undefined for `none`. */
export function wireStartPosition(from: StartPosition): MessageInitShape<typeof StartPositionSchema> | undefined {
  if (from === 'none') return undefined;
  if (from === 'beginning') return { position: { case: 'beginning', value: true } };
  if (from === 'end') return { position: { case: 'end', value: true } };
  if (typeof from === 'bigint' && from >= 0n) return { position: { case: 'offset', value: from } };
  if (from instanceof Date && !Number.isNaN(from.getTime())) {
    return { position: { case: 'timestampMs', value: BigInt(from.getTime()) } };
  }
  throw new NaruError(
    'INVALID_REQUEST',
    `expected beginning, end, none, an offset (bigint) or a Date; got ${String(from)}`,
  );
}
