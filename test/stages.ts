/** The stages of `npm test`, in the order in which they run. */
export interface Stage {
  readonly name: string;
  /** Globs from the repository's root. */
  readonly include: readonly string[];
  /** Globs of what is another stage's. */
  readonly exclude?: readonly string[];
  /** What one test may take, milliseconds. */
  readonly timeoutMs: number;
  /** The same in long runs (NARU_TEST_LONG=1). */
  readonly longTimeoutMs: number;
  /** What the stage should take in all, milliseconds; printed beside what it took. */
  readonly budgetMs: number;
  /** False where a test file wants the machine for itself. */
  readonly parallel: boolean;
}

const minute = 60_000;

export const stages: readonly Stage[] = [
  {
    name: 'unit',
    include: ['packages/*/src/**/*.test.ts', 'examples/**/*.test.ts', 'bench/**/*.test.ts'],
    exclude: ['**/*.simulation.test.ts'],
    timeoutMs: 10_000,
    longTimeoutMs: 10 * minute,
    budgetMs: 5 * minute,
    parallel: true,
  },
  {
    name: 'repository',
    include: ['test/*.test.ts'],
    timeoutMs: 20_000,
    longTimeoutMs: 2 * minute,
    budgetMs: 40_000,
    parallel: true,
  },
  {
    name: 'simulation',
    // Beside what they simulate, unless that is all of it.
    include: ['packages/*/src/**/*.simulation.test.ts', 'test/simulation/**/*.test.ts'],
    timeoutMs: 10 * minute,
    longTimeoutMs: 180 * minute,
    budgetMs: 3 * minute,
    parallel: true,
  },
  {
    name: 'sdk',
    include: ['test/sdk/**/*.test.ts'],
    timeoutMs: 20_000,
    longTimeoutMs: 2 * minute,
    budgetMs: minute,
    parallel: true,
  },
  {
    name: 'cli',
    include: ['test/cli/**/*.test.ts'],
    timeoutMs: minute,
    longTimeoutMs: 2 * minute,
    budgetMs: 2 * minute,
    parallel: true,
  },
  {
    name: 'interop',
    include: ['test/interop/**/*.test.ts'],
    timeoutMs: minute,
    longTimeoutMs: 10 * minute,
    budgetMs: 6 * minute,
    parallel: false,
  },
  {
    name: 'crash',
    include: ['test/crash/**/*.test.ts'],
    timeoutMs: 5 * minute,
    longTimeoutMs: 120 * minute,
    budgetMs: 5 * minute,
    parallel: false,
  },
];
