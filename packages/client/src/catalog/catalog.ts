/**
 * The event catalog: what events there are, with topic, key, format, schema and groups, as events.yaml says.
 *
 * Publishers and subscribers go by event names and look here for the rest. The broker never sees the file: `naru catalog apply` makes
 * topics, groups and schemas of it.
 */
import { NaruError } from '@naru/protocol';
import { invalidSettings, settingsProblems, suggestion } from '@naru/protocol/settings-node';
import { checkEvents } from './catalog-checks.ts';
import { CatalogEvent } from './catalog-event.ts';
import type { CatalogFiles } from './catalog-files.ts';
import { readCatalogFiles } from './catalog-files.ts';
import { CatalogProblems } from './catalog-problems.ts';
import { catalogSchema } from './catalog-schema.ts';
import { subscriptionsOf } from './catalog-groups.ts';
import type { GroupSettings } from './catalog-groups.ts';
import { topicsOf } from './catalog-topics.ts';
import type { CatalogTopic } from './catalog-topics.ts';

export const DEFAULT_CATALOG_FILE = 'events.yaml';

export interface CatalogOptions {
  /** Which of the file's `environments` is laid over its events; null for none. */
  readonly environment?: string | null | undefined;
}

export class Catalog {
  readonly file: string;
  readonly environment: string | null;
  /** That the file knows. */
  readonly environments: readonly string[];
  readonly events: ReadonlyMap<string, CatalogEvent>;
  /** By name, in the order of their first events. */
  readonly topics: ReadonlyMap<string, CatalogTopic>;
  /** What groups have for all of their events, by group. */
  readonly groups: ReadonlyMap<string, GroupSettings>;
  readonly #files: CatalogFiles;

  private constructor(file: string, environment: string | null, files: CatalogFiles, events: readonly CatalogEvent[]) {
    this.file = file;
    this.environment = environment;
    this.environments = files.environments;
    this.#files = files;
    this.events = new Map(events.map((event) => [event.name, event]));
    const problems = new CatalogProblems();
    this.topics = topicsOf(events, files, problems);
    this.groups = subscriptionsOf(events, files, problems);
    problems.throwIfAny();
  }

  /**
   * Reads a catalog with what it includes. Schemas are read when their event is used first; {@link check} reads them all.
   *
   * @throws NaruError INVALID_CONFIGURATION with a line for each problem: file, line, column, what is wrong
   */
  static async load(
    file: string = DEFAULT_CATALOG_FILE,
    { environment = null }: CatalogOptions = {},
  ): Promise<Catalog> {
    const files = await readCatalogFiles(file, environment);
    return Catalog.#of(file, environment, files);
  }

  static #of(file: string, environment: string | null, files: CatalogFiles): Catalog {
    const result = catalogSchema.safeParse(files.tree, { reportInput: true });
    if (!result.success) throw invalidSettings(settingsProblems(catalogSchema, result.error, files.place, 'field'));
    const problems = new CatalogProblems();
    const entries = Object.entries(result.data.events);
    checkEvents(entries, files, problems);
    problems.throwIfAny();
    const events = entries.map(([name, event]) => new CatalogEvent(name, event, files));
    return new Catalog(file, environment, files, events);
  }

  /** @throws NaruError INVALID_REQUEST for one that the catalog does not have */
  event(name: string): CatalogEvent {
    const event = this.events.get(name);
    if (event !== undefined) return event;
    const topic = this.topics.get(name);
    const hint =
      topic === undefined
        ? suggestion(name, this.events.keys())
        : `; it is a topic, with ${topic.events.map((one) => one.name).join(', ')}`;
    throw new NaruError('INVALID_REQUEST', `no event ${JSON.stringify(name)} in the catalog ${this.file}${hint}`);
  }

  /** The events of a topic. */
  eventsOf(topic: string): readonly CatalogEvent[] {
    return this.topics.get(topic)?.events ?? [];
  }

  /**
   * Reads every schema.
   *
   * @throws NaruError INVALID_CONFIGURATION with a line for each one that is missing or broken
   */
  async check(): Promise<void> {
    const problems = new CatalogProblems();
    for (const event of this.events.values()) {
      try {
        await event.localSerde();
      } catch (error) {
        const path = ['events', event.name, 'schema'];
        problems.add(`${this.#files.place(path)}: ${path.join('.')}: ${(error as Error).message}`);
      }
    }
    problems.throwIfAny();
  }
}
