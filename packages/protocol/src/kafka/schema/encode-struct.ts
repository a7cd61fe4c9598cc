/**
 * Writes a struct by its plan. What is wrong with a value is the caller's bug: an AssertionError that names the field.
 */
import { AssertionError, assert, unreachable } from '@naru/base';
import type { TopicId } from '@naru/base';
import { KIND } from './field.ts';
import type { FieldPlan, StructPlan } from './plan.ts';
import { WireWriter } from './wire-writer.ts';

type Value = Readonly<Record<string, unknown>>;

export function encodeStruct(writer: WireWriter, plan: StructPlan, value: Value): void {
  for (const field of plan.plain) encodeField(writer, field, value[field.name]);
  if (plan.flexible) encodeTagged(writer, plan.tagged, value);
}

function encodeTagged(writer: WireWriter, tagged: readonly FieldPlan[], value: Value): void {
  const written: FieldPlan[] = [];
  for (const field of tagged) if (!isDefault(field, value[field.name])) written.push(field);
  writer.unsignedVarint(written.length);
  for (const field of written) {
    const content = new WireWriter();
    encodeField(content, field, value[field.name]);
    writer.unsignedVarint(field.tag);
    writer.unsignedVarint(content.size);
    writer.append(content);
  }
}

function isDefault(field: FieldPlan, value: unknown): boolean {
  if (value === undefined || value === field.absent) return true;
  if (field.kind === KIND.array) return (value as readonly unknown[] | null)?.length === 0 && field.absent !== null;
  if (field.kind !== KIND.struct || value === null) return false;
  return (field.struct as StructPlan).all.every((inner) => isDefault(inner, (value as Value)[inner.name]));
}

function encodeField(writer: WireWriter, field: FieldPlan, given: unknown): void {
  const value = given === undefined ? field.absent : given;
  try {
    assert(value !== null || field.nullable, 'null is not allowed in this version');
    encodeValue(writer, field, value);
  } catch (error) {
    if (field.name === '' || !(error instanceof AssertionError)) throw error;
    throw new AssertionError(`${field.name}: ${error.message}`);
  }
}

function encodeValue(writer: WireWriter, field: FieldPlan, value: unknown): void {
  switch (field.kind) {
    case KIND.bool:
      writer.int8(value === true ? 1 : 0);
      break;
    case KIND.int8:
      writer.int8(value as number);
      break;
    case KIND.int16:
      writer.int16(value as number);
      break;
    case KIND.int32:
      writer.int32(value as number);
      break;
    case KIND.int64:
    case KIND.int64Clamped:
      writer.int64(value as number);
      break;
    case KIND.uuid:
      writer.uuid(value as TopicId);
      break;
    case KIND.string:
      writer.string(value as string | null, field.compact);
      break;
    case KIND.bytes:
      writer.length(value === null ? -1 : (value as Uint8Array).length, field.compact);
      if (value !== null) writer.bytes(value as Uint8Array);
      break;
    case KIND.records:
      encodeRecords(writer, field, value as Uint8Array | readonly Uint8Array[] | null);
      break;
    case KIND.array:
      encodeArray(writer, field, value as readonly unknown[] | null);
      break;
    case KIND.struct:
      if (field.nullable) writer.int8(value === null ? -1 : 1);
      if (value !== null) encodeStruct(writer, field.struct as StructPlan, value as Value);
      break;
    default:
      unreachable(field.kind, 'kind');
  }
}

function encodeRecords(writer: WireWriter, field: FieldPlan, value: Uint8Array | readonly Uint8Array[] | null): void {
  if (value === null) {
    writer.length(-1, field.compact);
  } else if (value instanceof Uint8Array) {
    writer.length(value.length, field.compact);
    writer.splice(value);
  } else {
    let size = 0;
    for (const piece of value) size += piece.length;
    writer.length(size, field.compact);
    for (const piece of value) writer.splice(piece);
  }
}

function encodeArray(writer: WireWriter, field: FieldPlan, value: readonly unknown[] | null): void {
  writer.length(value === null ? -1 : value.length, field.compact);
  if (value === null) return;
  const element = field.element as FieldPlan;
  for (const item of value) encodeField(writer, element, item);
}
