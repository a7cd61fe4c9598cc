/**
 * Checks what a pipeline made of its input, when every event of the input is to have one event in the output.
 *
 * Outputs name the value of their input (`history-values.ts`). A reader of committed events tells all of them, partition by
 * partition in order, once. Memory: a byte for each value, and a counter for each lane.
 */
import { GrowingBytes, counterOf, describeValue, isValue, valueOf, writerOf } from './history-values.ts';
import { ViolationList } from './history-violations.ts';
import type { Violation } from './history-violations.ts';

export const PIPELINE_VIOLATION_KINDS = [
  /** An input has more than one output. */
  'output-repeated',
  /** An input has none. */
  'output-missing',
  /** An output is of something that nobody has read in the input. */
  'output-of-nothing',
  /** Two inputs of one key came out the other way round. */
  'output-order',
] as const;

export type PipelineViolationKind = (typeof PIPELINE_VIOLATION_KINDS)[number];

export interface PipelineReport {
  readonly inputs: number;
  readonly outputs: number;
  readonly counts: Readonly<Partial<Record<PipelineViolationKind, number>>>;
  readonly violations: readonly Violation<PipelineViolationKind>[];
}

export class PipelineChecker {
  /** Values of a writer whose counters are equal modulo this have one key, and are in order. */
  readonly #lanes: number;
  readonly #found: ViolationList<PipelineViolationKind>;
  /** By writer: which inputs have come out. */
  readonly #out = new Map<number, GrowingBytes>();
  /** By writer and lane: the last counter. */
  readonly #last = new Map<number, number>();
  #outputs = 0;

  constructor(lanes: number, maxExamples = 10) {
    this.#lanes = lanes;
    this.#found = new ViolationList(maxExamples);
  }

  /** A committed event of the output, made from this input. */
  output(value: number, partition: string, offset: number): void {
    const where = `${partition}/${offset}`;
    this.#outputs += 1;
    if (!isValue(value)) {
      this.#found.add('output-of-nothing', `${where} is of ${value}`);
      return;
    }
    const counter = counterOf(value);
    const out = this.#out.get(writerOf(value)) ?? new GrowingBytes();
    this.#out.set(writerOf(value), out);
    if (out.get(counter) !== 0) {
      this.#found.add('output-repeated', `${where} is of ${describeValue(value)} again`);
      return;
    }
    out.add(counter, 1);
    const lane = writerOf(value) * this.#lanes + (counter % this.#lanes);
    const before = this.#last.get(lane) ?? -1;
    if (counter < before) {
      this.#found.add('output-order', `${where} is of ${describeValue(value)}, after ${before} of its key`);
    }
    this.#last.set(lane, counter);
  }

  /** @param inputs everything that was committed in the input, by value */
  check(inputs: Iterable<number>): PipelineReport {
    let count = 0;
    for (const value of inputs) {
      count += 1;
      const out = this.#out.get(writerOf(value));
      if (out === undefined || out.get(counterOf(value)) === 0) {
        this.#found.add('output-missing', `${describeValue(value)} did not come out`);
      } else {
        out.add(counterOf(value), 2);
      }
    }
    for (const [writer, out] of this.#out) {
      for (let counter = 0; counter < out.length; counter++) {
        if (out.get(counter) !== 1) continue;
        const input = describeValue(valueOf(writer, counter));
        this.#found.add('output-of-nothing', `${input} came out, and was not in the input`);
      }
    }
    const { counts, examples } = this.#found;
    return { inputs: count, outputs: this.#outputs, counts, violations: examples };
  }
}
