/** A terminal for tests: input is given, output is kept. */
import { PassThrough, Readable } from 'node:stream';
import type { Terminal } from './terminal.ts';

export interface TestTerminal extends Terminal {
  readonly out: () => string;
  readonly err: () => string;
}

export function testTerminal(input: string | readonly Buffer[] = []): TestTerminal {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  const texts = { out: '', err: '' };
  stdout.on('data', (chunk: Buffer) => (texts.out += chunk.toString()));
  stderr.on('data', (chunk: Buffer) => (texts.err += chunk.toString()));
  return {
    stdin: Readable.from(typeof input === 'string' ? [Buffer.from(input)] : input),
    stdout,
    stderr,
    environment: {},
    clock: { nowMs: () => 0, monotonicMs: () => 0 },
    keepCode: () => {},
    out: () => texts.out,
    err: () => texts.err,
  };
}
