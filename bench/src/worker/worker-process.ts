/** A worker process, as the bench sees it: commands, what it has used, and its end. */
import { fork } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Commands, OpenedRole, RoleName, RoleOptions } from './roles.ts';
import { READY_ID } from './worker-messages.ts';
import type { Usage, WorkerReply, WorkerRequest } from './worker-messages.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
/** How long a worker may take to end by itself. */
const STOP_MS = 10_000;

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

export interface WorkerSettings {
  /** Named in profiles and errors. */
  readonly title: string;
}

type Argument<F> = F extends (argument: infer A) => unknown ? A : never;
type Result<F> = F extends (argument: never) => infer R ? Awaited<R> : never;

export class WorkerProcess<N extends RoleName = RoleName> {
  readonly title: string;
  readonly #child: ChildProcess;
  readonly #waiting = new Map<number, Waiting>();
  readonly #ended: Promise<void>;
  #nextId = READY_ID + 1;
  #isStopping = false;
  #readyValue: unknown;

  private constructor(child: ChildProcess, title: string) {
    this.#child = child;
    this.title = title;
    child.on('message', (reply: WorkerReply) => this.#settle(reply));
    child.on('error', (error) => this.#fail(error));
    this.#ended = new Promise((resolve) => {
      child.on('exit', (code, signal) => {
        this.#fail(new Error(`worker ${title} ended: ${signal ?? `exit code ${String(code)}`}`));
        resolve();
      });
    });
  }

  /** Resolves when the role is open. */
  static async start<N extends RoleName>(
    role: N,
    options: RoleOptions<N>,
    settings: WorkerSettings,
  ): Promise<WorkerProcess<N>> {
    const { title } = settings;
    const child = fork(MAIN, [role, JSON.stringify(options ?? null)], {
      execArgv: process.execArgv,
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const worker = new WorkerProcess<N>(child, title);
    worker.#readyValue = await worker.#reply(READY_ID);
    return worker;
  }

  /** What the role said when it was open. */
  get ready(): OpenedRole<N>['ready'] {
    return this.#readyValue as OpenedRole<N>['ready'];
  }

  /** Runs a command of the role. Rejects with its error, and when the process ends. */
  call<C extends keyof Commands<N> & string>(
    command: C,
    ...[argument]: Commands<N>[C] extends () => unknown ? [] : [Argument<Commands<N>[C]>]
  ): Promise<Result<Commands<N>[C]>> {
    return this.#request(command, argument) as Promise<Result<Commands<N>[C]>>;
  }

  usage(): Promise<Usage> {
    return this.#request('usage', undefined) as Promise<Usage>;
  }

  startProfile(): Promise<unknown> {
    return this.#request('start-profile', undefined);
  }

  /** Writes the CPU profile since {@link startProfile}. */
  writeProfile(path: string): Promise<unknown> {
    return this.#request('write-profile', path);
  }

  /** Ends the process; by force if it does not go. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    if (this.#child.connected) this.#child.send({ id: -1, command: 'stop', argument: undefined });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  /** Ends the process as a crash does. */
  async kill(): Promise<void> {
    this.#isStopping = true;
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  #request(command: string, argument: unknown): Promise<unknown> {
    const id = this.#nextId;
    this.#nextId += 1;
    const request: WorkerRequest = { id, command, argument };
    const reply = this.#reply(id);
    if (this.#child.connected) this.#child.send(request);
    else this.#settle({ id, ok: false, error: `worker ${this.title} is gone` });
    return reply;
  }

  #reply(id: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
    });
  }

  #settle(reply: WorkerReply): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.ok) waiting?.resolve(reply.value);
    else waiting?.reject(new Error(`${this.title}: ${reply.error}`));
  }

  #fail(error: Error): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
    if (!this.#isStopping && waiting.length === 0) console.error(error.message);
  }
}
