/** What `#crc32c-native` is where there are no native bindings; see batch/crc32c.ts. */
import type { NativeCrc32c } from './crc32c-node.ts';

export const nativeCrc32c: NativeCrc32c | null = null;
