/**
 * Values checked by any Standard Schema (zod, valibot, ArkType, …) on top of another serde.
 *
 * A publisher sends the value that was accepted, as it is; a reader gets what the schema makes of it, transformations and
 * defaults included. So one schema does for both sides, also where it transforms. Asynchronous validators are awaited.
 */
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { isPromise, json } from './serde.ts';
import type { Awaitable, Serde } from './serde.ts';
import { SerializationError, pointer } from './serialization-error.ts';
import type { Violation } from './serialization-error.ts';

export interface ValidatedOptions {
  /** How values become bytes. Default JSON. */
  readonly serde?: Serde<never> | Serde<unknown> | undefined;
  /** Where values are checked. Default both. */
  readonly on?: 'publish' | 'read' | 'both' | undefined;
}

/** A record without a value (null) is a tombstone, and not checked. */
export function validated<Schema extends StandardSchemaV1>(
  schema: Schema,
  options: ValidatedOptions = {},
): Serde<StandardSchemaV1.InferOutput<Schema>> {
  const { on = 'both' } = options;
  const serde = options.serde ?? json;
  const format = serde.name;
  const check = (value: unknown): Awaitable<unknown> => {
    const result = schema['~standard'].validate(value);
    return isPromise(result) ? result.then((done) => accepted(done, format)) : accepted(result, format);
  };
  return {
    name: format,
    serialize(value, context) {
      if (value === null || on === 'read') return serde.serialize(value, context);
      const checked = check(value);
      return isPromise(checked) ? checked.then(() => serde.serialize(value, context)) : serde.serialize(value, context);
    },
    deserialize(bytes, context) {
      const read = serde.deserialize(bytes, context);
      if (bytes === null || on === 'publish') return read;
      return isPromise(read) ? read.then(check) : check(read);
    },
  };
}

function accepted(result: StandardSchemaV1.Result<unknown>, format: string): unknown {
  if (result.issues === undefined) return result.value;
  const violations = result.issues.map(violationOf);
  if (violations.length === 0) violations.push({ path: '', message: 'not valid' });
  throw SerializationError.of(format, violations);
}

function violationOf({ message, path = [] }: StandardSchemaV1.Issue): Violation {
  return { path: pointer(path.map((step) => String(typeof step === 'object' ? step.key : step))), message };
}
