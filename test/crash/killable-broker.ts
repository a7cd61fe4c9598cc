/** A broker in a process of its own, as `naru start` starts it, that a test kills and starts again on the same files and port. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { assert } from '@naru/base';

const NARU = fileURLToPath(new URL('../../packages/cli/src/main.mjs', import.meta.url));
/** Of what a broker says on stderr, this much is kept for when it does not start. */
const KEPT_OUTPUT_CHARACTERS = 8_000;

export interface KillableBrokerOptions {
  readonly configFile: string;
  readonly dataDirectory: string;
  /** Keeps compiled code, so that restarts take less time. */
  readonly compileCache: string;
}

export class KillableBroker {
  readonly #options: KillableBrokerOptions;
  #port = 0;
  #child: ChildProcess | null = null;
  #output = '';

  constructor(options: KillableBrokerOptions) {
    this.#options = options;
  }

  get address(): string {
    assert(this.#port > 0, 'the broker has served once');
    return `127.0.0.1:${this.#port}`;
  }

  /** The end of what it has said on stderr. */
  get output(): string {
    return this.#output;
  }

  /** Resolves to true when the broker serves, to false when it was killed before. Rejects when it ends by itself. */
  async start(): Promise<boolean> {
    assert(this.#child === null, 'the broker does not run');
    const { configFile, dataDirectory, compileCache } = this.#options;
    const command = [
      'start',
      '--config',
      configFile,
      '--data',
      dataDirectory,
      '--port',
      String(this.#port),
      '-o',
      'json',
    ];
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', NARU, ...command], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NODE_COMPILE_CACHE: compileCache },
    });
    this.#child = child;
    this.#output = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#output = (this.#output + text).slice(-KEPT_OUTPUT_CHARACTERS);
    });
    const line = once(createInterface({ input: child.stdout }), 'line') as Promise<[string]>;
    const served = await Promise.race([line, once(child, 'close').then(() => null)]);
    if (served !== null) {
      this.#port = (JSON.parse(served[0]) as { port: number }).port;
      return true;
    }
    if (child.signalCode === 'SIGKILL') return false;
    throw new Error(`the broker ended with ${child.exitCode ?? child.signalCode}:\n${this.#output}`);
  }

  /** SIGKILL; resolves when the process is gone. Throws when it was gone already: then something else ended it. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGSTOP, until {@link thaw}: its clients wait for answers that come late. */
  freeze(): void {
    this.#child?.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child?.kill('SIGCONT');
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** For after a failure. */
  async abandon(): Promise<void> {
    if (this.#child !== null && this.#child.exitCode === null && this.#child.signalCode === null) await this.kill();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    assert(child !== null, 'the broker runs');
    if (child.exitCode !== null || child.signalCode !== null) {
      throw new Error(`the broker ended by itself with ${child.exitCode ?? child.signalCode}:\n${this.#output}`);
    }
    const closed = once(child, 'close');
    child.kill(signal);
    await closed;
    this.#child = null;
  }
}
