/** An event's story for the report. */
import type { EventTrace, GroupTrace } from '@naru/client';

export function traceLines({ topic, partition, offset, key, groups }: EventTrace): string[] {
  return [`${topic}/${partition}/${offset} of ${key}`, ...groups.flatMap(groupLines)];
}

function groupLines({ group, state, atMs, note, history }: GroupTrace): string[] {
  const when = atMs === undefined ? '' : ` at ${time(atMs)}`;
  const steps = history.map(({ atMs: stepMs, what, attempts, detail }) => {
    const parts = [time(stepMs), what.padEnd(14), attempts > 0 ? `attempt ${attempts}` : '', detail];
    return `  ${parts.filter((part) => part !== '').join('  ')}`.trimEnd();
  });
  return [`${group}: ${state}${when}${note === '' ? '' : ` (${note})`}`, ...steps];
}

/** Of day, to the millisecond. */
function time(atMs: number): string {
  return new Date(atMs).toISOString().slice(11, 23);
}
