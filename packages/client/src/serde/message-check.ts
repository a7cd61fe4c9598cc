/**
 * Looks through a value for a Protobuf message: what it has that the message has not, and what is of another type, with the path.
 *
 * protobuf-es itself makes something of nearly everything: it leaves out what it does not know and converts what it can, exact
 * or not. What was published would then not be what is stored.
 */
import type { DescField, DescMessage, ScalarType } from '@bufbuild/protobuf';
import { MAX_VIOLATIONS, describeValue, pointer } from './serialization-error.ts';
import type { Violation } from './serialization-error.ts';

/** Of messages in messages; what is read may not be deeper either. */
export const MAX_MESSAGE_DEPTH = 100;

type Member = DescMessage['members'][number];

/** @returns what is wrong; empty for nothing that can be told from here */
export function messageViolations(desc: DescMessage, value: unknown): readonly Violation[] {
  const check = new MessageCheck();
  check.message(desc, value, 0);
  return check.found;
}

class MessageCheck {
  readonly found: Violation[] = [];
  /** Where the check is just now. */
  readonly #path: (string | number)[] = [];

  message(desc: DescMessage, value: unknown, depth: number): void {
    if (isWellKnown(desc)) return;
    if (depth > MAX_MESSAGE_DEPTH) return this.#add('nested too deeply');
    if (!isPlainObject(value)) return this.#add(`expected ${desc.typeName}, got ${describeValue(value)}`);
    const known = membersOf(desc);
    for (const key in value) {
      const inner = value[key];
      if (inner === undefined || !Object.hasOwn(value, key)) continue;
      const member = known.get(key);
      if (member === null) continue;
      this.#path.push(key);
      if (member === undefined) this.#add(`is not a field of ${desc.typeName}${suggestion(desc, key)}`);
      else if (member.kind === 'oneof') this.#oneof(member, inner, depth);
      else this.#field(member, inner, depth);
      this.#path.pop();
    }
  }

  #oneof(oneof: Extract<Member, { kind: 'oneof' }>, value: unknown, depth: number): void {
    if (!isPlainObject(value)) return this.#add(`expected { case, value }, got ${describeValue(value)}`);
    const { case: name, value: inner } = value;
    if (name === undefined) return;
    const field = oneof.fields.find(({ localName }) => localName === name);
    if (field === undefined) {
      const cases = oneof.fields.map(({ localName }) => localName).join(', ');
      this.#at('case', () => this.#add(`expected one of ${cases}, got ${describeValue(name)}`));
    } else {
      this.#at('value', () => this.#field(field, inner, depth));
    }
  }

  #at(key: string, work: () => void): void {
    this.#path.push(key);
    work();
    this.#path.pop();
  }

  #field(field: DescField, value: unknown, depth: number): void {
    if (field.fieldKind === 'list') {
      if (!Array.isArray(value)) return this.#add(`expected an array, got ${describeValue(value)}`);
      for (let index = 0; index < value.length; index++) this.#item(field, index, value[index], depth);
    } else if (field.fieldKind === 'map') {
      if (!isPlainObject(value)) return this.#add(`expected an object, got ${describeValue(value)}`);
      for (const key of Object.keys(value)) this.#item(field, key, value[key], depth);
    } else if (value === null) {
      this.#add(`expected ${typeName(field)}, got null; leave it out instead`);
    } else {
      this.#single(field, value, depth);
    }
  }

  #item(field: DescField, key: string | number, value: unknown, depth: number): void {
    this.#path.push(key);
    if (key === '__proto__') this.#add('the key __proto__ is not allowed');
    this.#single(field, value, depth);
    this.#path.pop();
  }

  #single(field: DescField, value: unknown, depth: number): void {
    const { message, enum: enumeration, scalar } = field;
    if (message !== undefined) return this.message(message, value, depth + 1);
    if (enumeration !== undefined) {
      const isKnown = enumeration.open ? isInt32(value) : typeof value === 'number' && value in enumeration.value;
      if (isKnown) return;
      const choice = enumeration.values.slice(0, 10).map(({ name, number }) => `${number} (${name})`);
      return this.#add(`expected one of ${choice.join(', ')}, got ${describeValue(value)}`);
    }
    if (scalar !== undefined && !isScalar(scalar, value))
      this.#add(`expected ${typeName(field)}, got ${describeValue(value)}`);
  }

  #add(message: string): void {
    if (this.found.length < MAX_VIOLATIONS) this.found.push({ path: pointer(this.#path), message });
  }
}

const knownMembers = new WeakMap<DescMessage, Map<string, Member | null>>();

/** What an object for a message may have; null for what the library itself puts there. */
function membersOf(desc: DescMessage): Map<string, Member | null> {
  let known = knownMembers.get(desc);
  if (known === undefined) {
    known = new Map<string, Member | null>(desc.members.map((member) => [member.localName, member]));
    known.set('$typeName', null).set('$unknown', null);
    knownMembers.set(desc, known);
  }
  return known;
}

function suggestion(desc: DescMessage, key: string): string {
  const plain = key.replaceAll('_', '').toLowerCase();
  const field = desc.fields.find(({ localName }) => localName.toLowerCase() === plain);
  if (field === undefined) return '';
  return field.oneof === undefined
    ? `; it is ${field.localName}`
    : `; it is one of ${field.oneof.localName}: { case, value }`;
}

/** By number, since protobuf-es' enum is. */
const SCALARS: Readonly<Record<number, readonly [string, (value: unknown) => boolean]>> = {
  1: ['double', isNumber],
  2: ['float', isFloat],
  3: ['int64', isInt64],
  4: ['uint64', isUint64],
  5: ['int32', isInt32],
  6: ['fixed64', isUint64],
  7: ['fixed32', isUint32],
  8: ['bool', (value) => typeof value === 'boolean'],
  9: ['string', (value) => typeof value === 'string' && value.isWellFormed()],
  12: ['bytes', (value) => value instanceof Uint8Array],
  13: ['uint32', isUint32],
  15: ['sfixed32', isInt32],
  16: ['sfixed64', isInt64],
  17: ['sint32', isInt32],
  18: ['sint64', isInt64],
};
const MAX_FLOAT = 3.4028234663852886e38;

function isScalar(type: ScalarType, value: unknown): boolean {
  return SCALARS[type]?.[1](value) ?? true;
}

function typeName({ scalar, message, enum: enumeration }: DescField): string {
  return message?.typeName ?? enumeration?.typeName ?? SCALARS[scalar ?? 0]?.[0] ?? 'a value';
}

function isNumber(value: unknown): boolean {
  return typeof value === 'number';
}
function isFloat(value: unknown): boolean {
  return typeof value === 'number' && (!Number.isFinite(value) || Math.abs(value) <= MAX_FLOAT);
}
function isInt32(value: unknown): boolean {
  return typeof value === 'number' && value === (value | 0);
}
function isUint32(value: unknown): boolean {
  return typeof value === 'number' && value === value >>> 0;
}
function isInt64(value: unknown): boolean {
  return typeof value === 'bigint' ? BigInt.asIntN(64, value) === value : Number.isSafeInteger(value);
}
function isUint64(value: unknown): boolean {
  if (typeof value === 'bigint') return BigInt.asUintN(64, value) === value;
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isPlainObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

/** The library has other forms for some of them: a Struct is an object, a StringValue a string. */
function isWellKnown({ typeName: name }: DescMessage): boolean {
  return name.startsWith('google.protobuf.');
}
