/** A schema that somebody sends: its references found, its text checked and brought into the form that is kept. */
import {
  canonicalText,
  InvalidSchemaError,
  MAX_REFERENCES,
  type ResolvedReference,
  type SchemaSource,
} from '../../schema/index.ts';
import type { GivenSchema, SchemaContent, SchemaReference } from './commands.ts';
import { liveVersions, type RegistryState } from './registry-state.ts';
import { refuseSchema, type SchemaRefusal } from './schema-refusal.ts';

export interface CheckedSchema {
  readonly content: SchemaContent;
  readonly source: SchemaSource;
}

/** References may name versions that were deleted softly: see {@link deletedReference}. */
export function checkSchema(state: RegistryState, given: GivenSchema): CheckedSchema | SchemaRefusal {
  const { type, text, normalize } = given;
  if (text.trim() === '') return refuseSchema('INVALID_SCHEMA', 'Empty schema');
  const references = findReferences(state, given);
  if ('refused' in references) return references;
  if (normalize) references.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  try {
    const source = sourceOf(state, { type, text, references });
    const canonical = canonicalText(source, normalize);
    return { content: { type, text: canonical, references }, source: { ...source, text: canonical } };
  } catch (error) {
    if (error instanceof InvalidSchemaError) return invalidSchema(type, error.message);
    throw error;
  }
}

/** Why a new schema may not have these references: what it names was deleted. */
export function deletedReference(state: RegistryState, { type, references }: SchemaContent): SchemaRefusal | null {
  const gone = references.find(({ subject, version }) => state.subjects.get(subject)?.get(version)?.isDeleted === true);
  return gone === undefined ? null : invalidSchema(type, `${missing(gone.subject, gone.version)}: it was deleted`);
}

/**
 * With everything that it stands on.
 *
 * @param known sources that were made already: many schemas may stand on the same
 */
export function sourceOf(
  state: RegistryState,
  content: SchemaContent,
  known: Map<number, SchemaSource> = new Map(),
): SchemaSource {
  const { type, text, references } = content;
  const resolved = references.map(({ name, subject, version }): ResolvedReference => {
    const id = state.subjects.get(subject)?.get(version)?.schemaId;
    const found = id === undefined ? undefined : state.schemas.get(id);
    if (id === undefined || found === undefined) throw new InvalidSchemaError(missing(subject, version));
    const source = known.get(id) ?? sourceOf(state, found, known);
    known.set(id, source);
    return { name, source };
  });
  return { type, text, references: resolved };
}

function findReferences(state: RegistryState, { type, references }: GivenSchema): SchemaReference[] | SchemaRefusal {
  if (references.length > MAX_REFERENCES)
    return invalidSchema(type, `it has ${references.length} references, at most ${MAX_REFERENCES} are allowed`);
  const found: SchemaReference[] = [];
  const names = new Set<string>();
  for (const { name, subject, version } of references) {
    if (names.has(name)) return invalidSchema(type, `two references are called "${name}"`);
    names.add(name);
    const number = version === 'latest' ? liveVersions(state, subject).at(-1) : version;
    const target = number === undefined ? undefined : state.subjects.get(subject)?.get(number);
    if (number === undefined || target === undefined) return invalidSchema(type, missing(subject, version));
    found.push({ name, subject, version: number });
  }
  return found;
}

function missing(subject: string, version: number | 'latest'): string {
  return `No schema reference found for subject "${subject}" and version ${version}`;
}

function invalidSchema(type: string, details: string): SchemaRefusal {
  return refuseSchema('INVALID_SCHEMA', `Invalid schema of type ${type}, details: ${details}`);
}
