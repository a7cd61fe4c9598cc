/** Where the time went, from a CPU profile: the functions that were busy themselves. */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));
/** Not time spent on what is measured; the inspector's is that of taking the profile. */
const NOT_BUSY = /^\(idle\)$|node:inspector/;

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

/** The busiest functions, and the busiest packages: each by its own time, busiest first. */
export interface ProfileSummary {
  readonly functions: readonly SelfTime[];
  readonly packages: readonly SelfTime[];
}

/** @param count functions at most */
export async function summarizeProfile(path: string, count: number): Promise<ProfileSummary> {
  const profile = JSON.parse(await readFile(path, 'utf8')) as CpuProfile;
  const frames = new Map(
    profile.nodes.map(({ id, callFrame }) => [id, { place: place(callFrame), owner: owner(callFrame) }]),
  );
  const functions = new Map<string, number>();
  const packages = new Map<string, number>();
  profile.samples.forEach((id, index) => {
    const frame = frames.get(id);
    if (frame === undefined || NOT_BUSY.test(frame.place)) return;
    const micros = profile.timeDeltas[index] ?? 0;
    functions.set(frame.place, (functions.get(frame.place) ?? 0) + micros);
    packages.set(frame.owner, (packages.get(frame.owner) ?? 0) + micros);
  });
  return { functions: busiest(functions).slice(0, count), packages: busiest(packages) };
}

function busiest(times: ReadonlyMap<string, number>): SelfTime[] {
  const total = [...times.values()].reduce((sum, time) => sum + time, 0);
  return [...times]
    .sort(([, a], [, b]) => b - a)
    .map(([where, micros]) => ({ where, share: micros / total, milliseconds: micros / 1_000 }));
}

type CallFrame = CpuProfile['nodes'][number]['callFrame'];

function place({ functionName, url, lineNumber }: CallFrame): string {
  const name = functionName === '' ? '(anonymous)' : functionName;
  return url === '' ? name : `${name} ${shortPath(url)}:${lineNumber + 1}`;
}

/** The package, node's own module, or the part of the engine. */
function owner({ functionName, url }: CallFrame): string {
  if (url === '') return functionName.startsWith('(') ? functionName : '(native functions)';
  const path = shortPath(url);
  return /^~(@[^/]+\/)?[^/]+|^packages\/[^/]+|^bench|^node:(internal\/)?[^/]+/.exec(path)?.[0] ?? path;
}

function shortPath(url: string): string {
  if (!url.startsWith('file://')) return url;
  return fileURLToPath(url)
    .replace(ROOT, '')
    .replace(/^.*node_modules\//, '~');
}
