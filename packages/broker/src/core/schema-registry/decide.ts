/** Commands to the registry: records that change it, and the answer. Pure. */
import {
  DEFAULT_COMPATIBILITY,
  DEFAULT_MODE,
  type SchemaCommand,
  type SchemaCommandOf,
  type SchemaCommandType,
  type SchemaReplies,
} from './commands.ts';
import { decideRegister } from './decide-register.ts';
import {
  check,
  getCompatibility,
  getMode,
  getSchema,
  getVersion,
  listSchemas,
  listSubjects,
  listUses,
  listVersions,
  liveReferrers,
  lookup,
  referencedBy,
  selectVersion,
} from './query.ts';
import { liveVersions, modeOf, versionKey, type RegistryState, type SchemaRecord } from './registry-state.ts';
import { isSchemaRefusal, refuseSchema, subjectNotFound, type SchemaRefusal } from './schema-refusal.ts';
import { subjectProblem } from './subject-name.ts';

export interface SchemaDecision<Reply> {
  readonly records: readonly SchemaRecord[];
  readonly reply: Reply | SchemaRefusal;
}

export function decideSchemas<T extends SchemaCommandType>(
  state: RegistryState,
  command: SchemaCommandOf<T>,
): SchemaDecision<SchemaReplies[T]> {
  return decide(state, command as unknown as SchemaCommand) as SchemaDecision<SchemaReplies[T]>;
}

function decide(state: RegistryState, command: SchemaCommand): SchemaDecision<unknown> {
  const problem = 'subject' in command ? subjectProblem(command.subject) : null;
  if (problem !== null) return answer(problem);
  switch (command.type) {
    case 'register':
      return decideRegister(state, command);
    case 'delete-subject':
      return deleteSubject(state, command);
    case 'delete-version':
      return deleteVersion(state, command);
    case 'set-compatibility':
    case 'delete-compatibility':
      return changeCompatibility(state, command);
    case 'set-mode':
    case 'delete-mode':
      return changeMode(state, command);
    case 'lookup':
      return answer(lookup(state, command));
    case 'check':
      return answer(check(state, command));
    case 'list-subjects':
      return answer(listSubjects(state, command));
    case 'list-versions':
      return answer(listVersions(state, command));
    case 'list-schemas':
      return answer(listSchemas(state, command));
    case 'get-version':
      return answer(getVersion(state, command));
    case 'get-schema':
      return answer(getSchema(state, command));
    case 'list-uses':
      return answer(listUses(state, command));
    case 'referenced-by':
      return answer(referencedBy(state, command));
    case 'get-compatibility':
      return answer(getCompatibility(state, command));
    case 'get-mode':
      return answer(getMode(state, command));
  }
}

function answer<R>(reply: R): SchemaDecision<Exclude<R, SchemaRefusal>> {
  return { records: [], reply: reply as Exclude<R, SchemaRefusal> | SchemaRefusal };
}

function deleteSubject(
  state: RegistryState,
  command: SchemaCommandOf<'delete-subject'>,
): SchemaDecision<readonly number[]> {
  const { subject, permanent } = command;
  const versions = state.subjects.get(subject);
  if (versions === undefined) return answer(subjectNotFound(subject));
  const live = liveVersions(state, subject);
  if (!permanent && live.length === 0) {
    const message = `Subject '${subject}' was soft deleted. Set permanent=true to delete permanently`;
    return answer(refuseSchema('SUBJECT_SOFT_DELETED', message));
  }
  if (permanent && live.length > 0) {
    const message = `Subject '${subject}' was not deleted first before being permanently deleted`;
    return answer(refuseSchema('SUBJECT_NOT_SOFT_DELETED', message));
  }
  const refusal = readOnlyRefusal(state, subject);
  if (refusal !== null) return answer(refusal);
  const deleted = permanent ? [...versions.keys()] : live;
  for (const version of deleted) {
    const used = referenceRefusal(state, subject, version, permanent);
    if (used !== null) return answer(used);
  }
  const records = permanent ? removal(state, subject, deleted) : softDeletion(state, subject, deleted);
  if (state.compatibility.has(subject)) records.push({ kind: 'compatibility', scope: subject, value: null });
  if (state.modes.has(subject)) records.push({ kind: 'mode', scope: subject, value: null });
  return { records, reply: deleted };
}

