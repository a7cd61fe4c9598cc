/**
 * What transactional producers do to a shard that crashes again and again, and what they were promised. A test brings the shards,
 * one after each crash, and asks whether the promises were kept.
 *
 * Every worker numbers what it writes, and commits with each transaction, as the offset of a group of its own, how far it is. So
 * the numbers that are committed are those below the offset, each once, at any time. A worker survives a crash and repeats what
 * was not answered, or begins anew and reads where it is, or is dead with its transaction open. What it sent in earlier epochs
 * arrives again at any time.
 */
import { assert, type Random } from '@naru/base';
import { decodeControlMarker, readBatchHeader } from '@naru/protocol/batch';
import type { Command } from './commands.ts';
import { keyOf, textsOf, type ShardScenario } from './shard-scenario.ts';
import { committed, committedFrom } from './transactional-producer.ts';
import { TransactionWorker } from './transaction-worker.ts';

export const PARTITIONS = 3;
const WORKERS = 4;
const KEPT_LATE = 40;

export class TransactionRun {
  readonly #random: Random;
  readonly #workers: TransactionWorker[];
  /** What readers of committed events have seen: `partition/offset:value`. */
  readonly #seen = new Set<string>();
  /** Where readers go on, by partition. */
  readonly #positions = Array.from({ length: PARTITIONS }, () => 0);
  readonly #late: { readonly command: Command; readonly isOver: () => boolean }[] = [];
  #shard: ShardScenario | null = null;
  #nextProducerId = 1_000;
  /** What went wrong beside the crash. */
  failure: unknown = null;
  lateCommands = 0;
  /** Events that readers got. */
  reads = 0;

  constructor(random: Random) {
    this.#random = random;
    this.#workers = Array.from({ length: WORKERS }, (_, index) => {
      // Kafka's first flow, its second, and commits with the end.
      const flow = index === 0 ? 1 : 2;
      return new TransactionWorker(`w${index}`, flow, index < 2, random, {
        freshProducerId: () => this.#nextProducerId++,
        late: (command, isOver) => {
          this.#late.push({ command, isOver });
          if (this.#late.length > KEPT_LATE) this.#late.shift();
        },
      });
    });
  }

  get commits(): number {
    return this.#sum(({ commits }) => commits);
  }

  get repeatedEnds(): number {
    return this.#sum(({ repeatedEnds }) => repeatedEnds);
  }

  get repeatedBatches(): number {
    return this.#sum(({ repeatedBatches }) => repeatedBatches);
  }

  /** Goes on with a shard that has just started; answers of the one before do not count any more. */
  async resume(shard: ShardScenario): Promise<void> {
    this.#shard = shard;
    for (const worker of this.#workers) worker.crashed();
    await this.check();
    for (const worker of this.#workers) this.#go(worker, shard);
  }

  /** One random thing. */
  step(): void {
    const shard = this.#shard;
    assert(shard !== null, 'a shard was given');
    if (this.#random.float() < 0.3) this.#read(shard);
    const late = this.#late[this.#random.integer(Math.max(1, this.#late.length))];
    if (late === undefined || !late.isOver() || this.#random.float() < 0.5) return;
    this.lateCommands += 1;
    // Whatever is said to it, it must change nothing.
    shard.submit(structuredClone(late.command)).catch(() => {});
  }

  /** No new transactions are begun from now on. */
  stop(): void {
    for (const worker of this.#workers) worker.stopping = true;
  }

  get isQuiet(): boolean {
    return this.#workers.every(({ isIdle }) => isIdle);
  }

  /** What is committed, from the log itself, is what the offsets say, what was promised, and what readers have seen. */
  async check(): Promise<void> {
    const shard = this.#shard as ShardScenario;
    const found = new Map<string, number[]>();
    const all = new Set<string>();
    for (let partition = 0; partition < PARTITIONS; partition++) {
      for (const entry of await committedInLog(shard, partition)) {
        all.add(`${partition}/${entry}`);
        const [name, number] = entry.slice(entry.indexOf(':') + 1).split('.') as [string, string];
        found.set(name, [...(found.get(name) ?? []), Number(number)]);
      }
    }
    for (const worker of this.#workers) {
      const numbers = (found.get(worker.name) ?? []).sort((a, b) => a - b);
      const { offset } = await worker.storedOffset(shard);
      const expected = Array.from({ length: offset }, (_, index) => index);
      assert(
        String(numbers) === String(expected),
        `${worker.name} has committed offset ${offset}, and ${numbers.join()} are committed`,
      );
      worker.checkOffset(offset);
    }
    for (const entry of this.#seen) assert(all.has(entry), `${entry} was seen as committed, and is not any more`);
  }

  /** Nothing is open any more, nothing hidden: to be called when all times are over. */
  async checkEnded(): Promise<void> {
    const shard = this.#shard as ShardScenario;
    const listed = await shard.ask({ type: 'list-transactions' });
    for (const { transactionalId, status } of listed) assert(status !== 'ongoing', `${transactionalId} is still open`);
    const partitions = Array.from({ length: PARTITIONS }, (_, index) => keyOf(index));
    for (const status of await shard.ask({ type: 'describe-partitions', partitions })) {
      const { partition, lastStableOffset, highWatermark } = status;
      assert(lastStableOffset === highWatermark, `${partition} hangs at ${lastStableOffset} of ${highWatermark}`);
    }
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const shown = (await committed(shard, partition)).map(withoutFiller);
      const stored = await committedInLog(shard, partition);
      assert(
        String(shown) === String(stored),
        `partition ${partition} shows ${shown.join()}, and has ${stored.join()}`,
      );
    }
  }

  #go(worker: TransactionWorker, shard: ShardScenario): void {
    worker.live(shard).catch((error: unknown) => {
      if (this.#shard === shard && shard.failed === null) this.failure ??= error;
    });
  }

  #read(shard: ShardScenario): void {
    const partition = this.#random.integer(PARTITIONS);
    committedFrom(shard, partition, this.#positions[partition] as number).then(
      ({ found, nextOffset }) => {
        if (this.#shard !== shard) return;
        this.#positions[partition] = nextOffset;
        this.reads += found.length;
        for (const entry of found) this.#seen.add(`${partition}/${withoutFiller(entry)}`);
      },
      () => {},
    );
  }

  #sum(of: (worker: TransactionWorker) => number): number {
    return this.#workers.reduce((sum, worker) => sum + of(worker), 0);
  }
}

/** What the log itself says is committed, in its order, whatever the broker makes of it. */
async function committedInLog(shard: ShardScenario, partition: number): Promise<string[]> {
  const open = new Map<number, string[]>();
  const found: string[] = [];
  for (let offset = 0; ;) {
    const wanted = { partition: keyOf(partition), offset, maxBytes: 1_000_000 };
    const { partitions } = await shard.fetch({}, { partitions: [wanted], view: 'all' });
    const read = partitions[0];
    if (read === undefined || read.nextOffset === offset) break;
    for (const batch of read.batches) {
      const { isControl, producerId } = readBatchHeader(batch);
      if (!isControl) {
        open.set(producerId, [...(open.get(producerId) ?? []), ...textsOf([batch]).map(withoutFiller)]);
        continue;
      }
      if (decodeControlMarker(batch)?.type === 'commit') found.push(...(open.get(producerId) ?? []));
      open.delete(producerId);
    }
    offset = read.nextOffset;
  }
  return found.sort((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10));
}

function withoutFiller(entry: string): string {
  return entry.split('#', 1)[0] as string;
}
