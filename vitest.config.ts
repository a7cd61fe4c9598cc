/**
 * The stages of `npm test`, each a vitest project with its own time-outs and time budget; they run one after the other,
 * cheapest first, the files of one stage in parallel. `vitest run --project unit` runs one of them.
 */
import { defineConfig } from 'vitest/config';
import type { TestProjectInlineConfiguration } from 'vitest/config';

import { StageTimes } from './test/stage-times.ts';
import { stages } from './test/stages.ts';

const long = process.env['NARU_TEST_LONG'] === '1';

const projects = stages.map((stage, index): TestProjectInlineConfiguration => ({
  test: {
    name: stage.name,
    include: [...stage.include],
    exclude: ['**/node_modules/**', '**/generated/**', ...(stage.exclude ?? [])],
    environment: 'node',
    pool: 'forks',
    // What the same command line would say outside vitest: scripts/run.mjs.
    execArgv: ['--disable-warning=ExperimentalWarning'],
    testTimeout: long ? stage.longTimeoutMs : stage.timeoutMs,
    hookTimeout: stage.timeoutMs,
    sequence: { groupOrder: index },
    fileParallelism: stage.parallel,
    // Mocked functions and spies do not outlive their test.
    restoreMocks: true,
  },
}));

// Where .ci/run reads the numbers of passed and failed tests.
const jsonFile = process.env['NARU_TEST_JSON'];
const jsonReport: ['json', { outputFile: string }][] =
  jsonFile === undefined ? [] : [['json', { outputFile: jsonFile }]];

export default defineConfig({
  test: {
    projects,
    watch: false,
    teardownTimeout: 10_000,
    reporters: ['default', new StageTimes(stages, long), ...jsonReport],
  },
});
