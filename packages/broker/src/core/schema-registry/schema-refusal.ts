/**
 * Why the registry does not do what it is asked. Reasons are those of Confluent's registry, which have numbers of their own
 * on the wire; its door knows them.
 */
export type SchemaRefusalReason =
  | 'SUBJECT_NOT_FOUND'
  | 'VERSION_NOT_FOUND'
  | 'SCHEMA_NOT_FOUND'
  | 'SUBJECT_SOFT_DELETED'
  | 'SUBJECT_NOT_SOFT_DELETED'
  | 'VERSION_SOFT_DELETED'
  | 'VERSION_NOT_SOFT_DELETED'
  | 'COMPATIBILITY_NOT_CONFIGURED'
  | 'MODE_NOT_CONFIGURED'
  | 'INVALID_SCHEMA'
  | 'INVALID_SUBJECT'
  | 'OPERATION_NOT_PERMITTED'
  | 'REFERENCE_EXISTS'
  | 'ID_DOES_NOT_MATCH'
  | 'INCOMPATIBLE';

export interface SchemaRefusal {
  readonly refused: SchemaRefusalReason;
  readonly message: string;
}

export function refuseSchema(refused: SchemaRefusalReason, message: string): SchemaRefusal {
  return { refused, message };
}

export function isSchemaRefusal(reply: unknown): reply is SchemaRefusal {
  return typeof reply === 'object' && reply !== null && 'refused' in reply;
}

export function subjectNotFound(subject: string): SchemaRefusal {
  return refuseSchema('SUBJECT_NOT_FOUND', `Subject '${subject}' not found.`);
}

export function versionNotFound(version: number | 'latest'): SchemaRefusal {
  return refuseSchema('VERSION_NOT_FOUND', `Version ${version} not found.`);
}
