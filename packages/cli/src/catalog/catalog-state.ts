/** What the broker has of a catalog's topics and schemas, and changing it. */
import type { Catalog, CatalogEvent, CatalogTopic, Naru } from '@naru/client';
import { isNaruError, NaruError } from '@naru/protocol';
import type { RegistryConnection } from '../registry-connection.ts';
import type { ExistingTopic, PlannedChange, SchemaState } from './catalog-plan.ts';

export async function readTopics(naru: Naru, catalog: Catalog): Promise<Map<string, ExistingTopic>> {
  const topics = await naru.admin.listTopics();
  const found = new Map<string, ExistingTopic>();
  for (const topic of topics) {
    if (!catalog.topics.has(topic.name)) continue;
    found.set(topic.name, { ...topic, entries: await naru.admin.describeTopicConfig(topic.name) });
  }
  return found;
}

/** Of the events that have a subject. @throws NaruError when the registry does not answer */
export async function readSchemas(
  registry: () => Promise<RegistryConnection>,
  catalog: Catalog,
): Promise<SchemaState[]> {
  const states: SchemaState[] = [];
  for (const event of catalog.events.values()) {
    if (event.subject === undefined) continue;
    states.push(await schemaState(await registry(), event, event.subject));
  }
  return states;
}

async function schemaState(registry: RegistryConnection, event: CatalogEvent, subject: string): Promise<SchemaState> {
  const body = await schemaBody(event);
  const at = encodeURIComponent(subject);
  const found = await known(() => registry.call('POST', `/subjects/${at}`, body));
  const isRegistered = found !== undefined;
  const report = isRegistered
    ? undefined
    : await known(() =>
        registry.call<{ readonly is_compatible: boolean; readonly messages?: readonly string[] }>(
          'POST',
          `/compatibility/subjects/${at}/versions?verbose=true`,
          body,
        ),
      );
  const incompatible = report?.is_compatible === false ? (report.messages ?? ['with what is registered']) : [];
  return { subject, event: event.name, isRegistered, incompatible };
}

/** Undefined for what the registry does not have. */
async function known<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch (error) {
    if (isNaruError(error, 'INVALID_REQUEST') && /\[4040\d\]$/.test(error.message)) return undefined;
    throw error;
  }
}

async function schemaBody(event: CatalogEvent): Promise<{ readonly schema: string; readonly schemaType: string }> {
  const source = await event.schemaSource();
  if (source === undefined) throw new NaruError('INVALID_CONFIGURATION', `event ${event.name} has no schema`);
  return { schema: source.schema, schemaType: source.schemaType };
}

/** Does what is planned, in its order; each step is safe to repeat. Nothing of it may be refused. */
export async function applyChanges(
  naru: Naru,
  registry: () => Promise<RegistryConnection>,
  catalog: Catalog,
  changes: readonly PlannedChange[],
): Promise<void> {
  for (const change of changes) {
    if (change.kind === 'create-topic') {
      const { name, type, partitions, config } = change.topic;
      await naru.admin.createTopic(name, { type, partitions, config });
    }
    if (change.kind === 'add-partitions') {
      // It is allowed, or the topic has no order.
      await naru.admin.addPartitions(change.topic.name, change.to, { allowKeyReorder: true });
    }
  }
  for (const [topic, settings] of settingsByTopic(changes)) {
    const set = Object.fromEntries(settings.filter((pair): pair is [string, string] => pair[1] !== undefined));
    const unset = settings.filter(([, to]) => to === undefined).map(([name]) => name);
    await naru.admin.changeTopicConfig(topic.name, { set, unset });
  }
  for (const change of changes) {
    if (change.kind !== 'register-schema') continue;
    const body = await schemaBody(catalog.event(change.event));
    await (await registry()).call('POST', `/subjects/${encodeURIComponent(change.subject)}/versions`, body);
  }
}

function settingsByTopic(changes: readonly PlannedChange[]): Map<CatalogTopic, [string, string | undefined][]> {
  const topics = new Map<CatalogTopic, [string, string | undefined][]>();
  for (const change of changes) {
    if (change.kind !== 'configure') continue;
    topics.set(change.topic, [...(topics.get(change.topic) ?? []), [change.setting, change.to]]);
  }
  return topics;
}
