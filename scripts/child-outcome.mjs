/**
 * Waiting for a child process as if it were this one: signals go to it, its end is ours.
 *
 * Plain JavaScript without dependencies for Node 16 and later.
 */
import fs from 'node:fs';
import process from 'node:process';

/** Read at the start: it changes when that process ends. */
const startedBy = process.ppid;
/** How often it is checked whether npm, which started us, is still there. */
const parentPollMs = 250;
const forwardedSignals = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/** Something that the user has to mend; printed without a stack. */
export class RunError extends Error {}

/** One line for the user. On stderr: stdout belongs to the child. */
export function say(message) {
  process.stderr.write(`naru: ${message}\n`);
}

/**
 * True when a SIGINT may have come from the terminal, which sends it to the child as well: forwarding would make it two,
 * and a second Ctrl-C means "stop at once" to many programs.
 */
function terminalInterruptsChild() {
  try {
    // proc(5): after the name in parentheses come state, ppid, pgrp, session, tty, foreground group of the tty.
    const fields = fs
      .readFileSync('/proc/self/stat', 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[2] === fields[5];
  } catch {
    return process.stdin.isTTY || process.stdout.isTTY || process.stderr.isTTY;
  }
}

/**
 * Ends the child when npm's shell ends. npm passes SIGTERM to the shell alone, which dies of it without telling anybody,
 * and a broker started by `npm start` would outlive its `kill`. Answers the function that stops watching.
 */
function endWithParent(child) {
  if (process.env.npm_execpath === undefined || process.platform === 'win32') return () => {};
  const watch = setInterval(() => {
    if (process.ppid === startedBy) return;
    clearInterval(watch);
    child.kill('SIGTERM');
  }, parentPollMs);
  return () => clearInterval(watch);
}

/** Waits for the child's end, passing signals on to it. Rejects with a RunError when it cannot be started. */
export function outcomeOf(child, startFailure) {
  const stopWatching = endWithParent(child);
  const handlers = forwardedSignals.map((signal) => {
    const handler = () => {
      if (signal === 'SIGINT' && terminalInterruptsChild()) return;
      child.kill(signal);
    };
    process.on(signal, handler);
    return [signal, handler];
  });
  return new Promise((resolve, reject) => {
    child.on('error', (error) => reject(new RunError(`${startFailure}: ${error.message}`)));
    child.on('exit', (code, signal) => resolve({ code, signal }));
  }).finally(() => {
    stopWatching();
    for (const [signal, handler] of handlers) process.off(signal, handler);
  });
}
