/**
 * For tests: messages made from their descriptions, as they are encoded and as they must come back.
 *
 * Knows the descriptions only, nothing of plans or bytes. Values come from a {@link ValueSource}.
 */
import { unreachable } from '@naru/base';
import type { TopicId } from '@naru/base';
import { KIND, NO_TOPIC_ID } from '../schema/field.ts';
import type { FieldSpec, Fields } from '../schema/field.ts';

export interface ValueSource {
  /** @param path names of the fields from the message down, joined with dots */
  integer(min: number, max: number, path: string): number;
  boolean(path: string): boolean;
  text(path: string): string;
  bytes(path: string): Uint8Array;
  uuid(path: string): TopicId;
  /** Whether to take null where it is allowed. */
  takesNull(path: string): boolean;
  arrayLength(path: string): number;
}

export interface Sample {
  /** What to encode: fields that the version lacks are left out. */
  readonly input: Record<string, unknown>;
  /** What decoding must give: they have their defaults. */
  readonly output: Record<string, unknown>;
}

interface SampleValue {
  readonly input: unknown;
  readonly output: unknown;
}

export function sampleMessage(fields: Fields, version: number, source: ValueSource, path = ''): Sample {
  const sample: Sample = { input: {}, output: {} };
  for (const [name, { spec }] of Object.entries(fields)) {
    const at = path === '' ? name : `${path}.${name}`;
    if (version < spec.from || version > spec.to) {
      sample.output[name] = defaultOf(spec);
    } else {
      const value = sampleValue(spec, version, source, at);
      sample.input[name] = value.input;
      sample.output[name] = value.output;
    }
  }
  return sample;
}

function sampleValue(spec: FieldSpec, version: number, source: ValueSource, path: string): SampleValue {
  if (version >= spec.nullFrom && source.takesNull(path)) return { input: null, output: null };
  const same = (value: unknown): SampleValue => ({ input: value, output: value });
  switch (spec.kind) {
    case KIND.bool:
      return same(source.boolean(path));
    case KIND.int8:
      return same(source.integer(-128, 127, path));
    case KIND.int16:
      return same(source.integer(-32_768, 32_767, path));
    case KIND.int32:
      return same(source.integer(-(2 ** 31), 2 ** 31 - 1, path));
    case KIND.int64:
    case KIND.int64Clamped:
      return same(source.integer(Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, path));
    case KIND.uuid:
      return same(source.uuid(path));
    case KIND.string:
      return same(source.text(path));
    case KIND.bytes:
      return same(source.bytes(path));
    case KIND.records:
      return recordPieces(source, path);
    case KIND.array:
      return sampleArray(spec, version, source, path);
    case KIND.struct:
      return sampleMessage(spec.fields as Fields, version, source, path);
    default:
      return unreachable(spec.kind, 'kind');
  }
}

function recordPieces(source: ValueSource, path: string): SampleValue {
  const input = Array.from({ length: source.arrayLength(path) }, () => source.bytes(path));
  return { input, output: Uint8Array.from(input.flatMap((piece) => [...piece])) };
}

function sampleArray(spec: FieldSpec, version: number, source: ValueSource, path: string): SampleValue {
  const elements = Array.from({ length: source.arrayLength(path) }, () =>
    sampleValue(spec.element as FieldSpec, version, source, path),
  );
  return { input: elements.map(({ input }) => input), output: elements.map(({ output }) => output) };
}

function defaultOf(spec: FieldSpec): unknown {
  if (spec.absent !== undefined) return spec.absent;
  if (spec.kind === KIND.bool) return false;
  if (spec.kind === KIND.string) return '';
  if (spec.kind === KIND.uuid) return NO_TOPIC_ID;
  if (spec.kind === KIND.bytes || spec.kind === KIND.records) return new Uint8Array();
  if (spec.kind === KIND.array) return [];
  if (spec.kind !== KIND.struct) return 0;
  return Object.fromEntries(
    Object.entries(spec.fields as Fields).map(([name, field]) => [name, defaultOf(field.spec)]),
  );
}
