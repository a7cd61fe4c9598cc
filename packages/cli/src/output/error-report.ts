/** Says what went wrong, for people and, on request, for programs. */
import { isNaruError } from '@naru/protocol';
import { say, type Terminal } from '../terminal.ts';
import { printable } from './printable.ts';

/** What a failure is about, where it is not the whole command. */
export interface FailureContext {
  /** Line of the input, from 1. */
  readonly line?: number;
}

/**
 * One line `error: message (CODE)` on stderr; with `asJson`, after it `{"error": {"code", "message"}}` in one more. Only an
 * error that nobody expected shows its stack.
 */
export function reportError(terminal: Terminal, error: unknown, asJson: boolean, context: FailureContext = {}): void {
  const { code, message } = describeError(error);
  const where = context.line === undefined ? '' : `line ${context.line}: `;
  say(
    terminal,
    `error: ${where}${message.split('\n').map(printable).join('\n  ')}${code === null ? '' : ` (${code})`}`,
  );
  if (code === null && !isSystemError(error) && error instanceof Error) say(terminal, error.stack ?? '');
  if (asJson) say(terminal, JSON.stringify({ error: { code: code ?? 'INTERNAL', message, ...context } }));
}

function describeError(error: unknown): { code: string | null; message: string } {
  if (isNaruError(error)) return { code: error.code, message: error.message };
  return { code: null, message: error instanceof Error ? error.message : String(error) };
}

/** Of the platform: its message says it all. */
function isSystemError(error: unknown): boolean {
  return typeof (error as { syscall?: unknown } | null)?.syscall === 'string';
}
