/** A process with all its descendants, from /proc (Linux): what they use, and their end. Each is named by its id, never by its name. */
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';

/** Clock ticks a second, which Linux has fixed for programs on all common platforms. */
const TICKS_PER_SECOND = 100;
const KIB = 1024;
/** Written to clear_refs: the peak of the resident set begins anew. */
const RESET_PEAK = '5';

export interface TreeUsage {
  /** User and system time of all, with that of children that have ended. */
  readonly cpuSeconds: number;
  readonly rssBytes: number;
  /** Sum of the processes' peaks since {@link resetPeaks}. */
  readonly peakRssBytes: number;
}

/** The process and its descendants, ancestors first; those that are there. */
export function processTree(rootId: number): number[] {
  const children = new Map<number, number[]>();
  for (const name of readdirSync('/proc')) {
    const id = Number(name);
    const parent = Number.isInteger(id) ? statFields(id)?.[1] : undefined;
    if (parent === undefined) continue;
    const siblings = children.get(Number(parent));
    if (siblings === undefined) children.set(Number(parent), [id]);
    else siblings.push(id);
  }
  const found = statFields(rootId) === null ? [] : [rootId];
  for (let index = 0; index < found.length; index++) found.push(...(children.get(found[index] as number) ?? []));
  return found;
}

export function treeUsage(rootIds: readonly number[]): TreeUsage {
  let ticks = 0;
  let rssBytes = 0;
  let peakRssBytes = 0;
  for (const id of rootIds.flatMap(processTree)) {
    // After the name: state, parent, … utime, stime, cutime, cstime as fields 14 to 17 of the whole line.
    const fields = statFields(id);
    if (fields === null) continue;
    for (let field = 11; field < 15; field++) ticks += Number(fields[field]);
    const status = read(id, 'status');
    rssBytes += kib(status, 'VmRSS') * KIB;
    peakRssBytes += kib(status, 'VmHWM') * KIB;
  }
  return { cpuSeconds: ticks / TICKS_PER_SECOND, rssBytes, peakRssBytes };
}

/** User and system time of this process's children that have ended and were waited for. */
export function endedChildrenCpuSeconds(): number {
  const fields = statFields(process.pid) ?? [];
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}

export function resetPeaks(rootIds: readonly number[]): void {
  for (const id of rootIds.flatMap(processTree)) {
    try {
      writeFileSync(`/proc/${id}/clear_refs`, RESET_PEAK);
    } catch {
      // It has ended, or its peak cannot be reset: then it is the one since its start.
    }
  }
}

/** SIGKILL to the process and all its descendants. */
export function killTree(rootId: number): void {
  for (const id of processTree(rootId)) {
    try {
      process.kill(id, 'SIGKILL');
    } catch {
      // It has ended meanwhile.
    }
  }
}

/** What follows the name in /proc/ID/stat; null when there is no such process. */
function statFields(id: number): string[] | null {
  const text = read(id, 'stat');
  return text === '' ? null : text.slice(text.lastIndexOf(')') + 2).split(' ');
}

function kib(status: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(status)?.[1] ?? 0);
}

function read(id: number, file: string): string {
  try {
    return readFileSync(`/proc/${id}/${file}`, 'utf8');
  } catch {
    return '';
  }
}
