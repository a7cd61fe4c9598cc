/** Where results come from. */
import { statfs } from 'node:fs/promises';
import { arch, cpus, platform, release, totalmem } from 'node:os';

/** statfs types of file systems that live in memory (Linux). */
const MEMORY_FILE_SYSTEMS = new Map([
  [0x01021994, 'tmpfs'],
  [0x858458f6, 'ramfs'],
]);

export interface Machine {
  readonly node: string;
  readonly platform: string;
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
}

export function machine(): Machine {
  const all = cpus();
  return {
    node: process.version,
    platform: `${platform()} ${release()} ${arch()}`,
    cpu: all[0]?.model ?? 'unknown',
    cores: all.length,
    memoryGiB: Math.round(totalmem() / 1024 ** 3),
  };
}

/** The name of the file system when it lives in memory, where a sync costs nothing and measures nothing; else null. */
export async function memoryFileSystem(directory: string): Promise<string | null> {
  return MEMORY_FILE_SYSTEMS.get((await statfs(directory)).type) ?? null;
}
