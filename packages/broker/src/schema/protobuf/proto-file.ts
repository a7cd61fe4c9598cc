/** A .proto file as far as its wire format goes. Type names are full, without a leading dot. */

export const SCALARS = [
  'double',
  'float',
  'int32',
  'int64',
  'uint32',
  'uint64',
  'sint32',
  'sint64',
  'fixed32',
  'fixed64',
  'sfixed32',
  'sfixed64',
  'bool',
  'string',
  'bytes',
] as const;
export type ProtoScalar = (typeof SCALARS)[number];

export type ProtoType =
  | { readonly kind: 'scalar'; readonly name: ProtoScalar }
  | { readonly kind: 'enum' | 'message' | 'group'; readonly name: string };

export interface ProtoField {
  readonly name: string;
  readonly number: number;
  readonly label: 'optional' | 'required' | 'repeated';
  readonly type: ProtoType;
  /** Of a map field, whose type is that of its values. */
  readonly mapKey: ProtoScalar | null;
  /** Null outside; the one that `optional` in proto3 stands for is none. */
  readonly oneof: string | null;
}

export interface ProtoMessage {
  readonly name: string;
  readonly fields: readonly ProtoField[];
}

export interface ProtoFile {
  /** Empty without one. */
  readonly packageName: string;
  /** Of this file, nested ones too, in order. */
  readonly messages: ReadonlyMap<string, ProtoMessage>;
  /** Of this file and of those that it imports. */
  readonly reachable: ReadonlyMap<string, ProtoMessage>;
}
