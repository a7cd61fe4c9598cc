/**
 * Whether data of one .proto file can be read with another: Protobuf's rules for its wire format. Fields are their
 * numbers; names of fields do not matter, names of messages do.
 */
import type { ComparedNames } from '../comparison.ts';
import type { Difference } from '../schema.ts';
import type { ProtoField, ProtoFile, ProtoMessage, ProtoType } from './proto-file.ts';

/** Types that read each other's bytes. Larger values are cut, as everywhere in Protobuf. */
const WIRE_KINDS: Readonly<Record<string, string>> = {
  int32: 'varint',
  uint32: 'varint',
  int64: 'varint',
  uint64: 'varint',
  bool: 'varint',
  sint32: 'zigzag varint',
  sint64: 'zigzag varint',
  fixed32: '32 bits',
  sfixed32: '32 bits',
  fixed64: '64 bits',
  sfixed64: '64 bits',
  float: 'float',
  double: 'double',
  string: 'text or bytes',
  bytes: 'text or bytes',
};

export function protoDifferences(reader: ProtoFile, writer: ProtoFile, names: ComparedNames): Difference[] {
  return new ProtoComparison(reader, writer, names).compare();
}

class ProtoComparison {
  readonly #reader: ProtoFile;
  readonly #writer: ProtoFile;
  readonly #names: ComparedNames;
  readonly #compared = new Set<ProtoMessage>();
  readonly #found: Difference[] = [];

  constructor(reader: ProtoFile, writer: ProtoFile, names: ComparedNames) {
    this.#reader = reader;
    this.#writer = writer;
    this.#names = names;
  }

