/** A producer of {@link TransactionRun}: one transaction after the other, and what it does after a crash. For tests. */
import { assert, type Random } from '@naru/base';
import type { CommitCommand } from '../core/group/index.ts';
import type { ProducerIdentity, TransactionFlow } from '../core/transaction/index.ts';
import type { Command } from './commands.ts';
import { keyOf, textBatch, type ShardScenario } from './shard-scenario.ts';
import { offsetCommit, TransactionalProducer, type Asked } from './transactional-producer.ts';

const PARTITIONS = 3;

interface WorkerSurroundings {
  readonly freshProducerId: () => number;
  /** To be sent once more at any time after it is over. */
  readonly late: (command: Command, isOver: () => boolean) => void;
}

interface Written {
  readonly partition: number;
  readonly values: readonly string[];
  readonly baseSequence: number;
}

interface Attempt {
  readonly from: number;
  readonly to: number;
  readonly batches: readonly Written[];
  /** How far it is known to be; what comes next may or may not have happened. */
  stage: 'announce' | 'write' | 'keep' | 'end';
  commits: boolean;
}

export class TransactionWorker {
  readonly name: string;
  readonly #producer: TransactionalProducer;
  readonly #keepsOffsets: boolean;
  readonly #random: Random;
  readonly #surroundings: WorkerSurroundings;
  /** Numbers below it are committed. */
  #position = 0;
  #attempt: Attempt | null = null;
  /** Its init may have happened, or it is dead. */
  #isNew = true;
  readonly #sequences = new Map<number, number>();
  readonly #newestEpochs = new Map<number, number>();
  #life = 0;
  stopping = false;
  isIdle = false;
  commits = 0;
  repeatedEnds = 0;
  repeatedBatches = 0;

  constructor(
    name: string,
    flow: TransactionFlow,
    keepsOffsets: boolean,
    random: Random,
    surroundings: WorkerSurroundings,
  ) {
    this.name = name;
    this.#producer = new TransactionalProducer(name, flow);
    this.#keepsOffsets = keepsOffsets;
    this.#random = random;
    this.#surroundings = surroundings;
  }

