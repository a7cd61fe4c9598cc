/** What subjects may be called. */
import { refuseSchema, type SchemaRefusal } from './schema-refusal.ts';

export const MAX_SUBJECT_LENGTH = 255;

const CONTEXT = /^:\./;
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}]/u;
/** Confluent's own, for what has no subject. */
const RESERVED: ReadonlySet<string> = new Set(['__GLOBAL', '__EMPTY']);

export function subjectProblem(subject: string): SchemaRefusal | null {
  const named = `The specified subject '${subject.slice(0, MAX_SUBJECT_LENGTH)}' is not a valid`;
  if (CONTEXT.test(subject))
    return refuseSchema(
      'INVALID_SUBJECT',
      `${named}: contexts (":.context:") are not supported, there is one registry`,
    );
  if (subject.trim() === '' || UNPRINTABLE.test(subject) || RESERVED.has(subject))
    return refuseSchema('INVALID_SUBJECT', `${named}.`);
  if (subject.length > MAX_SUBJECT_LENGTH)
    return refuseSchema(
      'INVALID_SUBJECT',
      `${named}: it has ${subject.length} characters, at most ${MAX_SUBJECT_LENGTH}`,
    );
  return null;
}
