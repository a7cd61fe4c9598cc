/** Questions to the registry: they change nothing. */
import type { SchemaCommandOf, SchemaReplies, SubjectVersionName, VersionSelector, VersionView } from './commands.ts';
import { incompatibilities, versionsToCheck } from './compatibility-check.ts';
import { checkSchema } from './given-schema.ts';
import { compatibilityOf, idOf, liveVersions, modeOf, versionKey, type RegistryState } from './registry-state.ts';
import {
  isSchemaRefusal,
  refuseSchema,
  subjectNotFound,
  versionNotFound,
  type SchemaRefusal,
} from './schema-refusal.ts';

export function listSubjects(
  state: RegistryState,
  { prefix, deleted, deletedOnly }: SchemaCommandOf<'list-subjects'>,
): readonly string[] {
  return sortedSubjects(state, prefix).filter((subject) => {
    const isLive = liveVersions(state, subject).length > 0;
    return deletedOnly ? !isLive : isLive || deleted;
  });
}

export function listVersions(
  state: RegistryState,
  { subject, deleted, deletedOnly }: SchemaCommandOf<'list-versions'>,
): readonly number[] | SchemaRefusal {
  const versions = [...(state.subjects.get(subject) ?? [])].flatMap(([version, { isDeleted }]) =>
    (deletedOnly ? isDeleted : deleted || !isDeleted) ? [version] : [],
  );
  return versions.length === 0 ? subjectNotFound(subject) : versions;
}

export function listSchemas(
  state: RegistryState,
  { prefix, deleted, latestOnly }: SchemaCommandOf<'list-schemas'>,
): readonly VersionView[] {
  return sortedSubjects(state, prefix).flatMap((subject) => {
    const listed = listVersions(state, { type: 'list-versions', subject, deleted, deletedOnly: false });
    if (isSchemaRefusal(listed)) return [];
    return (latestOnly ? listed.slice(-1) : listed).flatMap((version) => viewOf(state, subject, version) ?? []);
  });
}

export function getVersion(
  state: RegistryState,
  { subject, version, deleted }: SchemaCommandOf<'get-version'>,
): VersionView | SchemaRefusal {
  const found = selectVersion(state, subject, version, deleted);
  if (isSchemaRefusal(found)) return found;
  return viewOf(state, subject, found) ?? versionNotFound(version);
}

export function getSchema(
  state: RegistryState,
  { id }: SchemaCommandOf<'get-schema'>,
): SchemaReplies['get-schema'] | SchemaRefusal {
  const content = state.schemas.get(id);
  return content === undefined ? schemaNotFound(id) : { ...content, maxId: state.lastId };
}

export function listUses(
  state: RegistryState,
  { id, deleted }: SchemaCommandOf<'list-uses'>,
): readonly SubjectVersionName[] | SchemaRefusal {
  if (!state.schemas.has(id)) return schemaNotFound(id);
  return [...(state.uses.get(id) ?? [])]
    .map(versionOfKey)
    .filter(({ subject, version }) => deleted || state.subjects.get(subject)?.get(version)?.isDeleted === false)
    .sort((a, b) => (a.subject === b.subject ? a.version - b.version : a.subject < b.subject ? -1 : 1));
}

export function referencedBy(
  state: RegistryState,
  { subject, version }: SchemaCommandOf<'referenced-by'>,
): readonly number[] | SchemaRefusal {
  const found = selectVersion(state, subject, version, true);
  return isSchemaRefusal(found) ? found : liveReferrers(state, subject, found);
}

/** Ids of schemas that stand on the version and that a subject has, not deleted. */
export function liveReferrers(state: RegistryState, subject: string, version: number): number[] {
  const ids = [...(state.referrers.get(versionKey(subject, version)) ?? [])].filter((id) =>
    [...(state.uses.get(id) ?? [])].some((key) => {
      const use = versionOfKey(key);
      return state.subjects.get(use.subject)?.get(use.version)?.isDeleted === false;
    }),
  );
  return ids.sort((a, b) => a - b);
}

