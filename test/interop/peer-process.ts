/** A command line client as a child process: what it is given, what it says, how it ends. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { vi } from 'vitest';

/** A JVM on a busy machine needs its time. */
const WAIT_MS = 45_000;

export class PeerProcess {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #command: string;
  readonly #ended: Promise<number | NodeJS.Signals>;
  #out = '';
  #err = '';

  constructor(command: string, args: readonly string[], input: string | null = '') {
    this.#command = [command, ...args.filter((arg) => arg.length < 200)].join(' ');
    this.#child = spawn(command, args);
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => (this.#out += text));
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => (this.#err += text));
    // Whoever ends before it has read its input is asked for its exit code, not for this.
    this.#child.stdin.on('error', () => undefined);
    const { promise, resolve, reject } = Promise.withResolvers<number | NodeJS.Signals>();
    this.#child.on('error', reject).on('close', (code, signal) => resolve(code ?? signal ?? -1));
    promise.catch(() => undefined);
    this.#ended = promise;
    if (input !== null) this.#child.stdin.end(input);
  }

  /** Everything on its standard output so far. */
  get output(): string {
    return this.#out;
  }

  get errors(): string {
    return this.#err;
  }

  get lines(): string[] {
    return this.#out.split('\n').filter((line) => line !== '');
  }

  /** Resolves when `ready` does not throw; rejects with what it threw and what the process said. */
  async until(ready: () => void): Promise<void> {
    try {
      await vi.waitFor(ready, { timeout: WAIT_MS, interval: 20 });
    } catch (error) {
      throw new Error(`${this.#command}\n${this.#out}\n${this.#err}`, { cause: error });
    }
  }

  /** Resolves to its exit code, or to the signal that ended it. */
  ended(): Promise<number | NodeJS.Signals> {
    return this.#ended;
  }

  /** Resolves to its standard output when it ends with 0, and rejects otherwise. */
  async succeeded(): Promise<string> {
    const code = await this.#ended;
    if (code !== 0) throw new Error(`${this.#command} ended with ${code}\n${this.#out}\n${this.#err}`);
    return this.#out;
  }

  /** Ends it and resolves when it has ended. */
  async kill(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    this.#child.kill(signal);
    await this.#ended;
  }
}
