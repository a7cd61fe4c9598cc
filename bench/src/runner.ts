/** Runs the scenarios of a comparison in turn, as often as asked: A B C C B A, so that a slow minute of the machine is all of theirs. */
import type { Measurement } from './measurement.ts';
import { scenarioResult } from './results.ts';
import type { ComparisonResult } from './results.ts';
import { ScenarioRun } from './scenario.ts';
import type { Comparison, RunSettings, Scenario } from './scenario.ts';

export interface Failure {
  readonly scenario: string;
  readonly error: unknown;
}

export interface RunnerOptions {
  readonly settings: RunSettings;
  readonly repetitions: number;
  /** Whether a scenario is wanted. */
  readonly wants: (comparison: Comparison, scenario: Scenario) => boolean;
  readonly progress: (text: string) => void;
}

/** A scenario that fails is left out of the result, and its failure is told. */
export async function runComparison(
  comparison: Comparison,
  { settings, repetitions, wants, progress }: RunnerOptions,
  failures: Failure[],
): Promise<ComparisonResult> {
  const wanted = (scenarios: readonly Scenario[]): Scenario[] =>
    scenarios.filter((scenario) => wants(comparison, scenario));
  const [subjects, limits] = [wanted(comparison.subjects), wanted(comparison.limits)];
  const runs = new Map<Scenario, Measurement[]>();
  const shared = comparison.sharesProcesses === true ? new ScenarioRun(settings, comparison.name) : null;
  for (let repetition = 1; repetition <= repetitions; repetition++) {
    const order = [...subjects, ...limits];
    for (const scenario of repetition % 2 === 1 ? order : order.reverse()) {
      progress(`${scenario.name} (${repetition} of ${repetitions})`);
      try {
        const measured = await (shared === null ? runAlone(scenario, settings) : scenario.run(shared));
        runs.set(scenario, [...(runs.get(scenario) ?? []), measured]);
      } catch (error) {
        failures.push({ scenario: scenario.name, error });
      }
    }
  }
  await shared?.end();
  const results = (scenarios: readonly Scenario[]) =>
    scenarios.flatMap((scenario) => {
      const all = runs.get(scenario);
      return all === undefined ? [] : [scenarioResult(scenario, comparison.kind, all)];
    });
  return { comparison, subjects: results(subjects), limits: results(limits) };
}

async function runAlone(scenario: Scenario, settings: RunSettings): Promise<Measurement> {
  const run = new ScenarioRun(settings, scenario.name);
  try {
    return await scenario.run(run);
  } finally {
    await run.end();
  }
}