export function lookup(
  state: RegistryState,
  { subject, schema, deleted }: SchemaCommandOf<'lookup'>,
): VersionView | SchemaRefusal {
  const versions = state.subjects.get(subject);
  if (versions === undefined || (!deleted && liveVersions(state, subject).length === 0))
    return subjectNotFound(subject);
  const checked = checkSchema(state, schema);
  if (isSchemaRefusal(checked)) return checked;
  const id = idOf(state, checked.content);
  const version = id === undefined ? undefined : versionWith(state, subject, id, deleted);
  const view = version === undefined ? undefined : viewOf(state, subject, version);
  return view ?? refuseSchema('SCHEMA_NOT_FOUND', 'Schema not found');
}

/** The newest version of the subject that has the schema. */
export function versionWith(state: RegistryState, subject: string, id: number, deleted: boolean): number | undefined {
  const found = [...(state.subjects.get(subject) ?? [])].filter(
    ([, { schemaId, isDeleted }]) => schemaId === id && (deleted || !isDeleted),
  );
  return found.at(-1)?.[0];
}

export function check(
  state: RegistryState,
  { subject, schema, version }: SchemaCommandOf<'check'>,
): SchemaReplies['check'] | SchemaRefusal {
  const checked = checkSchema(state, schema);
  if (isSchemaRefusal(checked)) return checked;
  const level = compatibilityOf(state, subject);
  let versions = versionsToCheck(state, subject, level);
  if (version === 'latest') versions = liveVersions(state, subject).slice(-1);
  else if (version !== null) {
    const found = selectVersion(state, subject, version, false);
    if (isSchemaRefusal(found)) return found;
    versions = [found];
  }
  const messages = incompatibilities(state, subject, checked.source, versions, level);
  return { isCompatible: messages.length === 0, messages };
}

export function getCompatibility(
  state: RegistryState,
  { scope, defaultToGlobal }: SchemaCommandOf<'get-compatibility'>,
): SchemaReplies['get-compatibility'] | SchemaRefusal {
  if (scope === null || defaultToGlobal || state.compatibility.has(scope)) return compatibilityOf(state, scope);
  return refuseSchema(
    'COMPATIBILITY_NOT_CONFIGURED',
    `Subject '${scope}' does not have subject-level compatibility configured`,
  );
}

export function getMode(
  state: RegistryState,
  { scope, defaultToGlobal }: SchemaCommandOf<'get-mode'>,
): SchemaReplies['get-mode'] | SchemaRefusal {
  if (scope === null || defaultToGlobal || state.modes.has(scope)) return modeOf(state, scope);
  return refuseSchema('MODE_NOT_CONFIGURED', `Subject '${scope}' does not have subject-level mode configured`);
}

/** The number of a version that is there. */
export function selectVersion(
  state: RegistryState,
  subject: string,
  version: VersionSelector,
  deleted: boolean,
): number | SchemaRefusal {
  const versions = state.subjects.get(subject);
  const live = liveVersions(state, subject);
  if (versions === undefined || (live.length === 0 && !deleted)) return subjectNotFound(subject);
  if (version === 'latest') return (deleted ? [...versions.keys()].at(-1) : live.at(-1)) ?? versionNotFound(version);
  const found = versions.get(version);
  return found === undefined || (found.isDeleted && !deleted) ? versionNotFound(version) : version;
}

function viewOf(state: RegistryState, subject: string, version: number): VersionView | undefined {
  const id = state.subjects.get(subject)?.get(version)?.schemaId;
  const content = id === undefined ? undefined : state.schemas.get(id);
  return id === undefined || content === undefined ? undefined : { subject, version, id, ...content };
}

function sortedSubjects(state: RegistryState, prefix: string): string[] {
  return [...state.subjects.keys()].filter((subject) => subject.startsWith(prefix)).sort();
}

function versionOfKey(key: string): SubjectVersionName {
  const end = key.indexOf('\n');
  return { subject: key.slice(end + 1), version: Number(key.slice(0, end)) };
}

function schemaNotFound(id: number): SchemaRefusal {
  return refuseSchema('SCHEMA_NOT_FOUND', `Schema ${id} not found`);
}
