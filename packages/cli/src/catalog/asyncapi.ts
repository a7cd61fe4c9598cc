/** The catalog as an AsyncAPI 3 document: topics are channels, events messages, and every group an operation that receives. */
import type { Catalog, CatalogEvent, CatalogTopic } from '@naru/client';

type Json = { [key: string]: unknown };

const VERSION = '3.0.0';
const CONTENT_TYPES: Readonly<Record<CatalogEvent['format'], string>> = {
  json: 'application/json',
  avro: 'application/avro',
  protobuf: 'application/protobuf',
  string: 'text/plain',
  bytes: 'application/octet-stream',
};
const DRAFT_07 = 'application/schema+json;version=draft-07';
const DRAFT_2020 = 'application/schema+json;version=2020-12';
const AVRO = 'application/vnd.apache.avro+json;version=1.9.0';
const PROTOBUF = 'application/vnd.google.protobuf;version=3';

/** Of every event, unless publishers leave them out. */
const CLOUD_EVENT_HEADERS = {
  type: 'object',
  properties: {
    ce_specversion: { type: 'string', const: '1.0' },
    ce_id: { type: 'string' },
    ce_type: { type: 'string' },
    ce_source: { type: 'string' },
    ce_time: { type: 'string', format: 'date-time' },
  },
} as const;

/** @throws NaruError INVALID_CONFIGURATION for a schema that cannot be read */
export async function asyncApiDocument(catalog: Catalog): Promise<Json> {
  const messages: Json = {};
  const schemas: Json = {};
  for (const event of catalog.events.values()) {
    const components = await payloadSchemas(event);
    Object.assign(schemas, Object.fromEntries(components));
    messages[id(event.name)] = message(event, components.length > 0);
  }
  const topics = [...catalog.topics.values()];
  return {
    asyncapi: VERSION,
    info: { title: 'Event catalog', version: '1.0.0' },
    defaultContentType: 'application/json',
    channels: Object.fromEntries(topics.map((topic) => [id(topic.name), channel(topic)])),
    operations: Object.assign({}, ...topics.map(operations)) as Json,
    components: { messages, schemas },
  };
}

function channel({ name, type, partitions, events }: CatalogTopic): Json {
  return {
    address: name,
    description: type === 'ordered' ? 'Ordered by key.' : 'Parallel: events are given singly, in no order.',
    messages: Object.fromEntries(
      events.map((event) => [id(event.name), { $ref: `#/components/messages/${id(event.name)}` }]),
    ),
    bindings: { kafka: { topic: name, ...(partitions === undefined ? {} : { partitions }) } },
  };
}

function operations({ name, events, groups }: CatalogTopic): Json {
  const at = `#/channels/${id(name)}`;
  const messagesOf = (its: readonly CatalogEvent[]): Json[] =>
    its.map((event) => ({ $ref: `${at}/messages/${id(event.name)}` }));
  const result: Json = {
    [`publish.${id(name)}`]: { action: 'send', channel: { $ref: at }, messages: messagesOf(events) },
  };
  for (const group of groups) {
    const its = events.filter(({ source }) => Object.hasOwn(source.groups, group.name));
    result[`${id(group.name)}.${id(name)}`] = {
      action: 'receive',
      title: group.name,
      channel: { $ref: at },
      messages: messagesOf(its),
      bindings: { kafka: { groupId: { type: 'string', enum: [group.name] } } },
    };
  }
  return result;
}

function message({ name, format, key, source }: CatalogEvent, hasSchema: boolean): Json {
  return {
    name,
    ...(source.description === undefined ? {} : { description: source.description }),
    contentType: CONTENT_TYPES[format],
    headers: CLOUD_EVENT_HEADERS,
    ...(hasSchema ? { payload: { $ref: `#/components/schemas/${id(name)}` } } : {}),
    ...(key === undefined
      ? {}
      : { bindings: { kafka: { key: { type: 'string', description: `${key} of the payload` } } } }),
  };
}

/** Components of an event's schema, the event's own first; empty without a schema. */
async function payloadSchemas(event: CatalogEvent): Promise<[string, Json][]> {
  const name = id(event.name);
  const source = await event.schemaSource();
  if (source === undefined) return [];
  if (source.schemaType === 'PROTOBUF') return [[name, { schemaFormat: PROTOBUF, schema: source.schema }]];
  if (source.schemaType === 'AVRO')
    return [[name, { schemaFormat: AVRO, schema: avroNames(JSON.parse(source.schema)) }]];
  const components = new Map(source.references.map((reference, index) => [reference.name, `${name}.${index + 1}`]));
  const component = (key: string, text: string): [string, Json] => {
    const schema = JSON.parse(text) as unknown;
    const dialect = (schema as { readonly $schema?: unknown } | null)?.$schema;
    const schemaFormat = typeof dialect === 'string' && /draft-0[67]/.test(dialect) ? DRAFT_07 : DRAFT_2020;
    return [key, { schemaFormat, schema: moved(schema, key, components) }];
  };
  return [
    component(name, source.schema),
    ...source.references.map((reference) => component(components.get(reference.name) as string, reference.schema)),
  ];
}

/** AsyncAPI's rules for Avro have namespaces apart from names. */
function avroNames(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(avroNames);
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [key, avroNames(inner)] as const);
  const result: Json = Object.fromEntries(entries);
  const { type, name } = result;
  const at = typeof name === 'string' ? name.lastIndexOf('.') : -1;
  if (at < 0 || !['record', 'error', 'enum', 'fixed'].includes(type as string)) return result;
  return { ...result, namespace: (name as string).slice(0, at), name: (name as string).slice(at + 1) };
}

/** The schema where its document is not its own any more: its references lead to components. */
function moved(value: unknown, component: string, components: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value)) return value.map((one) => moved(one, component, components));
  if (typeof value !== 'object' || value === null) return value;
  const entries = Object.entries(value).filter(([key]) => key !== '$schema' && key !== '$id');
  return Object.fromEntries(
    entries.map(([key, inner]) => {
      if (key !== '$ref' || typeof inner !== 'string') return [key, moved(inner, component, components)];
      const at = inner.indexOf('#');
      const [name, part] = at < 0 ? [inner, ''] : [inner.slice(0, at), inner.slice(at + 1)];
      const target = name === '' ? component : components.get(name);
      return [key, target === undefined ? inner : `#/components/schemas/${target}/schema${part}`];
    }),
  );
}

/** A name as a key of the document may be. */
function id(name: string): string {
  return name.replaceAll(/[^\w.-]/g, (character) => `_${character.charCodeAt(0).toString(16)}`);
}
