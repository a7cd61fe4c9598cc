/** Avro schemas as a graph of types (Avro 1.12 specification). A named type is one object, wherever it is used. */

export const AVRO_PRIMITIVES = ['null', 'boolean', 'int', 'long', 'float', 'double', 'bytes', 'string'] as const;
export type AvroPrimitiveName = (typeof AVRO_PRIMITIVES)[number];

/** Properties that the specification does not name, in the order in which they came. */
export type AvroProps = readonly (readonly [string, unknown])[];

export interface AvroPrimitive {
  readonly kind: 'primitive';
  readonly name: AvroPrimitiveName;
  readonly props: AvroProps;
}

export interface AvroNamed {
  /** With namespace. */
  readonly name: string;
  readonly aliases: readonly string[];
  readonly doc: string | null;
  readonly props: AvroProps;
}

export interface AvroField {
  readonly name: string;
  readonly type: AvroType;
  readonly doc: string | null;
  readonly aliases: readonly string[];
  readonly order: string | null;
  /** A field may have the default null. */
  readonly hasDefault: boolean;
  readonly defaultValue: unknown;
  readonly props: AvroProps;
}

export interface AvroRecord extends AvroNamed {
  readonly kind: 'record';
  readonly isError: boolean;
  /** Filled while the record is read, since fields may use the record. */
  readonly fields: AvroField[];
}

export interface AvroEnum extends AvroNamed {
  readonly kind: 'enum';
  readonly symbols: readonly string[];
  readonly defaultSymbol: string | null;
}

export interface AvroFixed extends AvroNamed {
  readonly kind: 'fixed';
  readonly size: number;
}

export interface AvroArray {
  readonly kind: 'array';
  readonly items: AvroType;
  readonly props: AvroProps;
}

export interface AvroMap {
  readonly kind: 'map';
  readonly values: AvroType;
  readonly props: AvroProps;
}

export interface AvroUnion {
  readonly kind: 'union';
  readonly branches: readonly AvroType[];
}

export type AvroNamedType = AvroRecord | AvroEnum | AvroFixed;
export type AvroType = AvroPrimitive | AvroNamedType | AvroArray | AvroMap | AvroUnion;

export function isNamed(type: AvroType): type is AvroNamedType {
  return type.kind === 'record' || type.kind === 'enum' || type.kind === 'fixed';
}

/** As messages call it: `record shop.Order`, `int`. */
export function avroTypeText(type: AvroType): string {
  if (type.kind === 'primitive') return type.name;
  return isNamed(type) ? `${type.kind} ${type.name}` : type.kind;
}

export function shortName(fullName: string): string {
  return fullName.slice(fullName.lastIndexOf('.') + 1);
}

/** Empty without one. */
export function namespaceOf(fullName: string): string {
  const dot = fullName.lastIndexOf('.');
  return dot < 0 ? '' : fullName.slice(0, dot);
}
