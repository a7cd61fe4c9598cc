/**
 * A description turned into the steps for one version: which fields are on the wire, in which encoding, and what the
 * missing ones are.
 *
 * Owns no bytes. Built once for each message and version, then only read.
 */
import { assert, unreachable } from '@naru/base';
import { KIND, NO_TOPIC_ID } from './field.ts';
import type { FieldSpec, Fields, Kind } from './field.ts';

export interface FieldPlan {
  readonly name: string;
  readonly kind: Kind;
  /** Whether lengths are unsigned varints, one higher, and 0 means null: the encoding of flexible versions. */
  readonly compact: boolean;
  readonly nullable: boolean;
  readonly tag: number;
  /** The value when it is left out, or is not in this version. Shared: frozen where it is an object. */
  readonly absent: unknown;
  readonly element: FieldPlan | undefined;
  readonly struct: StructPlan | undefined;
  /** The fewest bytes that it takes; at least 1. */
  readonly minBytes: number;
}

export interface StructPlan {
  readonly flexible: boolean;
  /** All fields of the description in its order, so that objects of all versions have one shape. */
  readonly all: readonly FieldPlan[];
  /** For each of `all`, whether it stands in the plain part. */
  readonly onWire: readonly boolean[];
  /** Those of `all` that stand in the plain part. */
  readonly plain: readonly FieldPlan[];
  /** Those of `all` that this version tags, by ascending tag. */
  readonly tagged: readonly FieldPlan[];
  readonly minBytes: number;
}

export function planStruct(fields: Fields, version: number, flexible: boolean): StructPlan {
  const entries = Object.entries(fields).map(([name, { spec }]) => ({
    plan: planField(name, spec, version, flexible),
    present: version >= spec.from && version <= spec.to,
  }));
  const present = entries.filter((entry) => entry.present).map(({ plan }) => plan);
  const plain = present.filter(({ tag }) => tag < 0);
  const tagged = present.filter(({ tag }) => tag >= 0).toSorted((a, b) => a.tag - b.tag);
  assert(flexible || tagged.length === 0, 'tagged fields stand in flexible versions only');
  const minBytes = plain.reduce((sum, field) => sum + field.minBytes, flexible ? 1 : 0);
  return {
    flexible,
    all: entries.map(({ plan }) => plan),
    onWire: entries.map((entry) => entry.present && entry.plan.tag < 0),
    plain,
    tagged,
    minBytes: Math.max(1, minBytes),
  };
}

function planField(name: string, spec: FieldSpec, version: number, flexible: boolean): FieldPlan {
  const element = spec.element === undefined ? undefined : planField('', spec.element, version, flexible);
  const struct = spec.fields === undefined ? undefined : planStruct(spec.fields, version, flexible);
  const nullable = version >= spec.nullFrom;
  const absent = spec.absent === undefined ? naturalDefault(spec.kind, struct) : spec.absent;
  const minBytes = minBytesOf(spec.kind, flexible, nullable, struct);
  return { name, kind: spec.kind, compact: flexible, nullable, tag: spec.tag, absent, element, struct, minBytes };
}

function naturalDefault(kind: Kind, struct: StructPlan | undefined): unknown {
  switch (kind) {
    case KIND.bool:
      return false;
    case KIND.string:
      return '';
    case KIND.uuid:
      return NO_TOPIC_ID;
    case KIND.bytes:
    case KIND.records:
      return new Uint8Array(0);
    case KIND.array:
      return Object.freeze([]);
    case KIND.struct:
      return Object.freeze(Object.fromEntries((struct?.all ?? []).map(({ name, absent }) => [name, absent])));
    case KIND.int8:
    case KIND.int16:
    case KIND.int32:
    case KIND.int64:
    case KIND.int64Clamped:
      return 0;
    default:
      return unreachable(kind, 'kind');
  }
}

function minBytesOf(kind: Kind, compact: boolean, nullable: boolean, struct: StructPlan | undefined): number {
  switch (kind) {
    case KIND.bool:
    case KIND.int8:
      return 1;
    case KIND.int16:
      return 2;
    case KIND.int32:
      return 4;
    case KIND.int64:
    case KIND.int64Clamped:
      return 8;
    case KIND.uuid:
      return 16;
    case KIND.string:
      return compact ? 1 : 2;
    case KIND.bytes:
    case KIND.records:
    case KIND.array:
      return compact ? 1 : 4;
    case KIND.struct:
      return nullable ? 1 : (struct?.minBytes ?? 1);
    default:
      return unreachable(kind, 'kind');
  }
}
