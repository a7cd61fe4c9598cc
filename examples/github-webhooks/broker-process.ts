/** A broker in a process of its own, on local files, which can be killed and started again. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const NARU = fileURLToPath(new URL('../../packages/cli/src/main.mjs', import.meta.url));
const START_TIMEOUT_MS = 30_000;
/** Of what a broker says on stderr, this much is kept for the message when it does not start. */
const KEPT_OUTPUT_CHARACTERS = 4_000;

export class BrokerProcess {
  readonly #directory: string;
  /** Any free one at first, the same one ever after, so that clients find the broker again. */
  #port = 0;
  #child: ChildProcess | null = null;

  /** @param directory where the broker keeps its data */
  constructor(directory: string) {
    this.#directory = directory;
  }

  get address(): string {
    return `127.0.0.1:${this.#port}`;
  }

  /** Resolves when the broker serves; to how long that took, milliseconds. */
  async start(signal: AbortSignal): Promise<number> {
    const startedMs = performance.now();
    const command = ['start', '--port', String(this.#port), '--data', this.#directory, '-o', 'json'];
    const child = spawn(process.execPath, [...process.execArgv, NARU, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#child = child;
    let complaints = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints = (complaints + text).slice(-KEPT_OUTPUT_CHARACTERS);
    });
    const limit = AbortSignal.any([signal, AbortSignal.timeout(START_TIMEOUT_MS)]);
    const lines = createInterface({ input: child.stdout, signal: limit });
    // `-o json` says where it listens, in one line, when it serves.
    const line = await Promise.race([once(lines, 'line', { signal: limit }), once(child, 'exit')]);
    if (typeof line[0] !== 'string') throw new Error(`the broker does not start:\n${complaints}`);
    this.#port = (JSON.parse(line[0]) as { port: number }).port;
    return performance.now() - startedMs;
  }

  /** SIGKILL: no time to finish anything. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGTERM: the broker finishes what it has in hand. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = null;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
  }
}