  /** The broker is gone. The worker lives on, or is another one from now on. */
  crashed(): void {
    this.#life += 1;
    this.isIdle = false;
    // Without epochs for transactions a producer does not know which of its batches are there: it begins anew, as Kafka's do.
    if (this.#producer.flow === 1 || this.#random.float() < 0.25) this.#isNew = true;
  }

  /** Lives with the shard until the next crash. */
  live(shard: ShardScenario): Promise<void> {
    this.#life += 1;
    const life = this.#life;
    return this.#live({
      // An answer that comes after the crash is lost.
      ask: (command) =>
        new Promise((resolve, reject) => {
          const isAlive = (): boolean => this.#life === life;
          shard.ask(command).then(
            (reply) => isAlive() && resolve(reply),
            (error: unknown) => isAlive() && reject(error as Error),
          );
        }),
    });
  }

  async #live(shard: Asked): Promise<void> {
    if (this.#isNew) await this.#begin(shard);
    else if (this.#attempt !== null) await this.#goOn(shard, this.#attempt, true);
    while (!this.stopping) {
      this.#attempt = this.#plan();
      // Some die with a transaction open.
      const isLast = this.#random.float() < 0.03;
      await this.#goOn(shard, this.#attempt, false, isLast);
      if (!isLast) continue;
      this.#isNew = true;
      if (this.#random.float() < 0.5) break;
      await this.#begin(shard);
    }
    this.isIdle = true;
  }

  async storedOffset(shard: Asked): Promise<{ readonly offset: number; readonly isUnstable: boolean }> {
    const [found] = await shard.ask({ type: 'group-offsets', groupId: this.name, partitions: [keyOf(0)] });
    return { offset: found?.committed?.offset ?? 0, isUnstable: found?.isUnstable === true };
  }

  /** What is committed is what was acknowledged, or what was asked for after it. */
  checkOffset(offset: number): void {
    const attempt = this.#attempt;
    const isAsked = attempt !== null && attempt.stage === 'end' && attempt.commits && offset === attempt.to;
    assert(
      offset === this.#position || isAsked,
      `${this.name} has offset ${offset}, ${this.#position} was acknowledged`,
    );
  }

  async #begin(shard: Asked): Promise<void> {
    this.#isNew = true;
    const { producerId, producerEpoch } = await this.#producer.init(shard, this.#surroundings.freshProducerId());
    this.#noteEpoch({ producerId, producerEpoch });
    this.#sequences.clear();
    const { offset, isUnstable } = await this.storedOffset(shard);
    assert(!isUnstable, `${this.name} has offsets of an open transaction after its init`);
    this.checkOffset(offset);
    this.#position = offset;
    this.#attempt = null;
    this.#isNew = false;
  }

  #plan(): Attempt {
    const from = this.#position;
    const batches: Written[] = [];
    let to = from;
    for (let count = 1 + this.#random.integer(6); count > 0; count--) {
      const partition = this.#random.integer(PARTITIONS);
      const values = Array.from({ length: 1 + this.#random.integer(2) }, () => this.#value(to++));
      const baseSequence = this.#sequences.get(partition) ?? 0;
      this.#sequences.set(partition, baseSequence + values.length);
      batches.push({ partition, values, baseSequence });
    }
    return { from, to, batches, stage: 'announce', commits: this.#random.float() < 0.85 };
  }

  /** @param isRepeated after a crash: everything of the stage may have happened */
  async #goOn(shard: Asked, attempt: Attempt, isRepeated: boolean, staysOpen = false): Promise<void> {
    const producer = this.#producer;
    if (attempt.stage === 'announce') {
      if (producer.flow === 1) await this.#announce(shard, attempt);
      attempt.stage = 'write';
    }
    if (attempt.stage === 'write') {
      await this.#write(shard, attempt);
      attempt.stage = 'keep';
    }
    if (staysOpen) return;
    if (attempt.stage === 'keep') {
      if (this.#keepsOffsets) {
        const offsets = [{ ...offsetCommit(0, attempt.to), mayExceedEnd: true }];
        const { results } = await producer.keep(shard, this.name, [], { offsets });
        assert(results[0]?.refusal === null, `an offset was not kept: ${JSON.stringify(results)}`);
      }
      attempt.stage = 'end';
    }
    await this.#end(shard, attempt);
    if (isRepeated) this.repeatedEnds += 1;
  }

  async #announce(shard: Asked, { batches }: Attempt): Promise<void> {
    await this.#producer.add(shard, ...batches.map(({ partition }) => partition));
    if (!this.#keepsOffsets) return;
    const command = { ...this.#producer.ref, type: 'add-group', groupId: this.name } as const;
    await shard.ask({ type: 'transaction', command });
  }

  async #write(shard: Asked, { batches }: Attempt): Promise<void> {
    const { identity, flow } = this.#producer;
    const replies = batches.map(({ partition, values, baseSequence }) => {
      const batch = (): Uint8Array => textBatch(values, { ...identity, baseSequence, isTransactional: true });
      const command = { type: 'append', partition: keyOf(partition), flow } as const;
      this.#surroundings.late({ ...command, batch: batch() }, this.#isOver(identity));
      return shard.ask({ ...command, batch: batch() });
    });
    for (const { duplicate } of await Promise.all(replies)) if (duplicate) this.repeatedBatches += 1;
  }

  async #end(shard: Asked, attempt: Attempt): Promise<void> {
    const producer = this.#producer;
    const { ref: transaction, identity, flow } = producer;
    const { commits: commit } = attempt;
    const groupCommit = commit && !this.#keepsOffsets ? this.#commitOf(attempt) : null;
    const freshProducerId = this.#surroundings.freshProducerId();
    for (const kind of [true, false]) {
      const command = { type: 'end-transaction', transaction, flow, commit: kind, freshProducerId: 1 } as const;
      this.#surroundings.late({ ...command, groupCommit: kind ? groupCommit : null }, this.#isOver(identity));
    }
    const { next, results } = await producer.end(shard, commit, groupCommit, freshProducerId);
    assert(next !== null, `${this.name} could not commit: ${JSON.stringify(results)}`);
    if (flow === 2) {
      this.#noteEpoch(next);
      this.#sequences.clear();
    }
    if (commit) {
      this.#position = attempt.to;
      this.commits += 1;
    }
    this.#attempt = null;
  }

  #commitOf({ to }: Attempt): CommitCommand {
    const offsets = [{ ...offsetCommit(0, to), mayExceedEnd: true }];
    return { type: 'commit', groupId: this.name, memberId: '', memberEpoch: -1, offsets };
  }

  /** Whether what was sent with the identity is of an earlier epoch, so that it must not do anything. */
  #isOver({ producerId, producerEpoch }: ProducerIdentity): () => boolean {
    return () => producerEpoch < (this.#newestEpochs.get(producerId) ?? 0);
  }

  #noteEpoch({ producerId, producerEpoch }: ProducerIdentity): void {
    const newest = this.#newestEpochs.get(producerId) ?? -1;
    assert(producerEpoch > newest, `${this.name} was given epoch ${producerEpoch} after ${newest}`);
    this.#newestEpochs.set(producerId, producerEpoch);
  }

  #value(number: number): string {
    // Of different sizes, so that files end at different places.
    return `${this.name}.${number}#${'x'.repeat(this.#random.integer(100))}`;
  }
}
