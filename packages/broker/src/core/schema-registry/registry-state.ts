/**
 * The schema registry as state and the records that build it. `evolveRegistry` is the only writer.
 *
 * Invariants: an id stands for one content (type, text, references) and is never given twice; a schema is there as long as
 * a version of any subject has it, deleted softly or not.
 */
import { identityOf } from '../../schema/index.ts';
import { DEFAULT_COMPATIBILITY, DEFAULT_MODE } from './commands.ts';
import type { CompatibilityLevel, SchemaContent, SchemaReference, Scope, SubjectMode } from './commands.ts';

export interface SubjectVersion {
  readonly schemaId: number;
  /** Softly: it is not listed, and can still be read by its id. */
  readonly isDeleted: boolean;
}

export type SchemaRecord =
  | { readonly kind: 'schema'; readonly id: number; readonly value: SchemaContent | null }
  | {
      readonly kind: 'version';
      readonly subject: string;
      readonly version: number;
      readonly value: SubjectVersion | null;
    }
  | { readonly kind: 'compatibility'; readonly scope: Scope; readonly value: CompatibilityLevel | null }
  | { readonly kind: 'mode'; readonly scope: Scope; readonly value: SubjectMode | null }
  /** The largest id that was ever given. */
  | { readonly kind: 'last-id'; readonly value: number };

export interface RegistryState {
  readonly schemas: Map<number, SchemaContent>;
  /** Versions in ascending order. */
  readonly subjects: Map<string, Map<number, SubjectVersion>>;
  readonly compatibility: Map<Scope, CompatibilityLevel>;
  readonly modes: Map<Scope, SubjectMode>;
  lastId: number;
  /** Of all texts, in UTF-16 code units. */
  textLength: number;
  /** Ids by type and references, then by the text's identity. */
  readonly ids: Map<string, Map<string, number>>;
  /** Schemas that refer to a version of a subject. */
  readonly referrers: Map<string, Set<number>>;
  /** Versions of subjects that have a schema, by its id. */
  readonly uses: Map<number, Set<string>>;
}

export function newRegistryState(): RegistryState {
  return {
    schemas: new Map(),
    subjects: new Map(),
    compatibility: new Map(),
    modes: new Map(),
    lastId: 0,
    textLength: 0,
    ids: new Map(),
    referrers: new Map(),
    uses: new Map(),
  };
}

export function evolveRegistry(state: RegistryState, record: SchemaRecord): void {
  switch (record.kind) {
    case 'schema':
      return evolveSchema(state, record.id, record.value);
    case 'version':
      return evolveVersion(state, record.subject, record.version, record.value);
    case 'compatibility':
      if (record.value === null) state.compatibility.delete(record.scope);
      else state.compatibility.set(record.scope, record.value);
      return;
    case 'mode':
      if (record.value === null) state.modes.delete(record.scope);
      else state.modes.set(record.scope, record.value);
      return;
    case 'last-id':
      state.lastId = record.value;
  }
}

/** Every record that builds the state again. */
export function* registryRecords(state: RegistryState): Generator<SchemaRecord> {
  if (state.lastId > 0) yield { kind: 'last-id', value: state.lastId };
  for (const [id, value] of state.schemas) yield { kind: 'schema', id, value };
  for (const [subject, versions] of state.subjects)
    for (const [version, value] of versions) yield { kind: 'version', subject, version, value };
  for (const [scope, value] of state.compatibility) yield { kind: 'compatibility', scope, value };
  for (const [scope, value] of state.modes) yield { kind: 'mode', scope, value };
}

export function idOf(state: RegistryState, content: SchemaContent): number | undefined {
  return state.ids.get(kindKey(content))?.get(identityOf(content));
}

export function versionKey(subject: string, version: number): string {
  return `${version}\n${subject}`;
}

export function compatibilityOf(state: RegistryState, subject: Scope): CompatibilityLevel {
  return state.compatibility.get(subject) ?? state.compatibility.get(null) ?? DEFAULT_COMPATIBILITY;
}

export function modeOf(state: RegistryState, subject: Scope): SubjectMode {
  return state.modes.get(subject) ?? state.modes.get(null) ?? DEFAULT_MODE;
}

/** Versions of a subject that are not deleted, ascending. */
export function liveVersions(state: RegistryState, subject: string): number[] {
  return [...(state.subjects.get(subject) ?? [])].flatMap(([version, { isDeleted }]) => (isDeleted ? [] : [version]));
}

function evolveSchema(state: RegistryState, id: number, content: SchemaContent | null): void {
  const before = state.schemas.get(id);
  if (before !== undefined) {
    state.schemas.delete(id);
    state.textLength -= before.text.length;
    const ofKind = state.ids.get(kindKey(before));
    ofKind?.delete(identityOf(before));
    if (ofKind?.size === 0) state.ids.delete(kindKey(before));
    for (const { subject, version } of before.references) {
      const key = versionKey(subject, version);
      const referrers = state.referrers.get(key);
      referrers?.delete(id);
      if (referrers?.size === 0) state.referrers.delete(key);
    }
  }
  if (content === null) return;
  state.schemas.set(id, content);
  state.textLength += content.text.length;
  const kind = kindKey(content);
  let ofKind = state.ids.get(kind);
  if (ofKind === undefined) state.ids.set(kind, (ofKind = new Map()));
  ofKind.set(identityOf(content), id);
  for (const { subject, version } of content.references) addTo(state.referrers, versionKey(subject, version), id);
}

function evolveVersion(state: RegistryState, subject: string, version: number, value: SubjectVersion | null): void {
  const versions = state.subjects.get(subject) ?? new Map<number, SubjectVersion>();
  const before = versions.get(version);
  const key = versionKey(subject, version);
  if (before !== undefined) {
    const uses = state.uses.get(before.schemaId);
    uses?.delete(key);
    if (uses?.size === 0) state.uses.delete(before.schemaId);
  }
  if (value === null) {
    versions.delete(version);
    if (versions.size === 0) state.subjects.delete(subject);
    return;
  }
  const isLast = before !== undefined || [...versions.keys()].every((other) => other < version);
  versions.set(version, value);
  const ordered = isLast ? versions : new Map([...versions].sort(([a], [b]) => a - b));
  state.subjects.set(subject, ordered);
  addTo(state.uses, value.schemaId, key);
}

function addTo<K, V>(sets: Map<K, Set<V>>, key: K, value: V): void {
  const set = sets.get(key);
  if (set === undefined) sets.set(key, new Set([value]));
  else set.add(value);
}

function kindKey({ type, references }: Pick<SchemaContent, 'type' | 'references'>): string {
  return `${type}\n${JSON.stringify(references.map(({ name, subject, version }: SchemaReference) => [name, subject, version]))}`;
}
