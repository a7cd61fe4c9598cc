/** Registering: a schema becomes the next version of a subject, unless the subject has it already. */
import type { SchemaCommandOf, SchemaContent, SchemaReplies } from './commands.ts';
import { incompatibilities, versionsToCheck } from './compatibility-check.ts';
import type { SchemaDecision } from './decide.ts';
import { checkSchema, deletedReference, type CheckedSchema } from './given-schema.ts';
import { versionWith } from './query.ts';
import { compatibilityOf, idOf, modeOf, type RegistryState, type SchemaRecord } from './registry-state.ts';
import { isSchemaRefusal, refuseSchema, type SchemaRefusal } from './schema-refusal.ts';

export const MAX_SUBJECTS = 20_000;
export const MAX_VERSIONS = 2_000;
/** Of all schemas together: they are kept in memory, and in every checkpoint. */
export const MAX_TOTAL_LENGTH = 32 * 1024 * 1024;
export const MAX_ID = 2 ** 31 - 1;

type Register = SchemaCommandOf<'register'>;
type Decision = SchemaDecision<SchemaReplies['register']>;

export function decideRegister(state: RegistryState, command: Register): Decision {
  const { subject, schema, id: givenId } = command;
  // What is registered already stays so, also when something that it refers to was deleted since.
  const checked = checkSchema(state, schema);
  if (isSchemaRefusal(checked)) return refused(checked);
  const { content } = checked;
  const id = idOf(state, content);
  if (id !== undefined && versionWith(state, subject, id, false) !== undefined && (givenId === null || givenId === id))
    return { records: [], reply: { id } };
  const refusal = modeRefusal(state, command) ?? limitRefusal(state, subject, id === undefined ? content : null);
  if (refusal !== null) return refused(refusal);
  if (modeOf(state, subject) === 'IMPORT') return imported(state, command, content, id);
  const incompatible = deletedReference(state, content) ?? incompatibility(state, subject, checked);
  if (incompatible !== null) return refused(incompatible);
  const version = Math.max(0, ...(state.subjects.get(subject)?.keys() ?? [])) + 1;
  return store(state, subject, version, id ?? state.lastId + 1, content);
}

function imported(state: RegistryState, command: Register, content: SchemaContent, id: number | undefined): Decision {
  const { subject, id: givenId, version: givenVersion } = command;
  if (givenId === null) return refused(notPermitted(`Subject ${subject} is in import mode: a schema needs its id`));
  const other = state.schemas.get(givenId);
  if (other !== undefined && idOf(state, other) !== id)
    return refused(refuseSchema('ID_DOES_NOT_MATCH', `Overwrite new schema with id ${givenId} is not permitted.`));
  if (id !== undefined && id !== givenId)
    return refused(
      refuseSchema('ID_DOES_NOT_MATCH', `The schema has id ${id} already, and cannot have ${givenId} too.`),
    );
  const version = givenVersion ?? Math.max(0, ...(state.subjects.get(subject)?.keys() ?? [])) + 1;
  const before = state.subjects.get(subject)?.get(version);
  if (before !== undefined && before.schemaId !== givenId)
    return refused(notPermitted(`Subject ${subject} has another schema as version ${version}`));
  return store(state, subject, version, givenId, content);
}

function store(state: RegistryState, subject: string, version: number, id: number, content: SchemaContent): Decision {
  const records: SchemaRecord[] = [];
  if (id > state.lastId) records.push({ kind: 'last-id', value: id });
  if (!state.schemas.has(id)) records.push({ kind: 'schema', id, value: content });
  records.push({ kind: 'version', subject, version, value: { schemaId: id, isDeleted: false } });
  return { records, reply: { id } };
}

function incompatibility(state: RegistryState, subject: string, { source }: CheckedSchema): SchemaRefusal | null {
  const level = compatibilityOf(state, subject);
  const messages = incompatibilities(state, subject, source, versionsToCheck(state, subject, level), level);
  if (messages.length === 0) return null;
  const details = `[${messages.join(', ')}]`;
  const what = `Schema being registered is incompatible with an earlier schema for subject "${subject}", details: ${details}`;
  return refuseSchema('INCOMPATIBLE', what);
}

function modeRefusal(state: RegistryState, { subject, id, version }: Register): SchemaRefusal | null {
  const mode = modeOf(state, subject);
  if (mode === 'READONLY') return notPermitted(`Subject ${subject} is in read-only mode`);
  if (mode === 'READWRITE' && (id !== null || version !== null))
    return notPermitted(`Subject ${subject} is not in import mode`);
  return null;
}

function limitRefusal(state: RegistryState, subject: string, added: SchemaContent | null): SchemaRefusal | null {
  const versions = state.subjects.get(subject);
  if (versions === undefined && state.subjects.size >= MAX_SUBJECTS)
    return notPermitted(`The registry has ${MAX_SUBJECTS} subjects, which is the limit: delete some permanently`);
  if (versions !== undefined && versions.size >= MAX_VERSIONS)
    return notPermitted(`Subject ${subject} has ${MAX_VERSIONS} versions, which is the limit: delete some permanently`);
  if (state.textLength + (added?.text.length ?? 0) > MAX_TOTAL_LENGTH)
    return notPermitted(`All schemas together are larger than ${MAX_TOTAL_LENGTH} characters, which is the limit`);
  return state.lastId >= MAX_ID ? notPermitted('There are no ids left') : null;
}

function notPermitted(message: string): SchemaRefusal {
  return refuseSchema('OPERATION_NOT_PERMITTED', message);
}

function refused(reply: SchemaRefusal): Decision {
  return { records: [], reply };
}
