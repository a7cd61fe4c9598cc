/**
 * What a consumer group has for all of its events, whatever their topics: one subscriber handles them with one concurrency and one
 * guarantee, so events must not contradict each other. Retry is each event's own.
 */
import type { CatalogEvent } from './catalog-event.ts';
import type { CatalogFiles } from './catalog-files.ts';
import type { CatalogProblems } from './catalog-problems.ts';
import type { CatalogFileGroup } from './catalog-schema.ts';

/** What is undefined, the settings say. */
export interface GroupSettings {
  readonly guarantee: CatalogFileGroup['guarantee'];
  /** Milliseconds. */
  readonly poll: number | undefined;
  readonly concurrency: number | undefined;
  readonly unhandled: CatalogFileGroup['unhandled'];
}

const FIELDS = ['guarantee', 'poll', 'concurrency', 'unhandled'] as const;

export function subscriptionsOf(
  events: readonly CatalogEvent[],
  files: CatalogFiles,
  problems: CatalogProblems,
): Map<string, GroupSettings> {
  const settings = new Map<string, Record<string, unknown>>();
  const places = new Map<string, string>();
  for (const { name, source } of events) {
    for (const [group, said] of Object.entries(source.groups)) {
      const before = settings.get(group) ?? {};
      settings.set(group, before);
      for (const field of FIELDS) {
        const value = said[field];
        if (value === undefined) continue;
        const path = ['events', name, 'groups', group, field];
        const place = files.place(path);
        const id = `${group}\n${field}`;
        if (before[field] === undefined) {
          before[field] = value;
          places.set(id, place);
        } else if (before[field] !== value) {
          problems.add(
            `${place}: ${path.join('.')}: is ${JSON.stringify(value)}, but ${JSON.stringify(before[field])} at ${places.get(id)}: ` +
              `a group has one ${field} for all of its events`,
          );
        }
      }
    }
  }
  return settings as unknown as Map<string, GroupSettings>;
}
