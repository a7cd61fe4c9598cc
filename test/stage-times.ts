/** Prints, at the end of a test run, how long each stage took against its budget. It fails nothing: machines differ. */
import type { Reporter, TestModule } from 'vitest/node';

import type { Stage } from './stages.ts';

interface StageTotals {
  files: number;
  tests: number;
  firstStartMs: number;
  lastEndMs: number;
}

export class StageTimes implements Reporter {
  readonly #stages: readonly Stage[];
  readonly #long: boolean;
  readonly #totals = new Map<string, StageTotals>();

  constructor(stages: readonly Stage[], long: boolean) {
    this.#stages = stages;
    this.#long = long;
  }

  onTestModuleQueued(module: TestModule): void {
    const now = performance.now();
    if (!this.#totals.has(module.project.name)) {
      this.#totals.set(module.project.name, { files: 0, tests: 0, firstStartMs: now, lastEndMs: now });
    }
  }

  onTestModuleEnd(module: TestModule): void {
    const totals = this.#totals.get(module.project.name);
    if (totals === undefined) return;
    totals.files += 1;
    totals.tests += [...module.children.allTests()].length;
    totals.lastEndMs = performance.now();
  }

  onTestRunEnd(): void {
    const lines = this.#stages.flatMap((stage) => {
      const totals = this.#totals.get(stage.name);
      return totals === undefined ? [] : [this.#line(stage, totals)];
    });
    if (lines.length > 0) process.stdout.write(`\n${lines.join('\n')}\n`);
  }

  #line(stage: Stage, { files, tests, firstStartMs, lastEndMs }: StageTotals): string {
    const tookMs = lastEndMs - firstStartMs;
    const budget = this.#long ? 'long run, no budget' : `budget ${seconds(stage.budgetMs)}`;
    const over = !this.#long && tookMs > stage.budgetMs ? '  OVER BUDGET' : '';
    const amount = `${tests} tests in ${files} files`;
    return `  stage ${stage.name.padEnd(12)}${seconds(tookMs).padStart(8)}  (${budget})  ${amount}${over}`;
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
