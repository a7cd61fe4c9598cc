/**
 * What a client process of a torture test tells: lines on its standard output, each written before it goes on, so that SIGKILL
 * takes nothing back that it has said.
 *
 * A lane is one of the client's writers; each has one transaction at a time. Values are the lane's next ones, in order.
 */
import { writeSync } from 'node:fs';
import { valueOf } from './values.ts';

/** Of a value: which topic it went to, and where it is. */
export type Place = readonly [counter: number, topic: number, partition: number, offset: number];

export type ClientEvent =
  /** Nothing is under way yet, and the client is connected. */
  | readonly ['ready']
  | readonly ['begin', lane: number, count: number]
  /** Outside of a transaction. */
  | readonly ['send', lane: number, count: number]
  | readonly ['acked', lane: number, places: readonly Place[]]
  /** Its commit is asked for after this moment of the machine's monotonic clock. */
  | readonly ['committing', lane: number, at: number]
  | readonly ['committed', lane: number]
  | readonly ['aborted', lane: number]
  /** It is not known what became of the commit. */
  | readonly ['left', lane: number]
  /** What must not happen. */
  | readonly ['failure', text: string]
  /** What may happen, and is good to know. */
  | readonly ['note', text: string];

const STDOUT = 1;

export function tell(event: ClientEvent): void {
  writeSync(STDOUT, `${JSON.stringify(event)}\n`);
}

/** Nanoseconds of a clock that all processes of the machine share. */
export function monotonicNs(): number {
  return Number(process.hrtime.bigint());
}

/** One writer of this process. */
export class Lane {
  readonly number: number;
  readonly #writer: number;
  #next = 0;
  #places: Place[] = [];
  #isCommitting = false;

  constructor(number: number, writer: number) {
    this.number = number;
    this.#writer = writer;
  }

  get writer(): number {
    return this.#writer;
  }

  /** Whether the commit of the present transaction was asked for. */
  get isCommitting(): boolean {
    return this.#isCommitting;
  }

  /** @returns the counters of the values to send in a transaction */
  begin(count: number): number[] {
    tell(['begin', this.number, count]);
    this.#isCommitting = false;
    return this.#take(count);
  }

  /** @returns the counters of the values to send */
  send(count: number): number[] {
    tell(['send', this.number, count]);
    return this.#take(count);
  }

  value(counter: number): number {
    return valueOf(this.#writer, counter);
  }

  /** Told with the next {@link tellPlaces}. */
  placed(...place: Place): void {
    this.#places.push(place);
  }

  tellPlaces(): void {
    if (this.#places.length > 0) tell(['acked', this.number, this.#places]);
    this.#places = [];
  }

  committing(): void {
    this.tellPlaces();
    this.#isCommitting = true;
    tell(['committing', this.number, monotonicNs()]);
  }

  ended(outcome: 'committed' | 'aborted' | 'left'): void {
    this.tellPlaces();
    tell([outcome, this.number]);
  }

  #take(count: number): number[] {
    this.#next += count;
    return Array.from({ length: count }, (_, index) => this.#next - count + index);
  }
}
