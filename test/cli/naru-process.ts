/** The `naru` command in a process of its own, watched by its output. */
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import path from 'node:path';

const root = path.resolve(import.meta.dirname, '../..');
const cliMain = path.join(root, 'packages/cli/src/main.mjs');
/** As scripts/run.mjs has it: commands start in a third of the time. */
const compileCache = path.join(root, 'node_modules/.cache/node');

export interface Outcome {
  readonly exitCode: number | null;
  readonly out: string;
  readonly err: string;
}

export class NaruProcess implements AsyncDisposable {
  readonly child: ChildProcessWithoutNullStreams;
  /** Resolves when the process has ended and everything that it wrote was read. */
  readonly ended: Promise<Outcome>;
  #out = '';
  #err = '';
  readonly #watchers = new Set<() => void>();

  constructor(args: readonly string[], environment: NodeJS.ProcessEnv = {}, main = cliMain) {
    const env = { ...withoutNaru(process.env), NODE_COMPILE_CACHE: compileCache, ...environment };
    this.child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', main, ...args], { env });
    this.child.stdout.on('data', (chunk: Buffer) => {
      this.#out += chunk.toString();
      this.#changed();
    });
    this.child.stderr.on('data', (chunk: Buffer) => {
      this.#err += chunk.toString();
      this.#changed();
    });
    // A command may end without having read all that it is given.
    this.child.stdin.on('error', () => {});
    this.ended = new Promise((resolve, reject) => {
      this.child.on('error', reject);
      this.child.on('close', (exitCode) => {
        resolve({ exitCode, out: this.#out, err: this.#err });
        this.#changed();
      });
    });
  }

  /** Resolves when `count` whole lines are on stdout. */
  outLines(count: number): Promise<string[]> {
    return this.#when(`${count} lines on stdout`, () => {
      const lines = this.#out.split('\n').slice(0, -1);
      return lines.length >= count ? lines : undefined;
    });
  }

  /** Resolves when stderr matches. */
  said(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#when(`${pattern} on stderr`, () => pattern.exec(this.#err) ?? undefined);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGKILL');
    await this.ended;
  }

  #when<T>(what: string, look: () => T | undefined): Promise<T> {
    return new Promise((resolve, reject) => {
      const check = (): void => {
        const found = look();
        const hasEnded = this.child.exitCode !== null || this.child.signalCode !== null;
        if (found === undefined && !(hasEnded && this.child.stderr.readableEnded)) return;
        this.#watchers.delete(check);
        if (found !== undefined) resolve(found);
        else reject(new Error(`naru ended before there was ${what}\nstdout: ${this.#out}\nstderr: ${this.#err}`));
      };
      this.#watchers.add(check);
      check();
    });
  }

  #changed(): void {
    for (const check of this.#watchers) check();
  }
}

/** Runs a command to its end. */
export async function naru(
  args: readonly string[],
  input = '',
  environment: NodeJS.ProcessEnv = {},
  main = cliMain,
): Promise<Outcome> {
  await using command = new NaruProcess(args, environment, main);
  command.child.stdin.end(input);
  return await command.ended;
}

/** A broker in a process of its own. */
export interface BrokerProcess extends AsyncDisposable {
  readonly command: NaruProcess;
  /** `host:port`. */
  readonly address: string;
}

/** Resolves when the broker serves. */
export async function startBroker(...args: string[]): Promise<BrokerProcess> {
  const command = new NaruProcess(['start', '--port', '0', '--log-level', 'warn', '-o', 'json', ...args]);
  const [line = ''] = await command.outLines(1);
  const { host, port } = JSON.parse(line) as { host: string; port: number };
  return { command, address: `${host}:${port}`, [Symbol.asyncDispose]: () => command[Symbol.asyncDispose]() };
}

/** The settings of whoever runs the tests are not theirs. */
function withoutNaru(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => !name.startsWith('NARU_')));
}
