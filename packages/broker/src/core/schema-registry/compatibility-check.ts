/** A schema against versions of a subject, as the subject's level asks for. */
import { schemaDifferences, type ComparedNames, type SchemaSource } from '../../schema/index.ts';
import type { CompatibilityLevel } from './commands.ts';
import { sourceOf } from './given-schema.ts';
import { liveVersions, type RegistryState } from './registry-state.ts';

/** Of one old schema, in a message. */
const MAX_SHOWN_SCHEMA = 1_000;

const NEW_READS_OLD: ComparedNames = { reader: 'new', writer: 'old' };
const OLD_READS_NEW: ComparedNames = { reader: 'old', writer: 'new' };

/** Versions that a new one must be compatible with, the newest first. */
export function versionsToCheck(state: RegistryState, subject: string, level: CompatibilityLevel): number[] {
  if (level === 'NONE') return [];
  const versions = liveVersions(state, subject).toReversed();
  return level.endsWith('_TRANSITIVE') ? versions : versions.slice(0, 1);
}

/** What is incompatible, in the form of Confluent's messages; empty when nothing is. Ends at the first version that is not. */
export function incompatibilities(
  state: RegistryState,
  subject: string,
  schema: SchemaSource,
  versions: readonly number[],
  level: CompatibilityLevel,
): string[] {
  for (const version of versions) {
    const id = state.subjects.get(subject)?.get(version)?.schemaId;
    const content = id === undefined ? undefined : state.schemas.get(id);
    if (content === undefined || level === 'NONE') continue;
    const old = sourceOf(state, content);
    const found = [
      ...(level.startsWith('FORWARD') ? [] : schemaDifferences(schema, old, NEW_READS_OLD)),
      ...(level.startsWith('BACKWARD') ? [] : schemaDifferences(old, schema, OLD_READS_NEW)),
    ];
    if (found.length === 0) continue;
    const text =
      content.text.length > MAX_SHOWN_SCHEMA ? `${content.text.slice(0, MAX_SHOWN_SCHEMA)}...` : content.text;
    return [
      ...found.map(({ errorType, description }) => `{errorType:'${errorType}', description:'${description}'}`),
      `{oldSchemaVersion: ${version}}`,
      `{oldSchema: '${text}'}`,
      `{compatibility: '${level}'}`,
    ];
  }
  return [];
}
