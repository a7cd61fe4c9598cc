/** Where the time went, from a CPU profile: the functions that were busy themselves. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

export interface SelfTime {
  readonly where: string;
  /** Of the time that the process was busy. */
  readonly share: number;
  readonly milliseconds: number;
}

/** @returns the busiest functions, busiest first, at most `count` */
export async function selfTimes(path: string, count: number): Promise<SelfTime[]> {
  const profile = JSON.parse(await readFile(path, 'utf8')) as CpuProfile;
  const places = new Map(profile.nodes.map(({ id, callFrame }) => [id, place(callFrame)]));
  const times = new Map<string, number>();
  profile.samples.forEach((id, index) => {
    const where = places.get(id) ?? '?';
    times.set(where, (times.get(where) ?? 0) + (profile.timeDeltas[index] ?? 0));
  });
  times.delete('(idle)');
  const total = [...times.values()].reduce((sum, time) => sum + time, 0);
  return [...times]
    .sort(([, a], [, b]) => b - a)
    .slice(0, count)
    .map(([where, micros]) => ({ where, share: micros / total, milliseconds: micros / 1_000 }));
}

function place({ functionName, url, lineNumber }: CpuProfile['nodes'][number]['callFrame']): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  if (url === '') return name;
  const root = fileURLToPath(new URL('../../../', import.meta.url));
  const path = url.startsWith('file://') ? fileURLToPath(url).replace(root, '').replace(/^node_modules\//, '~') : url;
  return `${name} ${path}:${lineNumber + 1}`;
}
