/**
 * TypeScript declarations of a catalog's events: a type for each, and the table by which the SDK's `publish`, `enqueue` and `handle` are
 * checked by the compiler.
 *
 * The file is a module that adds to `@naru/client`; it has no code, and is in force wherever the program includes it.
 */
import type { Catalog, CatalogEvent, serdes } from '@naru/client';
import { avroDeclarations } from './avro-declarations.ts';
import { jsonDeclarations } from './json-declarations.ts';
import { protobufDeclarations } from './protobuf-declarations.ts';
import { TypeNames } from './type-names.ts';

/** Types of one event. */
export interface Declarations {
  /** TypeScript, complete lines; may be empty. */
  readonly text: string;
  /** The event's value, as the other text has it. */
  readonly type: string;
}

/** @throws NaruError INVALID_CONFIGURATION, SerializationError for schemas that are missing or broken */
export async function catalogTypes(catalog: Catalog): Promise<string> {
  const names = new TypeNames();
  const namespaces: string[] = [];
  const entries: string[] = [];
  for (const event of catalog.events.values()) {
    const namespace = names.take(event.name);
    const { text, type } = await declarations(event);
    entries.push(`${comment(event)}    ${JSON.stringify(event.name)}: ${text === '' ? type : `${namespace}.${type}`};`);
    if (text !== '')
      namespaces.push(
        `/** Types of the event \`${event.name}\`. */\nexport namespace ${namespace} {\n${indented(text)}\n}\n`,
      );
  }
  return [
    '// Written by "naru catalog types" from the event catalog: change that instead.',
    "import '@naru/client';\n",
    ...namespaces,
    "declare module '@naru/client' {",
    '  interface EventCatalog {',
    ...entries,
    '  }',
    '}\n',
  ].join('\n');
}

async function declarations(event: CatalogEvent): Promise<Declarations> {
  if (event.format === 'string') return { text: '', type: 'string' };
  if (event.format === 'bytes') return { text: '', type: 'Uint8Array' };
  const source = await event.schemaSource();
  if (source === undefined) return { text: '', type: 'unknown' };
  if (event.format === 'json') return jsonDeclarations(source);
  const serde = await event.localSerde();
  if (event.format === 'avro') return avroDeclarations(source);
  return protobufDeclarations((serde as serdes.ProtobufSerde<unknown>).message);
}

function comment({ source: { description } }: CatalogEvent): string {
  return description === undefined
    ? ''
    : `    /** ${description.replaceAll('*/', '*\\/').replaceAll(/\s+/g, ' ')} */\n`;
}

function indented(text: string): string {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => (line === '' ? '' : `  ${line}`))
    .join('\n');
}
