/** Whether a default fits its field's type. In unions it may fit any branch, as Avro 1.12 has it. */
import { isObject, jsonKind, numberOf, numberText, property } from '../json-text.ts';
import { shown } from '../schema.ts';
import { avroTypeText, type AvroPrimitiveName, type AvroType } from './avro-type.ts';

const INT_LIMIT = 2n ** 31n;
const LONG_LIMIT = 2n ** 63n;

/** What is wrong with it; null when nothing is. */
export function defaultProblem(type: AvroType, value: unknown): string | null {
  switch (type.kind) {
    case 'primitive':
      return primitiveProblem(type.name, value);
    case 'enum': {
      if (typeof value !== 'string') return `enum ${type.name} needs text, not ${jsonKind(value)}`;
      return type.symbols.includes(value) ? null : `enum ${type.name} has no symbol ${shown(value)}`;
    }
    case 'fixed':
      if (!isByteText(value)) return `fixed ${type.name} needs text of the characters U+0000 to U+00FF`;
      return (value as string).length === type.size
        ? null
        : `fixed ${type.name} has ${type.size} bytes, the default ${(value as string).length}`;
    case 'array':
      if (!Array.isArray(value)) return `an array is needed, not ${jsonKind(value)}`;
      return firstProblem(value.map((entry, index) => [index, defaultProblem(type.items, entry)]));
    case 'map':
      if (!isObject(value)) return `a map needs an object, not ${jsonKind(value)}`;
      return firstProblem(Object.entries(value).map(([key, entry]) => [key, defaultProblem(type.values, entry)]));
    case 'union': {
      const problems = type.branches.map((branch) => defaultProblem(branch, value));
      if (problems.includes(null)) return null;
      return `no branch of the union [${type.branches.map(avroTypeText).join(', ')}] takes ${jsonKind(value)}`;
    }
    case 'record':
      if (!isObject(value)) return `record ${type.name} needs an object, not ${jsonKind(value)}`;
      return firstProblem(
        type.fields.map((field) => {
          const given = property(value, field.name);
          if (given !== undefined) return [field.name, defaultProblem(field.type, given)];
          return [field.name, field.hasDefault ? null : 'it is missing'];
        }),
      );
  }
}

function primitiveProblem(name: AvroPrimitiveName, value: unknown): string | null {
  const fits = ((): boolean => {
    switch (name) {
      case 'null':
        return value === null;
      case 'boolean':
        return typeof value === 'boolean';
      case 'int':
        return isInteger(value, INT_LIMIT);
      case 'long':
        return isInteger(value, LONG_LIMIT);
      case 'float':
      case 'double':
        return numberOf(value) !== null || value === 'NaN' || value === 'Infinity' || value === '-Infinity';
      case 'bytes':
        return isByteText(value);
      case 'string':
        return typeof value === 'string';
    }
  })();
  return fits ? null : `${name} does not take ${jsonKind(value)}`;
}

function isInteger(value: unknown, limit: bigint): boolean {
  const text = numberText(value);
  if (text === null || !/^-?\d{1,19}$/.test(text)) return false;
  const number = BigInt(text);
  return number >= -limit && number < limit;
}

/** Bytes are written as text whose characters are the bytes. */
function isByteText(value: unknown): boolean {
  return typeof value === 'string' && !Array.from(value).some((character) => character > '\u00FF');
}

function firstProblem(problems: readonly (readonly [string | number, string | null])[]): string | null {
  for (const [where, problem] of problems) if (problem !== null) return `${shown(where)}: ${problem}`;
  return null;
}
