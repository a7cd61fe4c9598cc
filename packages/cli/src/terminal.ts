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
}

export type OutputStream = Writable & { readonly isTTY?: boolean };

export const processTerminal: Terminal = {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  environment: process.env,
  clock: systemClock,
};

/** One line for the person at the terminal. */
export function say(terminal: Terminal, text: string): void {
  terminal.stderr.write(`${text}\n`);
}
