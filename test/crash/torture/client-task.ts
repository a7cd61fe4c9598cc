/** What a client process of a torture test is told on its command line, and when it is to end. */
import { once } from 'node:events';
import { SeededSequence } from './seeded-sequence.ts';

export type Role =
  | 'sdk-writer'
  | 'sdk-pipeline'
  | 'sdk-poll-pipeline'
  | 'kafkajs-writer'
  | 'kafkajs-pipeline'
  | 'librdkafka-writer';

export interface ClientTask {
  readonly role: Role;
  /** Transactional ids are made from it: a client that is started anew has the same. */
  readonly name: string;
  readonly address: string;
  readonly partitions: number;
  readonly seed: number;
  /** The writers of its lanes begin with this one. */
  readonly firstWriter: number;
  /** Lanes with transactions. */
  readonly lanes: number;
  /** Values of a transaction, at most. */
  readonly maxValues: number;
  /** One transaction of so many is aborted by the client; 0: none. */
  readonly abortShare: number;
  /** What the clients' transactions may take, milliseconds. */
  readonly transactionTimeoutMs: number;
}

/** A client at work. */
export class ClientRun {
  readonly task: ClientTask;
  readonly random: SeededSequence;
  readonly #stop = new AbortController();

  constructor(task: ClientTask) {
    this.task = task;
    this.random = new SeededSequence(task.seed);
    // Whoever started it has had enough, or is gone.
    void once(process.stdin.resume(), 'end').then(() => this.#stop.abort());
  }

  /** Aborts when the client is to finish what it has begun, and end. */
  get stop(): AbortSignal {
    return this.#stop.signal;
  }

  get isStopped(): boolean {
    return this.#stop.signal.aborted;
  }

  /** 1 to `maxValues`. */
  size(): number {
    return 1 + this.random.integer(this.task.maxValues);
  }

  wantsAbort(): boolean {
    return this.task.abortShare > 0 && this.random.integer(this.task.abortShare) === 0;
  }
}
