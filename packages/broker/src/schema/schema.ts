/**
 * What the three formats of schemas have in common: where a schema comes from, how it is refused, how two of them differ.
 *
 * Pure. Nothing here makes code of a schema: it is read, printed and compared as data.
 */

export const SCHEMA_TYPES = ['AVRO', 'JSON', 'PROTOBUF'] as const;
export type SchemaType = (typeof SCHEMA_TYPES)[number];

/** Of one schema, as UTF-16 code units. */
export const MAX_SCHEMA_LENGTH = 1024 * 1024;
/** Brackets within brackets, and types within types. */
export const MAX_SCHEMA_DEPTH = 200;
/** Of one schema, those of its references not counted. */
export const MAX_REFERENCES = 200;
/** A schema refers to one that refers to one, and so on. */
export const MAX_REFERENCE_DEPTH = 16;
/** Schemas that one stands on, all levels together. */
export const MAX_REFERENCED_SCHEMAS = 500;

/** Another schema by the name under which this one uses it. */
export interface ResolvedReference {
  /** Avro: a full name; JSON Schema: the URI in `$ref`; Protobuf: the path of an import. */
  readonly name: string;
  readonly source: SchemaSource;
}

export interface SchemaSource {
  readonly type: SchemaType;
  readonly text: string;
  readonly references: readonly ResolvedReference[];
}

/** A schema that cannot be used. The message says where and what. */
export class InvalidSchemaError extends Error {
  override readonly name = 'InvalidSchemaError';
}

/** Why data of one schema cannot be read with another. */
export interface Difference {
  /** The name that Confluent's registry gives it, or one in its manner. */
  readonly errorType: string;
  /** A sentence: where, and what was expected. */
  readonly description: string;
}

/** Every schema that this one stands on, each once, those that others need first. */
export function referencedSources(source: SchemaSource): ResolvedReference[] {
  const found = new Map<string, ResolvedReference>();
  const visit = (references: readonly ResolvedReference[], depth: number): void => {
    if (depth > MAX_REFERENCE_DEPTH)
      throw new InvalidSchemaError(`references go deeper than ${MAX_REFERENCE_DEPTH} levels`);
    for (const reference of references) {
      const before = found.get(reference.name)?.source;
      if (before !== undefined && before.text !== reference.source.text)
        throw new InvalidSchemaError(
          `the name ${shown(reference.name)} stands for two different schemas in its references`,
        );
      if (before !== undefined) continue;
      visit(reference.source.references, depth + 1);
      if (found.size >= MAX_REFERENCED_SCHEMAS)
        throw new InvalidSchemaError(`it stands on more than ${MAX_REFERENCED_SCHEMAS} schemas`);
      found.set(reference.name, reference);
    }
  };
  visit(source.references, 1);
  return [...found.values()];
}

export function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
