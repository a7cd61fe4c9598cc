import { describe, expect, test } from 'vitest';
import { PIPELINE_VIOLATION_KINDS, PipelineChecker } from './pipeline-checker.ts';
import type { PipelineViolationKind } from './pipeline-checker.ts';

const INPUTS = [0, 1, 2, 3];

function outputs(values: readonly number[]): PipelineChecker {
  const pipeline = new PipelineChecker(2);
  for (const [offset, value] of values.entries()) pipeline.output(value, 'out/0', offset);
  return pipeline;
}

describe('a pipeline', () => {
  test('that has one output for each input, in order by key, is right', () => {
    expect(outputs([1, 0, 2, 3]).check(INPUTS)).toMatchObject({ inputs: 4, outputs: 4, counts: {}, violations: [] });
  });

  const planted: Record<PipelineViolationKind, readonly number[]> = {
    'output-repeated': [0, 1, 2, 3, 1],
    'output-missing': [0, 1, 3],
    'output-of-nothing': [0, 1, 2, 3, 5],
    'output-order': [2, 0, 1, 3],
  };

  test.each(PIPELINE_VIOLATION_KINDS)('with the fault %s is found wrong, and only for that', (kind) => {
    expect(outputs(planted[kind]).check(INPUTS).counts).toEqual({ [kind]: 1 });
  });
});
