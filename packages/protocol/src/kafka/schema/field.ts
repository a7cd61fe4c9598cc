/**
 * The language in which Kafka's messages are described: types of fields, the versions that have them, what they are when
 * they are missing. Encoder, decoder and TypeScript types all come from one description.
 *
 * Owns no bytes: `plan.ts` turns a description into the steps for one version, `decode-struct.ts` and `encode-struct.ts`
 * walk them. Fields stand in the order of the wire and carry the names of Kafka's message definitions.
 *
 * A field that some version lacks, is tagged, or has a default may be left out when encoding. When decoding every field is
 * there: one that the version lacks has its default, which is zero, false, '', an empty array or struct, or what `or` says.
 */
import type { TopicId } from '@naru/base';

/** What stands on the wire; numbers, so that the codec's switch is a jump table. */
export const KIND = {
  bool: 0,
  int8: 1,
  int16: 2,
  int32: 3,
  int64: 4,
  /** An int64 of which a value beyond the safe integers is read as the nearest of them. */
  int64Clamped: 5,
  uuid: 6,
  string: 7,
  bytes: 8,
  records: 9,
  array: 10,
  struct: 11,
} as const;

export type Kind = (typeof KIND)[keyof typeof KIND];

export interface FieldSpec {
  readonly kind: Kind;
  /** First and last version that has the field. */
  readonly from: number;
  readonly to: number;
  /** First version in which it may be null; Infinity: never. */
  readonly nullFrom: number;
  /** Number of a tagged field, −1 for a plain one. */
  readonly tag: number;
  /** undefined: the kind's own. */
  readonly absent: unknown;
  readonly element: FieldSpec | undefined;
  readonly fields: Fields | undefined;
}

/**
 * A field, or a type waiting to be one: every method returns another.
 *
 * `Out` is what decoding gives, `In` what encoding takes, `Optional` whether encoding may go without it.
 */
export class Field<Out, In = Out, Optional extends boolean = boolean> {
  declare readonly out: Out;
  declare readonly input: In;
  declare readonly optional: Optional;
  readonly spec: FieldSpec;

  constructor(spec: FieldSpec) {
    this.spec = spec;
  }

  /** Only from this version. */
  since(version: number): Field<Out, In, true> {
    return new Field({ ...this.spec, from: version });
  }

  /** Only up to this version, inclusive. */
  until(version: number): Field<Out, In, true> {
    return new Field({ ...this.spec, to: version });
  }

  /** May be null, from this version. */
  nullable(since = 0): Field<Out | null, In | null, Optional> {
    return new Field({ ...this.spec, nullFrom: since });
  }

  /** What it is when it is left out or the version lacks it. */
  or(value: In): Field<Out, In, true> {
    return new Field({ ...this.spec, absent: value });
  }

  /** A tagged field: written only where it is not its default. */
  tagged(tag: number): Field<Out, In, true> {
    return new Field({ ...this.spec, tag });
  }
}

export type Fields = { readonly [name: string]: Field<unknown, unknown> };

/** What decoding gives for these fields. */
export type Decoded<F extends Fields> = { readonly [K in keyof F]: F[K]['out'] };

type RequiredNames<F extends Fields> = { [K in keyof F]: true extends F[K]['optional'] ? never : K }[keyof F];

/** What encoding takes for these fields. */
export type Encodable<F extends Fields> = { readonly [K in RequiredNames<F>]: F[K]['input'] } & {
  readonly [K in Exclude<keyof F, RequiredNames<F>>]?: F[K]['input'] | undefined;
};

function typeOf<Out, In = Out>(kind: Kind, rest: Partial<FieldSpec> = {}): Field<Out, In, false> {
  const plain = { from: 0, to: Infinity, nullFrom: Infinity, tag: -1 };
  return new Field({ kind, ...plain, absent: undefined, element: undefined, fields: undefined, ...rest });
}

export const NO_TOPIC_ID = '00000000-0000-0000-0000-000000000000' as TopicId;

export const bool = typeOf<boolean>(KIND.bool);
export const int8 = typeOf<number>(KIND.int8);
export const int16 = typeOf<number>(KIND.int16);
export const int32 = typeOf<number>(KIND.int32);
/** A safe integer: whoever sends another gets an error. Offsets, timestamps and producer ids never get that far. */
export const int64 = typeOf<number>(KIND.int64);
/**
 * For an int64 of a client where "the largest there is" has a meaning, like a time after everything: it is read as the
 * largest safe integer, which means the same. Not for what is stored or handed back.
 */
export const int64Clamped = typeOf<number>(KIND.int64Clamped);
/** In canonical lower-case text form. Every UUID of the messages here is a topic's. */
export const uuid = typeOf<TopicId>(KIND.uuid);
/** At most 32,767 bytes of UTF-8; malformed bytes are read as U+FFFD, as Kafka does. */
export const string = typeOf<string>(KIND.string);
/** Decoding gives a view of the frame: copy what is to be kept. */
export const bytes = typeOf<Uint8Array>(KIND.bytes);
/** Record batches. Decoding gives a view of the frame; encoding takes whole batches in any number of pieces, uncopied. */
export const records = typeOf<Uint8Array, Uint8Array | readonly Uint8Array[]>(KIND.records);

/** An array of plain, never of nullable or tagged elements. */
export function array<Out, In>(element: Field<Out, In, false>): Field<readonly Out[], readonly In[], false> {
  return typeOf(KIND.array, { element: element.spec });
}

export function struct<const F extends Fields>(fields: F): Field<Decoded<F>, Encodable<F>, false> {
  return typeOf(KIND.struct, { fields });
}
