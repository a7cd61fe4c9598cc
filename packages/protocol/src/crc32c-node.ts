/** What `#crc32c-native` is on Node; see batch/crc32c.ts. */
import { crc32c } from '@node-rs/crc32';

/** CRC-32C of `bytes`, going on from `initial`. */
export type NativeCrc32c = (bytes: Uint8Array, initial: number) => number;

export const nativeCrc32c: NativeCrc32c | null = crc32c;
