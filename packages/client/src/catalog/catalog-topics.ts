/** Topics as the events of a catalog describe them together. Events of one topic must not contradict each other. */
import { isDeepStrictEqual } from 'node:util';
import type { SettingsPath } from '@naru/protocol/settings-node';
import type { CatalogEvent } from './catalog-event.ts';
import type { CatalogFiles } from './catalog-files.ts';
import type { CatalogProblems } from './catalog-problems.ts';
import type { CatalogFileEvent, CatalogFileGroup } from './catalog-schema.ts';
import { MAX_TOPIC_GROUPS } from './catalog-schema.ts';

export interface CatalogTopicGroup {
  readonly name: string;
  readonly order: number;
  readonly afterDeadLetter: 'continue' | 'park';
  readonly onDeadLetter: 'withhold' | 'release';
}

export interface CatalogTopic {
  readonly name: string;
  readonly type: 'ordered' | 'parallel';
  /** Undefined: the broker's default. */
  readonly partitions: number | undefined;
  readonly groups: readonly CatalogTopicGroup[];
  /** As `naru topic config` has them: canonical texts where the catalog knows the unit, else as they were written. */
  readonly config: Readonly<Record<string, string>>;
  readonly events: readonly CatalogEvent[];
}

/** A value, which event says so, and where. */
interface Said<T> {
  readonly value: T;
  readonly place: string;
}

export function topicsOf(
  events: readonly CatalogEvent[],
  files: CatalogFiles,
  problems: CatalogProblems,
): Map<string, CatalogTopic> {
  const byTopic = new Map<string, CatalogEvent[]>();
  for (const event of events) byTopic.set(event.topic, [...(byTopic.get(event.topic) ?? []), event]);
  return new Map(
    [...byTopic].map(([name, its]) => [name, new TopicReading(name, its, files, problems).topic()] as const),
  );
}

class TopicReading {
  readonly #name: string;
  readonly #events: readonly CatalogEvent[];
  readonly #files: CatalogFiles;
  readonly #problems: CatalogProblems;

  constructor(name: string, events: readonly CatalogEvent[], files: CatalogFiles, problems: CatalogProblems) {
    this.#name = name;
    this.#events = events;
    this.#files = files;
    this.#problems = problems;
  }

  topic(): CatalogTopic {
    const type = this.#agreed(['type'], ({ type: said }) => said)?.value ?? 'ordered';
    const partitions = this.#agreed(['partitions'], ({ partitions: said }) => said)?.value;
    const groups = this.#groups(type);
    const config = this.#config();
    if (
      config['cleanup.policy']?.includes('acknowledged') === true &&
      groups.length === 0 &&
      !('acknowledged.groups' in config)
    )
      this.#tell(
        ['retention', 'policy'],
        `topic ${this.#name}: acknowledged needs groups: without one nothing would ever be finished`,
      );
    if (groups.length > 0) {
      config['groups'] = groups
        .toSorted((a, b) => (a.name < b.name ? -1 : 1))
        .map(groupText)
        .join(',');
    }
    return { name: this.#name, type, partitions, groups, config, events: this.#events };
  }

  #config(): Record<string, string> {
    const config: Record<string, string> = {};
    const names = new Set(this.#events.flatMap(({ source }) => Object.keys(source.settings ?? {})));
    for (const name of names) {
      const said = this.#agreed(['settings', name], ({ settings }) => settings?.[name]);
      if (said !== undefined) config[name] = String(said.value);
    }
    const time = this.#agreed(['retention', 'time'], ({ retention }) => retention?.time);
    const size = this.#agreed(['retention', 'size'], ({ retention }) => retention?.size);
    const policy = this.#agreed(['retention', 'policy'], ({ retention }) => policyText(retention?.policy));
    if (time !== undefined) config['retention.ms'] = limitText(time.value);
    if (size !== undefined) config['retention.bytes'] = limitText(size.value);
    if (policy !== undefined) config['cleanup.policy'] = policy.value;
    return config;
  }

