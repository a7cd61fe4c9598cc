/** What the schema registry can be asked, and what it answers. Plain data. */
import type { SchemaType } from '../../schema/index.ts';

export const COMPATIBILITY_LEVELS = [
  'NONE',
  'BACKWARD',
  'BACKWARD_TRANSITIVE',
  'FORWARD',
  'FORWARD_TRANSITIVE',
  'FULL',
  'FULL_TRANSITIVE',
] as const;
export type CompatibilityLevel = (typeof COMPATIBILITY_LEVELS)[number];

/** In force where nothing is said, as in Confluent's registry. */
export const DEFAULT_COMPATIBILITY: CompatibilityLevel = 'BACKWARD';

export const SUBJECT_MODES = ['READWRITE', 'READONLY', 'IMPORT'] as const;
export type SubjectMode = (typeof SUBJECT_MODES)[number];

export const DEFAULT_MODE: SubjectMode = 'READWRITE';

/** A version of a subject as another schema uses it. */
export interface SchemaReference {
  readonly name: string;
  readonly subject: string;
  readonly version: number;
}

export interface GivenReference extends Omit<SchemaReference, 'version'> {
  readonly version: VersionSelector;
}

/** A schema as somebody sends it. */
export interface GivenSchema {
  readonly type: SchemaType;
  readonly text: string;
  readonly references: readonly GivenReference[];
  readonly normalize: boolean;
}

export type VersionSelector = number | 'latest';

export interface SchemaContent {
  readonly type: SchemaType;
  readonly text: string;
  readonly references: readonly SchemaReference[];
}

export interface VersionView extends SchemaContent {
  readonly subject: string;
  readonly version: number;
  readonly id: number;
}

export interface SubjectVersionName {
  readonly subject: string;
  readonly version: number;
}

export interface CompatibilityReport {
  readonly isCompatible: boolean;
  /** Why not; empty when it is. */
  readonly messages: readonly string[];
}

/** Null stands for the whole registry. */
export type Scope = string | null;

interface SchemaCommands {
  readonly register: {
    readonly subject: string;
    readonly schema: GivenSchema;
    /** For subjects in mode IMPORT, and only there. */
    readonly id: number | null;
    readonly version: number | null;
  };
  /** Finds the version of the subject that has this schema. */
  readonly lookup: { readonly subject: string; readonly schema: GivenSchema; readonly deleted: boolean };
  /** Without a version: against those that the subject's level asks for. */
  readonly check: { readonly subject: string; readonly schema: GivenSchema; readonly version: VersionSelector | null };
  readonly 'list-subjects': { readonly prefix: string; readonly deleted: boolean; readonly deletedOnly: boolean };
  readonly 'list-versions': { readonly subject: string; readonly deleted: boolean; readonly deletedOnly: boolean };
  readonly 'list-schemas': { readonly prefix: string; readonly deleted: boolean; readonly latestOnly: boolean };
  readonly 'get-version': { readonly subject: string; readonly version: VersionSelector; readonly deleted: boolean };
  readonly 'get-schema': { readonly id: number };
  readonly 'list-uses': { readonly id: number; readonly deleted: boolean };
  readonly 'referenced-by': { readonly subject: string; readonly version: VersionSelector };
  readonly 'delete-subject': { readonly subject: string; readonly permanent: boolean };
  readonly 'delete-version': {
    readonly subject: string;
    readonly version: VersionSelector;
    readonly permanent: boolean;
  };
  readonly 'get-compatibility': { readonly scope: Scope; readonly defaultToGlobal: boolean };
  readonly 'set-compatibility': { readonly scope: Scope; readonly level: CompatibilityLevel };
  readonly 'delete-compatibility': { readonly scope: Scope };
  readonly 'get-mode': { readonly scope: Scope; readonly defaultToGlobal: boolean };
  readonly 'set-mode': { readonly scope: Scope; readonly mode: SubjectMode; readonly force: boolean };
  readonly 'delete-mode': { readonly scope: Scope };
}

export interface SchemaReplies {
  readonly register: { readonly id: number };
  readonly lookup: VersionView;
  readonly check: CompatibilityReport;
  readonly 'list-subjects': readonly string[];
  readonly 'list-versions': readonly number[];
  readonly 'list-schemas': readonly VersionView[];
  readonly 'get-version': VersionView;
  readonly 'get-schema': SchemaContent & { readonly maxId: number };
  readonly 'list-uses': readonly SubjectVersionName[];
  readonly 'referenced-by': readonly number[];
  /** The versions that were deleted. */
  readonly 'delete-subject': readonly number[];
  readonly 'delete-version': number;
  readonly 'get-compatibility': CompatibilityLevel;
  readonly 'set-compatibility': CompatibilityLevel;
  /** What held until then. */
  readonly 'delete-compatibility': CompatibilityLevel;
  readonly 'get-mode': SubjectMode;
  readonly 'set-mode': SubjectMode;
  readonly 'delete-mode': SubjectMode;
}

export type SchemaCommandType = keyof SchemaCommands;

export type SchemaCommandOf<T extends SchemaCommandType> = { readonly type: T } & SchemaCommands[T];

export type SchemaCommand = { [T in SchemaCommandType]: SchemaCommandOf<T> }[SchemaCommandType];