  compare(): Difference[] {
    const { packageName: read } = this.#reader;
    const { packageName: written } = this.#writer;
    if (read !== written) {
      const what = `the package is ${quoted(read)} in the ${this.#names.reader} schema and ${quoted(written)} in the ${this.#names.writer} schema`;
      this.#report('PACKAGE_CHANGED', what);
    }
    for (const message of this.#writer.messages.values()) {
      const counterpart = this.#counterpart(message);
      if (counterpart !== undefined) this.#message(counterpart, message);
      else
        this.#report(
          'MESSAGE_REMOVED',
          `message ${message.name} of the ${this.#names.writer} schema is missing in the ${this.#names.reader} schema`,
        );
    }
    return this.#found;
  }

  /** The reader's message of that name, the package aside. */
  #counterpart({ name }: ProtoMessage): ProtoMessage | undefined {
    const prefix = this.#writer.packageName === '' ? '' : `${this.#writer.packageName}.`;
    const relative = name.startsWith(prefix) ? name.slice(prefix.length) : name;
    const own = this.#reader.packageName === '' ? relative : `${this.#reader.packageName}.${relative}`;
    return this.#reader.reachable.get(own) ?? this.#reader.reachable.get(name);
  }

  #message(reader: ProtoMessage, writer: ProtoMessage): void {
    if (this.#compared.has(writer)) return;
    this.#compared.add(writer);
    const read = new Map(reader.fields.map((field) => [field.number, field]));
    const written = new Map(writer.fields.map((field) => [field.number, field]));
    for (const field of written.values()) {
      const counterpart = read.get(field.number);
      if (counterpart !== undefined) this.#field(reader.name, counterpart, field);
      else if (field.label === 'required')
        this.#report(
          'REQUIRED_FIELD_REMOVED',
          `required ${fieldText(field, writer)} of the ${this.#names.writer} schema is missing in the ${this.#names.reader} schema`,
        );
    }
    for (const field of read.values()) {
      if (field.label !== 'required' || written.has(field.number)) continue;
      this.#report(
        'REQUIRED_FIELD_ADDED',
        `required ${fieldText(field, reader)} of the ${this.#names.reader} schema is missing in the ${this.#names.writer} schema`,
      );
    }
    this.#joinedOneofs(reader, read, written);
    this.#leftOneofs(writer, read, written);
  }

  #field(message: string, reader: ProtoField, writer: ProtoField): void {
    const where = `field ${reader.number} (${quoted(reader.name)}) of message ${message}`;
    const change = `${where} is ${typeText(reader)} in the ${this.#names.reader} schema and ${typeText(writer)} in the ${this.#names.writer} schema`;
    if (reader.label === 'required' && writer.label !== 'required') this.#report('REQUIRED_FIELD_ADDED', change);
    if ((reader.mapKey === null) !== (writer.mapKey === null)) return this.#report('FIELD_KIND_CHANGED', change);
    if (reader.mapKey !== null && writer.mapKey !== null) {
      if (WIRE_KINDS[reader.mapKey] !== WIRE_KINDS[writer.mapKey])
        this.#report('FIELD_SCALAR_KIND_CHANGED', `${change}: the keys differ`);
    } else if ((reader.label === 'repeated') !== (writer.label === 'repeated') && isPackable(reader.type)) {
      this.#report(
        'FIELD_NUMERIC_LABEL_CHANGED',
        `${change}: only text, bytes and messages may become repeated or stop being it`,
      );
    }
    this.#type(reader.type, writer.type, change);
  }

  #type(reader: ProtoType, writer: ProtoType, change: string): void {
    const read = wireKind(reader);
    const written = wireKind(writer);
    if (read !== written) {
      const isScalar = reader.kind === 'scalar' && writer.kind === 'scalar';
      const errorType = isScalar ? 'FIELD_SCALAR_KIND_CHANGED' : 'FIELD_KIND_CHANGED';
      return this.#report(errorType, `${change}: ${read} does not read ${written}`);
    }
    if (reader.kind === 'scalar' || writer.kind === 'scalar') return;
    const relativeRead = this.#relative(reader.name, this.#reader);
    const relativeWritten = this.#relative(writer.name, this.#writer);
    if (relativeRead !== relativeWritten) return this.#report('FIELD_NAMED_TYPE_CHANGED', `${change}: another type`);
    const readMessage = this.#reader.reachable.get(reader.name);
    const writtenMessage = this.#writer.reachable.get(writer.name);
    if (readMessage !== undefined && writtenMessage !== undefined) this.#message(readMessage, writtenMessage);
  }

  /** A message whose fields join a oneof may have two of them set, of which the reader keeps one. */
  #joinedOneofs(
    reader: ProtoMessage,
    read: ReadonlyMap<number, ProtoField>,
    written: ReadonlyMap<number, ProtoField>,
  ): void {
    const origins = new Map<string, Set<string | number>>();
    for (const { number, oneof } of read.values()) {
      const before = written.get(number);
      if (oneof === null || before === undefined) continue;
      const from = origins.get(oneof) ?? new Set();
      origins.set(oneof, from.add(before.oneof ?? number));
    }
    for (const [oneof, from] of origins) {
      if (from.size <= 1) continue;
      const what = `oneof ${quoted(oneof)} of message ${reader.name} has fields in the ${this.#names.reader} schema that can be set together in the ${this.#names.writer} schema`;
      this.#report('MULTIPLE_FIELDS_MOVED_TO_ONEOF', what);
    }
  }

  /** A reader cannot tell a field that left its oneof from a oneof that is not set. */
  #leftOneofs(
    writer: ProtoMessage,
    read: ReadonlyMap<number, ProtoField>,
    written: ReadonlyMap<number, ProtoField>,
  ): void {
    const kept = new Set<string>();
    for (const { number, oneof } of written.values())
      if (oneof !== null && (read.get(number)?.oneof ?? null) !== null) kept.add(oneof);
    for (const field of written.values()) {
      if (field.oneof === null || !kept.has(field.oneof) || (read.get(field.number)?.oneof ?? null) !== null) continue;
      const what = `${fieldText(field, writer)} is in oneof ${quoted(field.oneof)} in the ${this.#names.writer} schema and is not in the ${this.#names.reader} schema`;
      this.#report('ONEOF_FIELD_REMOVED', what);
    }
  }

  #relative(name: string, { packageName }: ProtoFile): string {
    return packageName !== '' && name.startsWith(`${packageName}.`) ? name.slice(packageName.length + 1) : name;
  }

  #report(errorType: string, description: string): void {
    this.#found.push({ errorType, description });
  }
}

function wireKind(type: ProtoType): string {
  if (type.kind === 'scalar') return WIRE_KINDS[type.name] as string;
  return type.kind === 'enum' ? 'varint' : type.kind;
}

function isPackable(type: ProtoType): boolean {
  return type.kind === 'enum' || (type.kind === 'scalar' && type.name !== 'string' && type.name !== 'bytes');
}

function typeText({ label, mapKey, type }: ProtoField): string {
  if (mapKey !== null) return `map<${mapKey}, ${type.name}>`;
  return label === 'optional' ? type.name : `${label} ${type.name}`;
}

function fieldText({ number, name }: ProtoField, message: ProtoMessage): string {
  return `field ${number} (${quoted(name)}) of message ${message.name}`;
}

function quoted(name: string): string {
  return `'${name}'`;
}