  #groups(type: CatalogTopic['type']): CatalogTopicGroup[] {
    const names = new Set(this.#events.flatMap(({ source }) => Object.keys(source.groups)));
    const groups = [...names].map((name): CatalogTopicGroup => {
      const said = <T>(field: string, read: (group: CatalogFileGroup, event: CatalogFileEvent) => T | undefined) =>
        this.#agreed(['groups', name, field], (event) => {
          const group = event.groups[name];
          return group === undefined ? undefined : read(group, event);
        })?.value;
      return {
        name,
        order: said('order', ({ order }) => order) ?? 1,
        afterDeadLetter:
          said(
            'deadLetter',
            (group, event) => group.deadLetter?.afterDeadLetter ?? event.deadLetter?.afterDeadLetter,
          ) ?? 'continue',
        onDeadLetter: said('onDeadLetter', ({ onDeadLetter }) => onDeadLetter) ?? 'withhold',
      };
    });
    this.#checkGroups(groups, type);
    return groups;
  }

  #checkGroups(groups: readonly CatalogTopicGroup[], type: CatalogTopic['type']): void {
    if (groups.length > MAX_TOPIC_GROUPS)
      this.#tell(
        ['groups'],
        `topic ${this.#name} has ${groups.length} groups; at most ${MAX_TOPIC_GROUPS} can be declared`,
      );
    const first = Math.min(...groups.map(({ order }) => order));
    for (const { name, order, afterDeadLetter, onDeadLetter } of groups) {
      const at = ['groups', name];
      if (type === 'parallel' && order > 1)
        this.#tell([...at, 'order'], `${name} has order ${order}, and a parallel topic has no order to wait in`);
      else if (order > 1 && order === first)
        this.#tell([...at, 'order'], `${name} has order ${order}, but topic ${this.#name} has no group before it`);
      if (type === 'parallel' && afterDeadLetter === 'park')
        this.#tell([...at, 'deadLetter'], `${name} is to park keys, and a parallel topic keeps none in order`);
      if (onDeadLetter === 'release' && order === first)
        this.#tell(
          [...at, 'onDeadLetter'],
          `${name} is of the first order: it waits for nobody who could release anything`,
        );
    }
  }

  /** What the events say that say something; a problem where they say different things. */
  #agreed<T>(path: SettingsPath, read: (event: CatalogFileEvent) => T | undefined): Said<T> | undefined {
    let first: Said<T> | undefined;
    for (const event of this.#events) {
      const value = read(event.source);
      if (value === undefined) continue;
      const whole = ['events', event.name, ...path];
      const place = this.#files.place(whole);
      if (first === undefined) first = { value, place };
      else if (!isDeepStrictEqual(first.value, value)) {
        this.#problems.add(
          `${place}: ${whole.join('.')}: is ${JSON.stringify(value)}, but ${JSON.stringify(first.value)} at ${first.place}: ` +
            `events of one topic (${this.#name}) have to agree`,
        );
      }
    }
    return first;
  }

  /** Where an event of the topic says something of `path`. */
  #tell(path: SettingsPath, message: string): void {
    const said = this.#events.find(({ source }) => isSaid(source, path)) ?? this.#events[0];
    const whole = ['events', said?.name ?? '', ...path];
    this.#problems.add(`${this.#files.place(whole)}: ${whole.join('.')}: ${message}`);
  }
}

function isSaid(tree: unknown, path: SettingsPath): boolean {
  const value = path.reduce<unknown>((node, key) => (node as Record<string, unknown> | undefined)?.[key], tree);
  return value !== undefined;
}

function policyText(policy: NonNullable<CatalogFileEvent['retention']>['policy']): string | undefined {
  if (policy === undefined) return undefined;
  // The order in which the broker writes them.
  return (['compact', 'delete', 'acknowledged'] as const).filter((one) => [policy].flat().includes(one)).join(',');
}

function limitText(limit: number): string {
  return limit === Infinity ? '-1' : String(limit);
}

/** As the broker writes it: options that say what holds anyway are left out. */
function groupText({ name, order, afterDeadLetter, onDeadLetter }: CatalogTopicGroup): string {
  const options = order === 1 ? [] : [`order=${order}`];
  if (afterDeadLetter !== 'continue') options.push(`after-dead-letter=${afterDeadLetter}`);
  if (onDeadLetter !== 'withhold') options.push(`on-dead-letter=${onDeadLetter}`);
  return [name, ...options].join(':');
}
