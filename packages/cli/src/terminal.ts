/** What a command has of the process that it runs in; tests give their own. */
import type { Readable, Writable } from 'node:stream';
import { systemClock, type Clock } from '@naru/base';

export interface Terminal {
  readonly stdin: Readable & { readonly isTTY?: boolean };
  /** Carries data only. */
  readonly stdout: OutputStream;
  /** Carries everything that is said about the data. */
  readonly stderr: OutputStream;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly clock: Clock;
  /** Keeps for the next start what V8 has compiled by now. Takes some milliseconds, once; throws nothing. */
  readonly keepCode: () => void;
}

export type OutputStream = Writable & { readonly isTTY?: boolean };

export function processTerminal(keepCode: () => void): Terminal {
  const { stdin, stdout, stderr, env: environment } = process;
  return { stdin, stdout, stderr, environment, clock: systemClock, keepCode };
}

/** One line for the person at the terminal. */
export function say(terminal: Terminal, text: string): void {
  terminal.stderr.write(`${text}\n`);
}
