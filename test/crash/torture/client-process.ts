/** A client process of a torture test, seen from the test: started, killed, and what it tells given to the history checker. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { HistoryChecker } from '@naru/testkit';
import type { ClientEvent } from './client-log.ts';
import type { ClientTask } from './client-task.ts';
import { TOPICS, valueOf } from './values.ts';

const CLIENT = fileURLToPath(new URL('client.ts', import.meta.url));
const KEPT_OUTPUT_CHARACTERS = 8_000;

export interface ClientListeners {
  readonly history: HistoryChecker;
  /** A transaction of it is over. */
  readonly ended: (outcome: 'committed' | 'aborted' | 'left') => void;
  readonly failed: (text: string) => void;
  readonly noted: (text: string) => void;
  /** Something was told. */
  readonly changed: () => void;
}

export interface ClientProcessOptions extends ClientListeners {
  readonly task: Omit<ClientTask, 'firstWriter'>;
  /** Keeps compiled code. */
  readonly compileCache: string;
}

export class ClientProcess {
  readonly name: string;
  readonly #options: ClientProcessOptions;
  readonly #child: ChildProcess;
  readonly #firstWriter: number;
  readonly #ended: Promise<void>;
  #isReady = false;
  #isKilled = false;
  #wasEnded = false;
  #isOver = false;
  #output = '';
  #last: ClientEvent | null = null;
  #exit: number | NodeJS.Signals | null = null;

  constructor(options: ClientProcessOptions) {
    this.#options = options;
    const { history, task, compileCache } = options;
    this.name = task.name;
    const writers = Array.from({ length: task.lanes + 1 }, (_, lane) => history.writer(`${task.name}/${lane}`));
    this.#firstWriter = writers[0] as number;
    const full: ClientTask = { ...task, firstWriter: this.#firstWriter };
    const args = ['--disable-warning=ExperimentalWarning', CLIENT, JSON.stringify(full)];
    const env = { ...process.env, NODE_COMPILE_CACHE: compileCache };
    this.#child = spawn(process.execPath, args, { stdio: 'pipe', env });
    this.#child.stdin?.on('error', () => {});
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#output = (this.#output + text).slice(-KEPT_OUTPUT_CHARACTERS);
    });
    const lines = createInterface({ input: this.#child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => this.#told(line));
    this.#ended = this.#untilEnded(once(this.#child, 'close'), once(lines, 'close'));
  }

  get isReady(): boolean {
    return this.#isReady;
  }

  /** It is gone, and everything that it has told was heard. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether somebody has ended it, or is about to. */
  get wasEnded(): boolean {
    return this.#wasEnded;
  }

  /** What it was heard to say last, for a run that did not end. */
  describe(): string {
    const { name } = this;
    const state = { wasEnded: this.#wasEnded, isOver: this.#isOver, exit: this.#exit };
    return `${name}: ${JSON.stringify(state)}, last ${JSON.stringify(this.#last)}, stderr ${this.#output}`;
  }

  /** SIGKILL. Resolves when everything that it has told was heard. */
  async kill(): Promise<void> {
    this.#isKilled = true;
    this.#wasEnded = true;
    this.#child.kill('SIGKILL');
    await this.#ended;
  }

  /** SIGSTOP: to others it is as gone as a machine that hangs, and comes back with {@link thaw}. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child.kill('SIGCONT');
  }

  /** Lets it finish what it has begun. */
  async stop(): Promise<void> {
    this.#wasEnded = true;
    this.#child.stdin?.end();
    await this.#ended;
  }

  async #untilEnded(closed: Promise<unknown[]>, heard: Promise<unknown>): Promise<void> {
    const [code, signal] = await closed;
    await heard;
    this.#isOver = true;
    this.#exit = (code ?? signal) as number | NodeJS.Signals;
    if (!this.#isKilled && this.#exit !== 0) {
      this.#options.failed(`${this.name} ended with ${this.#exit}: ${this.#output}`);
    }
    this.#options.changed();
  }

  #told(line: string): void {
    // SIGKILL may cut the last one.
    if (this.#isKilled && !line.endsWith(']')) return;
    const event = JSON.parse(line) as ClientEvent;
    if (event[0] !== 'acked') this.#last = event;
    this.#heard(event);
    this.#options.changed();
  }

  #heard(event: ClientEvent): void {
    const { history, ended, failed } = this.#options;
    switch (event[0]) {
      case 'ready':
        this.#isReady = true;
        return;
      case 'begin':
        history.begin(this.#firstWriter + event[1]);
        history.sending(this.#firstWriter + event[1], event[2]);
        return;
      case 'send':
        history.sending(this.#firstWriter + event[1], event[2]);
        return;
      case 'acked':
        for (const [counter, topic, partition, offset] of event[2]) {
          const value = valueOf(this.#firstWriter + event[1], counter);
          history.acknowledged(value, `${TOPICS[topic]}/${partition}`, offset);
        }
        return;
      case 'committing':
        history.committing(this.#firstWriter + event[1], event[2]);
        return;
      case 'committed':
      case 'aborted':
      case 'left':
        history[event[0]](this.#firstWriter + event[1]);
        ended(event[0]);
        return;
      case 'failure':
        failed(`${this.name}: ${event[1]}`);
        return;
      case 'note':
        this.#options.noted(`${this.name}: ${event[1]}`);
    }
  }
}
