/**
 * A running server: started, measured, killed, started again on the same directory, ended.
 *
 * Whatever is running when this process ends, for whatever reason but SIGKILL, ends with it: `endAll`.
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { rmSync } from 'node:fs';
import { mkdir, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { untilListening } from './free-ports.ts';
import { killTree, processTree, resetPeaks, treeUsage } from './process-tree.ts';
import type { TreeUsage } from './process-tree.ts';
import type { Durability, Launch, ServerAddress, ServerKind, ServerPlan } from './server-kind.ts';

const START_MS = 120_000;
/** How long it may take to end by itself. */
const STOP_MS = 30_000;
/** Of its output, kept for errors. */
const OUTPUT_CHARACTERS = 8_000;

const running = new Set<PeerServer>();

export interface StartOptions {
  readonly durability: Durability;
  /** Where its directory is made, unless its kind says where. */
  readonly directories: string;
  readonly frequentCheckpoints?: boolean | undefined;
}

export class PeerServer {
  readonly kind: ServerKind;
  readonly durability: Durability;
  readonly directory: string;
  readonly #plan: ServerPlan;
  #children: ChildProcess[] = [];
  #output = '';

  private constructor(kind: ServerKind, durability: Durability, directory: string, plan: ServerPlan) {
    this.kind = kind;
    this.durability = durability;
    this.directory = directory;
    this.#plan = plan;
  }

  /** With an empty directory. */
  static async start(kind: ServerKind, options: StartOptions): Promise<PeerServer> {
    const { durability, frequentCheckpoints = false } = options;
    const directories = kind.directories?.() ?? options.directories;
    await mkdir(directories, { recursive: true });
    const directory = await mkdtemp(join(directories, `naru-bench-${kind.name}-`));
    const plan = await kind.plan({ durability, directory, frequentCheckpoints });
    const server = new PeerServer(kind, durability, directory, plan);
    running.add(server);
    try {
      await plan.prepare();
      await server.restart();
    } catch (error) {
      await server.end();
      throw error;
    }
    return server;
  }

  get address(): ServerAddress {
    return this.#plan.address;
  }

  get configuration(): string {
    return this.#plan.configuration;
  }

  get commandLine(): string {
    const { command, args } = this.#plan.launch;
    return [command, ...args].join(' ');
  }

  /** Starts what is not running, and resolves when it listens. Returns the milliseconds that it took. */
  async restart(): Promise<number> {
    this.#output = '';
    const companions = (this.#plan.companions ?? []).map((launch) => this.#spawn(launch));
    const startMs = performance.now();
    const child = this.#spawn(this.#plan.launch);
    this.#children = [child, ...companions];
    try {
      await untilListening(this.address.port, START_MS, () => child.exitCode !== null || child.signalCode !== null);
    } catch (error) {
      throw new Error(`${this.kind.name}: ${(error as Error).message}\n${this.#output}`, { cause: error });
    }
    return performance.now() - startMs;
  }

  usage(): TreeUsage {
    return treeUsage(this.#ids);
  }

  resetPeak(): void {
    resetPeaks(this.#ids);
  }

  /** SIGKILL, as a crash. */
  async kill(): Promise<void> {
    const ended = this.#children.map(endOf);
    this.#killNow();
    await Promise.all(ended);
    this.#children = [];
  }

  /** Asks it to end; by force when it does not. */
  async stop(): Promise<void> {
    const [child] = this.#children;
    if (child?.pid === undefined) return;
    // A child of its own may outlive it, and would then be nobody's.
    const tree = processTree(child.pid);
    const ended = endOf(child);
    child.kill('SIGTERM');
    const timer = setTimeout(() => this.#killNow(), STOP_MS);
    await ended;
    clearTimeout(timer);
    for (const id of tree) killTree(id);
    await this.kill();
  }

  /** Ends it and removes its directory. */
  async end(): Promise<void> {
    await this.kill();
    this.#remove();
    running.delete(this);
  }

  /** The same from a handler that cannot wait. */
  endNow(): void {
    this.#killNow();
    this.#remove();
    running.delete(this);
  }

  get #ids(): number[] {
    return this.#children.flatMap(({ pid, exitCode, signalCode }) =>
      pid === undefined || exitCode !== null || signalCode !== null ? [] : [pid],
    );
  }

  #spawn({ command, args, env }: Launch): ChildProcess {
    // Detached: a Ctrl-C on the terminal is this process's to handle.
    const child = spawn(command, args, { env: { ...process.env, ...env }, detached: true, cwd: this.directory });
    const keep = (text: string): void => {
      this.#output = (this.#output + text).slice(-OUTPUT_CHARACTERS);
    };
    child.stdout.setEncoding('utf8').on('data', keep);
    child.stderr.setEncoding('utf8').on('data', keep);
    child.stdin.end();
    child.on('error', (error) => keep(`${error.message}\n`));
    return child;
  }

  #killNow(): void {
    for (const id of this.#ids) killTree(id);
  }

  #remove(): void {
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** Ends every server that runs, at once. */
export function endAll(): void {
  for (const server of running) server.endNow();
}

function endOf(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return Promise.resolve();
  return new Promise((resolve) => child.once('exit', () => resolve()));
}