function deleteVersion(state: RegistryState, command: SchemaCommandOf<'delete-version'>): SchemaDecision<number> {
  const { subject, permanent } = command;
  const version = selectVersion(state, subject, command.version, permanent || command.version !== 'latest');
  if (isSchemaRefusal(version)) return answer(version);
  const isDeleted = state.subjects.get(subject)?.get(version)?.isDeleted === true;
  if (isDeleted !== permanent) {
    const message = isDeleted
      ? `Subject '${subject}' Version ${version} was soft deleted. Set permanent=true to delete permanently`
      : `Subject '${subject}' Version ${version} was not deleted first before being permanently deleted`;
    return answer(refuseSchema(isDeleted ? 'VERSION_SOFT_DELETED' : 'VERSION_NOT_SOFT_DELETED', message));
  }
  const refusal = readOnlyRefusal(state, subject) ?? referenceRefusal(state, subject, version, permanent);
  if (refusal !== null) return answer(refusal);
  const records = permanent ? removal(state, subject, [version]) : softDeletion(state, subject, [version]);
  return { records, reply: version };
}

function softDeletion(state: RegistryState, subject: string, versions: readonly number[]): SchemaRecord[] {
  return versions.flatMap((version): SchemaRecord[] => {
    const value = state.subjects.get(subject)?.get(version);
    return value === undefined ? [] : [{ kind: 'version', subject, version, value: { ...value, isDeleted: true } }];
  });
}

/** Schemas go with the last version that has them. Their ids are not given again. */
function removal(state: RegistryState, subject: string, versions: readonly number[]): SchemaRecord[] {
  const records: SchemaRecord[] = versions.map((version) => ({ kind: 'version', subject, version, value: null }));
  const gone = new Set(versions.map((version) => versionKey(subject, version)));
  const ids = new Set(versions.flatMap((version) => state.subjects.get(subject)?.get(version)?.schemaId ?? []));
  for (const id of ids)
    if ([...(state.uses.get(id) ?? [])].every((key) => gone.has(key)))
      records.push({ kind: 'schema', id, value: null });
  return records;
}

function readOnlyRefusal(state: RegistryState, subject: string): SchemaRefusal | null {
  if (modeOf(state, subject) !== 'READONLY') return null;
  return refuseSchema('OPERATION_NOT_PERMITTED', `Subject ${subject} is in read-only mode`);
}

/** A schema that others stand on stays: softly deleted ones count when it would be gone for good. */
function referenceRefusal(
  state: RegistryState,
  subject: string,
  version: number,
  permanent: boolean,
): SchemaRefusal | null {
  const key = versionKey(subject, version);
  const referrers = permanent ? (state.referrers.get(key)?.size ?? 0) : liveReferrers(state, subject, version).length;
  if (referrers === 0) return null;
  const named = `{magic=1,keytype=SCHEMA,subject=${subject},version=${version}}`;
  return refuseSchema('REFERENCE_EXISTS', `One or more references exist to the schema ${named}.`);
}

function changeCompatibility(
  state: RegistryState,
  command: SchemaCommandOf<'set-compatibility'> | SchemaCommandOf<'delete-compatibility'>,
): SchemaDecision<SchemaReplies['set-compatibility']> {
  const { scope } = command;
  const problem = scope === null ? null : subjectProblem(scope);
  if (problem !== null) return answer(problem);
  if (command.type === 'set-compatibility')
    return { records: [{ kind: 'compatibility', scope, value: command.level }], reply: command.level };
  const before = state.compatibility.get(scope);
  if (before === undefined) return answer(scope === null ? DEFAULT_COMPATIBILITY : subjectNotFound(scope));
  return { records: [{ kind: 'compatibility', scope, value: null }], reply: before };
}

function changeMode(
  state: RegistryState,
  command: SchemaCommandOf<'set-mode'> | SchemaCommandOf<'delete-mode'>,
): SchemaDecision<SchemaReplies['set-mode']> {
  const { scope } = command;
  const problem = scope === null ? null : subjectProblem(scope);
  if (problem !== null) return answer(problem);
  if (command.type === 'delete-mode') {
    const before = state.modes.get(scope);
    if (before === undefined) return answer(scope === null ? DEFAULT_MODE : subjectNotFound(scope));
    return { records: [{ kind: 'mode', scope, value: null }], reply: before };
  }
  const { mode, force } = command;
  const hasSchemas = scope === null ? state.subjects.size > 0 : state.subjects.has(scope);
  if (mode === 'IMPORT' && !force && hasSchemas && modeOf(state, scope) !== 'IMPORT')
    return answer(refuseSchema('OPERATION_NOT_PERMITTED', 'Cannot import since found existing subjects'));
  return { records: [{ kind: 'mode', scope, value: mode }], reply: mode };
}
