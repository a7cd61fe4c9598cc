/**
 * The architecture as a table: who may import whom, what a folder may touch, how large a file may be, which names are
 * banned. test/architecture-checker.ts applies it, test/architecture.test.ts runs that on the repository.
 */

export interface ArchitectureRules {
  /**
   * What the sources of each package, and of each folder beside the packages, may import by name from `@naru/*`.
   * A package that is not here may not exist.
   */
  readonly mayImport: Readonly<Record<string, readonly string[]>>;
  /** What tests may import besides. */
  readonly onlyTestsImport: readonly string[];
  /** Folders of a package's `src`, lowest first: each sees those before it, never its neighbours. `.` is `src` itself. */
  readonly layers: Readonly<Record<string, readonly (readonly string[])[]>>;
  /** Folders that touch neither the platform nor anything that answers differently at another time. */
  readonly pure: readonly string[];
  /** What is not to be touched there, found in code outside comments and strings. */
  readonly impure: readonly { readonly what: string; readonly pattern: RegExp }[];
  /** Packages that run in a browser: `node:` modules only in files with the suffix. */
  readonly browserSafe: readonly string[];
  readonly nodeOnlySuffix: string;
  readonly maxLines: number;
  /** Words of identifiers and of file names, lower case. */
  readonly bannedWords: readonly string[];
  /** Identifiers of other libraries that we have to write although they hold such a word. */
  readonly foreignNames: readonly string[];
  /** File names without extension. */
  readonly bannedFileNames: readonly string[];
}

const beside = ['base', 'protocol', 'client', 'broker', 'cli'];

export const architectureRules: ArchitectureRules = {
  mayImport: {
    // packages/
    base: [],
    protocol: ['base'],
    client: ['base', 'protocol'],
    broker: ['base', 'protocol'],
    cli: ['base', 'protocol', 'client', 'broker'],
    console: ['base', 'protocol'],
    testkit: ['base', 'protocol', 'broker'],
    // folders beside them
    bench: beside,
    examples: beside,
    test: [...beside, 'console'],
  },
  onlyTestsImport: ['testkit'],
  layers: {
    broker: [['postgres', 'schema'], ['core', 'log', 'metadata'], ['runtime'], ['service'], ['doors'], ['.']],
  },
  pure: ['packages/broker/src/core', 'packages/broker/src/schema'],
  impure: [
    { what: 'the clock (Date.now)', pattern: /\bDate\s*\.\s*now\b/ },
    { what: 'the clock (new Date without a value)', pattern: /\bnew\s+Date\b(?!\s*\(\s*[^\s)])/ },
    { what: 'the clock (performance)', pattern: /(?<![.\w$])performance\s*\./ },
    { what: 'a timer', pattern: /(?<![.\w$])(?:setTimeout|setInterval|setImmediate|queueMicrotask)\b(?!\s*\??:)/ },
    { what: 'the console', pattern: /(?<![.\w$])console\s*\./ },
    { what: 'randomness (Math.random)', pattern: /\bMath\s*\.\s*random\b/ },
    { what: 'randomness (crypto)', pattern: /(?<![.\w$])(?:globalThis\s*\.\s*)?crypto\s*\./ },
    { what: 'the process', pattern: /(?<![.\w$])process\s*\./ },
  ],
  browserSafe: ['protocol'],
  nodeOnlySuffix: '-node',
  maxLines: 500,
  bannedWords: ['utils', 'helpers', 'manager', 'impl'],
  // connect-node's keeper of an HTTP/2 connection and the option that takes it; connect's type of a service's handlers.
  foreignNames: ['Http2SessionManager', 'sessionManager', 'jetstreamManager', 'ServiceImpl'],
  bannedFileNames: ['common', 'util', 'helper'],
};
