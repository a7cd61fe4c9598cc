/**
 * Publishes the lines of a stream, many at a time, and reports each in the order of the lines.
 *
 * A line that cannot be an event is reported, and the others go on. An error that the next line would meet as well ends the
 * reading; what was handed over before is waited for.
 *
 * Invariant: at most {@link MAX_IN_FLIGHT_EVENTS} lines are read and not reported.
 */
import type { Readable } from 'node:stream';
import { isNaruError, type ErrorCode } from '@naru/protocol';
import type { PublishResult } from '@naru/client';
import { readEventInput, type EventInput, type EventInputOptions } from '../input/event-input.ts';
import { readLines, type Line } from '../input/lines.ts';
import { DataOutput } from '../output/data-output.ts';
import { reportError } from '../output/error-report.ts';
import { jsonLine } from '../output/json.ts';
import { NumberRanges } from '../output/number-ranges.ts';
import { Progress } from '../output/progress.ts';
import { say, type Terminal } from '../terminal.ts';
import { publishResultJson } from './publish-result-json.ts';

export const MAX_IN_FLIGHT_EVENTS = 10_000;
/** Failures that are shown one by one; the rest is counted. */
const MAX_REPORTED_FAILURES = 20;
/** Ranges of failed lines that the summary names. */
const MAX_NAMED_RANGES = 100;
/** Text of results gathered for one write. */
const MAX_WRITE_CHARACTERS = 64 * 1024;

/** What is wrong with one event, and says nothing of the next. */
const LINE_ERRORS: readonly ErrorCode[] = ['SERIALIZATION', 'RECORD_TOO_LARGE', 'INVALID_RECORD'];

export interface LinePublisherOptions {
  readonly terminal: Terminal;
  /** Print a JSON object for each event. */
  readonly isJson: boolean;
  readonly input: EventInputOptions;
  readonly publish: (event: EventInput) => Promise<PublishResult>;
}

export interface PublishSummary {
  readonly published: number;
  readonly failed: number;
  /** Those that failed, as ranges. */
  readonly failedLines: string;
  /** The first line that was not handed over because the reading was stopped; null when all were. */
  readonly unreadFrom: number | null;
}

interface Entry {
  readonly line: number;
  result: PublishResult | null;
  error: unknown;
  isSettled: boolean;
}

export class LinePublisher {
  readonly #options: LinePublisherOptions;
  readonly #output: DataOutput;
  readonly #progress: Progress;
  /** Read and not reported, oldest first. */
  readonly #entries: Entry[] = [];
  readonly #failedLines = new NumberRanges(MAX_NAMED_RANGES);
  /** Messages of errors that are not one line's: each is shown once. */
  readonly #shownErrors = new Set<string>();
  #nextLine = 1;
  #isStopped = false;
  #published = 0;
  #failed = 0;
  /** Failures that were shown, or would have been. */
  #shown = 0;
  #isReading = true;
  #stopReading: () => void = () => {};
  /** Wakes the reporting; the reading waits for `#room`. */
  #wake: (() => void) | null = null;
  #room: (() => void) | null = null;

  constructor(options: LinePublisherOptions) {
    this.#options = options;
    this.#output = new DataOutput(options.terminal);
    this.#progress = new Progress(options.terminal, options.terminal.stdin.isTTY !== true && !options.isJson);
  }

  /**
   * Reads `source` to its end, or until `signal` aborts; resolves when everything that was read is settled and reported.
   *
   * @throws the platform's error when the source cannot be read
   */
  async run(source: Readable, signal: AbortSignal): Promise<PublishSummary> {
    const stop = (): void => {
      this.#isStopped ||= this.#isReading;
      this.#isReading = false;
      source.destroy();
    };
    this.#stopReading = stop;
    signal.addEventListener('abort', stop, { once: true });
    if (signal.aborted) stop();
    const reporting = this.#report();
    try {
      await this.#read(source);
    } finally {
      this.#isReading = false;
      this.#wake?.();
      signal.removeEventListener('abort', stop);
      await reporting;
      this.#progress.clear();
    }
    return {
      published: this.#published,
      failed: this.#failed,
      failedLines: this.#failedLines.toString(),
      unreadFrom: this.#isStopped ? this.#nextLine : null,
    };
  }

  async #read(source: Readable): Promise<void> {
    try {
      for await (const line of readLines(source as AsyncIterable<Buffer>)) {
        if (!this.#isReading) return;
        this.#take(line);
        while (this.#entries.length >= MAX_IN_FLIGHT_EVENTS)
          await new Promise<void>((resolve) => (this.#room = resolve));
      }
    } catch (error) {
      // A source that was stopped ends with an error.
      if (this.#isReading) throw error;
    }
  }

  #take({ number, bytes }: Line): void {
    const { input, publish } = this.#options;
    this.#nextLine = number + 1;
    if (!input.raw && bytes.every((byte) => byte === 0x20 || byte === 0x09)) return;
    const entry: Entry = { line: number, result: null, error: undefined, isSettled: false };
    this.#entries.push(entry);
    try {
      publish(readEventInput(bytes, input)).then(
        (result) => {
          entry.result = result;
          this.#settled(entry);
        },
        (error: unknown) => {
          entry.error = error;
          this.#settled(entry);
        },
      );
    } catch (error) {
      entry.error = error;
      this.#settled(entry);
    }
  }

  #settled(entry: Entry): void {
    entry.isSettled = true;
    if (entry.result === null && !isNaruError(entry.error, ...LINE_ERRORS)) this.#stopReading();
    this.#wake?.();
  }

  async #report(): Promise<void> {
    while (this.#isReading || this.#entries.length > 0) {
      const text = this.#takeReport();
      this.#progress.update(() => `published ${this.#published} events`);
      if (text !== '') await this.#output.write(text);
      if (this.#entries[0]?.isSettled === true) continue;
      this.#room?.();
      if (!this.#isReading && this.#entries.length === 0) return;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  /** Settles the account of what is settled, and returns what is to be printed of it. */
  #takeReport(): string {
    let text = '';
    let taken = 0;
    for (const entry of this.#entries) {
      if (!entry.isSettled || text.length >= MAX_WRITE_CHARACTERS) break;
      taken += 1;
      if (entry.result === null) this.#reportFailure(entry);
      else {
        this.#published += 1;
        if (this.#options.isJson) text += jsonLine(publishResultJson(entry.result));
      }
    }
    this.#entries.splice(0, taken);
    return text;
  }

  #reportFailure({ line, error }: Entry): void {
    const { terminal, isJson } = this.#options;
    this.#failed += 1;
    this.#failedLines.add(line);
    const isOfLine = isNaruError(error, ...LINE_ERRORS);
    const message = String(error);
    if (!isOfLine && this.#shownErrors.has(message)) return;
    this.#shown += 1;
    if (!isOfLine && this.#shown <= MAX_REPORTED_FAILURES) this.#shownErrors.add(message);
    this.#progress.clear();
    if (this.#shown <= MAX_REPORTED_FAILURES) reportError(terminal, error, isJson, { line });
    else if (this.#shown === MAX_REPORTED_FAILURES + 1) say(terminal, 'further failures are only counted');
  }
}
