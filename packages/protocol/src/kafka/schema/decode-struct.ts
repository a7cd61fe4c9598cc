/**
 * Reads a struct by its plan. A fault is a MalformedMessageError with the path to the field.
 *
 * Owns no limits: the reader has them. How deep it goes is the description's, never the sender's.
 */
import { unreachable } from '@naru/base';
import { KIND } from './field.ts';
import { MalformedMessageError } from './malformed-message-error.ts';
import type { FieldPlan, StructPlan } from './plan.ts';
import type { WireReader } from './wire-reader.ts';

export function decodeStruct(reader: WireReader, plan: StructPlan): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  const { all, onWire } = plan;
  let i = 0;
  try {
    for (; i < all.length; i++) {
      const field = all[i] as FieldPlan;
      value[field.name] = onWire[i] === true ? decodeValue(reader, field) : field.absent;
    }
  } catch (error) {
    throw located(error, (all[i] as FieldPlan).name);
  }
  if (plan.flexible) decodeTagged(reader, plan.tagged, value);
  return value;
}

/** Also skips the fields that nobody knows. */
export function decodeTagged(
  reader: WireReader,
  tagged: readonly FieldPlan[],
  value: Record<string, unknown> = {},
): void {
  for (let left = reader.unsignedVarint(); left > 0; left--) {
    const tag = reader.unsignedVarint();
    const size = reader.unsignedVarint();
    const field = tagged.find((candidate) => candidate.tag === tag);
    if (field === undefined) {
      reader.skip(size);
      continue;
    }
    try {
      const end = reader.enter(size);
      value[field.name] = decodeValue(reader, field);
      reader.leave(end);
    } catch (error) {
      throw located(error, field.name);
    }
  }
}

function decodeValue(reader: WireReader, field: FieldPlan): unknown {
  switch (field.kind) {
    case KIND.bool:
      return reader.int8() !== 0;
    case KIND.int8:
      return reader.int8();
    case KIND.int16:
      return reader.int16();
    case KIND.int32:
      return reader.int32();
    case KIND.int64:
      return reader.int64();
    case KIND.int64Clamped:
      return reader.int64Clamped();
    case KIND.uuid:
      return reader.uuid();
    case KIND.string:
      return orNull(reader, field, reader.string(field.compact));
    case KIND.bytes:
    case KIND.records:
      return orNull(reader, field, reader.bytes(field.compact));
    case KIND.array:
      return decodeArray(reader, field);
    case KIND.struct:
      // A byte says whether a nullable struct is there; the message definitions have no other way of being null.
      if (field.nullable && reader.int8() < 0) return null;
      return decodeStruct(reader, field.struct as StructPlan);
    default:
      return unreachable(field.kind, 'kind');
  }
}

function orNull(reader: WireReader, field: FieldPlan, value: unknown): unknown {
  if (value === null && !field.nullable) reader.fail('null is not allowed');
  return value;
}

function decodeArray(reader: WireReader, field: FieldPlan): unknown {
  const element = field.element as FieldPlan;
  const count = reader.arrayLength(field.compact, element.minBytes);
  if (count < 0) return orNull(reader, field, null);
  const values: unknown[] = [];
  try {
    if (element.kind === KIND.struct) {
      const plan = element.struct as StructPlan;
      while (values.length < count) values.push(decodeStruct(reader, plan));
    } else {
      while (values.length < count) values.push(decodeValue(reader, element));
    }
  } catch (error) {
    throw located(error, `[${values.length}]`);
  }
  return values;
}

function located(error: unknown, step: string): unknown {
  if (error instanceof MalformedMessageError) error.within(step);
  return error;
}
