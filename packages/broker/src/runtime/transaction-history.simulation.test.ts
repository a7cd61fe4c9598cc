/**
 * The history checker on transactions of a shard, over crashes: it finds nothing wrong with them, and names what is wrong when a bug
 * is planted.
 *
 * Writers repeat after a crash what was not answered, or die with their transaction open; ends of the past arrive again.
 */
import { HistoryChecker, SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import type { HistoryReport, ViolationKind } from '@naru/testkit';
import { toError } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { readBatchHeader } from '@naru/protocol/batch';
import { describe, expect, it } from 'vitest';
import { openFileLogStore } from '../log/file/file-log-store.ts';
import { type AppendReply, type Command, isRefusal, type ShardClient } from './commands.ts';
import { plantedClient, plantedStore, type PlantedTransactionBug } from './planted-transaction-bugs.ts';
import { GROUP_LOG, ORDERS, ShardScenario, TRANSACTION_LOG, keyOf, textBatch, textsOf } from './shard-scenario.ts';
import type { EndTransactionReply } from './transaction-commands.ts';
import { TransactionalProducer } from './transactional-producer.ts';

const PARTITIONS = 3;
const WORKERS = 3;
const CRASHES = 3;
const SEEDS = process.env['NARU_TEST_LONG'] === '1' ? 1_000 : 10;
const BUG_SEEDS = 100;
/** Beyond the time-out of every transaction. */
const ALL_TIMES_MS = 61_000;
const MAX_TURNS = 5_000;
/** So small that files roll and checkpoints are taken between two crashes. */
const LIMITS = {
  journalFileBytes: 48 * 1024,
  journalBytes: 4 * 48 * 1024,
  maxAppendBytes: 10 * 1024,
  mergedFrameBytes: 6 * 1024,
  checkpointBytes: 64 * 1024,
  unwrittenBytes: 16 * 1024,
  cacheBytes: 16 * 1024,
  segmentBytes: 8 * 1024,
  segmentAgeMs: 2_000,
};

/** Committed events are those below the high watermark, whatever is open. */
type Bug = PlantedTransactionBug | 'no-last-stable-offset';

type Todo = {
  readonly kind: 'init' | 'batch' | 'commit' | 'abort';
  readonly command: Command;
  readonly values: number[];
};

class Surroundings {
  readonly history = new HistoryChecker(['tail']);
  readonly random: SeededRandom;
  readonly ends: Command[] = [];
  nextProducerId = 1_000;
  isStopping = false;

  constructor(random: SeededRandom) {
    this.random = random;
  }
}

class HistoryWriter {
  readonly #around: Surroundings;
  readonly #name: string;
  #producer: TransactionalProducer;
  #writer = -1;
  #isReady = false;
  /** Not answered yet, over crashes. */
  #todo: Todo | null = null;
  #batches: number[][] = [];
  #commits: boolean | null = null;
  #life = 0;
  isIdle = false;

  constructor(name: string, around: Surroundings) {
    this.#name = name;
    this.#around = around;
    this.#producer = new TransactionalProducer(name);
    this.#die();
  }

  crashed(): void {
    this.#life += 1;
    if (this.#around.random.chance(0.6)) this.#die();
  }

  async live(shard: ShardScenario): Promise<void> {
    this.isIdle = false;
    const life = (this.#life += 1);
    while (!this.#around.isStopping || this.#todo !== null || this.#commits !== null) {
      // The disk may answer at once, and others are to have their turn.
      await immediate();
      if (this.#life !== life) return;
      const todo = (this.#todo ??= this.#next());
      const reply = await shard.ask(todo.command).catch((error: unknown) => error);
      if (this.#around.random.chance(0.5)) await immediate();
      // An answer that comes after the crash is lost.
      if (this.#life !== life || shard.failed !== null) return;
      this.#todo = null;
      if (reply instanceof Error) this.#refused(todo, reply);
      else this.#answered(todo, reply);
    }
    this.isIdle = true;
  }

  /** Another process takes its place: nobody knows what becomes of what it has begun. */
  #die(): void {
    this.#writer = this.#around.history.writer(this.#name);
    this.#isReady = false;
    this.#todo = null;
    this.#batches = [];
    this.#commits = null;
  }

  #next(): Todo {
    const { history, random, ends } = this.#around;
    const { transactionalId, ref: transaction } = this.#producer;
    const freshProducerId = this.#around.nextProducerId++;
    if (!this.#isReady) {
      const init = { type: 'init', transactionalId, timeoutMs: 0, expected: null, freshProducerId } as const;
      return { kind: 'init', command: { type: 'transaction', command: init }, values: [] };
    }
    if (this.#commits === null) {
      this.#commits = random.chance(0.8);
      history.begin(this.#writer);
      this.#batches = Array.from({ length: PARTITIONS }, () => history.sending(this.#writer, 1 + random.integer(3)));
    }
    const values = this.#batches.pop();
    if (values !== undefined) {
      return { kind: 'batch', command: this.#producer.batch(this.#batches.length, values.map(String)), values };
    }
    const commit = this.#commits;
    const command = {
      type: 'end-transaction',
      transaction,
      flow: 2,
      commit,
      freshProducerId,
      groupCommit: null,
    } as const;
    ends.push(command);
    if (commit) history.committing(this.#writer);
    else history.aborted(this.#writer);
    return { kind: commit ? 'commit' : 'abort', command, values: [] };
  }

  #answered({ kind, values }: Todo, reply: unknown): void {
    const { history } = this.#around;
    if (kind === 'init') this.#producer.goOn(reply as TransactionalProducer['identity']);
    if (kind === 'init') this.#isReady = true;
    if (kind === 'batch') {
      const { baseOffset } = reply as AppendReply;
      // The batches are taken from the last one on.
      const partition = `orders/${this.#batches.length}`;
      for (const [index, value] of values.entries()) history.acknowledged(value, partition, baseOffset + index);
    }
    if (kind !== 'commit' && kind !== 'abort') return;
    const { next } = reply as EndTransactionReply;
    if (next !== null) this.#producer.goOn(next);
    if (kind === 'commit') history.committed(this.#writer);
    this.#commits = null;
  }

  /** The transaction is not what it was: it begins anew. */
  #refused({ kind }: Todo, error: Error): void {
    if (!isNaruError(error)) throw error;
    const { history } = this.#around;
    if (kind === 'batch') history.aborted(this.#writer);
    // It may have been committed before the crash.
    if (kind === 'commit') history.left(this.#writer);
    this.#batches = [];
    this.#commits = null;
    this.#isReady = false;
  }
}

class Tail {
  readonly #history: HistoryChecker;
  readonly #positions = Array.from({ length: PARTITIONS }, () => 0);

  constructor(history: HistoryChecker) {
    this.#history = history;
  }

  async read(shard: ShardScenario, partition: number): Promise<void> {
    for (;;) {
      const offset = this.#positions[partition] as number;
      const wanted = { partition: keyOf(partition), offset, maxBytes: 1_000_000 };
      const { partitions } = await shard.fetch({}, { partitions: [wanted], view: 'committed' });
      const [read] = partitions;
      if (read === undefined || read.nextOffset <= (this.#positions[partition] as number)) return;
      this.#positions[partition] = read.nextOffset;
      const events = textsOf(read.batches).map((text) => {
        const [at, value] = text.split(':');
        return { offset: Number(at), value: Number(value) };
      });
      this.#history.polled(
        'tail',
        'tail',
        `orders/${partition}`,
        events.filter((event) => event.offset >= offset),
      );
    }
  }
}

/** The whole log without markers, for who asks for what is committed. */
function withoutStableOffset(bug: Bug | null, shard: ShardClient): ShardClient {
  if (bug !== 'no-last-stable-offset') return shard;
  const client = {
    submit: async (command: Command): Promise<unknown> => {
      if (command.type !== 'fetch') return shard.submit(command);
      const reply = await shard.submit({ ...command, view: 'all' });
      if (isRefusal(reply)) return reply;
      const partitions = reply.partitions.map((partition) => {
        return { ...partition, batches: partition.batches.filter((batch) => !readBatchHeader(batch).isControl) };
      });
      return { ...reply, partitions };
    },
  };
  return client as ShardClient;
}

async function run(seed: number, bug: Bug | null): Promise<HistoryReport> {
  const random = new SeededRandom(seed);
  const around = new Surroundings(random.fork());
  const writers = Array.from({ length: WORKERS }, (_, index) => new HistoryWriter(`w${index}`, around));
  const tail = new Tail(around.history);
  let disk = new SimDisk(random.fork());
  for (let crash = 0; crash <= CRASHES; crash++) {
    const isLast = crash === CRASHES;
    const clock = new VirtualClock();
    const store = openFileLogStore({
      disk,
      path: '/data',
      clock,
      timers: clock,
      random: random.fork(),
      limits: LIMITS,
    });
    const ofShard = bug === 'no-last-stable-offset' ? null : bug;
    const starting = ShardScenario.start({
      store: plantedStore(ofShard, store),
      time: clock,
      leaderEpoch: crash,
      topics: [GROUP_LOG, TRANSACTION_LOG, ORDERS],
      through: (client) => withoutStableOffset(bug, plantedClient(ofShard, client)),
    });
    const shard = await through(starting, clock);
    if (!isLast) disk.cutAfter(50 + random.integer(300));
    const failures: Error[] = [];
    const go = (promise: Promise<void>): void =>
      void promise.catch((error: unknown) => disk.isCut || failures.push(toError(error)));
    for (const writer of writers) go(writer.live(shard));
    for (let turns = 0; isLast ? turns < 300 : !disk.isCut; turns++) {
      if (failures[0] !== undefined) throw failures[0];
      if (turns > MAX_TURNS) throw new Error('nothing happens any more');
      if (random.chance(0.3)) go(tail.read(shard, random.integer(PARTITIONS)));
      const late = random.pick([undefined, ...around.ends]);
      if (late !== undefined && random.chance(0.2)) shard.submit(structuredClone(late)).catch(() => {});
      await turn(clock, 1);
    }
    if (isLast) await finish(around, writers, tail, shard, clock);
    else {
      for (const writer of writers) writer.crashed();
      await turn(clock, 1);
      disk = random.chance(0.7) ? disk.powerCut(random.fork()) : disk.processKill(random.fork());
    }
  }
  return around.history.check();
}

/** Everybody ends what was begun, and everything is read, past what the dead have left open. */
async function finish(
  around: Surroundings,
  writers: readonly HistoryWriter[],
  tail: Tail,
  shard: ShardScenario,
  clock: VirtualClock,
): Promise<void> {
  around.isStopping = true;
  for (let turns = 0; !writers.every(({ isIdle }) => isIdle); turns++) {
    if (turns > MAX_TURNS) throw new Error('a writer does not end');
    await turn(clock, 1);
  }
  await turn(clock, ALL_TIMES_MS);
  const last = around.history.writer('last');
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const [value] = around.history.sending(last) as [number];
    const command = { type: 'append', partition: keyOf(partition), batch: textBatch([String(value)]) } as const;
    const { baseOffset } = await through(shard.ask(command), clock);
    around.history.acknowledged(value, `orders/${partition}`, baseOffset);
    await through(tail.read(shard, partition), clock);
  }
  await through(shard.shard.close(), clock);
}

async function through<T>(promise: Promise<T>, clock: VirtualClock): Promise<T> {
  let isDone = false;
  const done = promise.finally(() => (isDone = true));
  done.catch(() => {});
  for (let turns = 0; !isDone && turns < MAX_TURNS; turns++) await turn(clock, 1);
  if (!isDone) throw new Error('nothing happens any more');
  return done;
}

async function turn(clock: VirtualClock, advanceMs: number): Promise<void> {
  await immediate();
  clock.advance(advanceMs);
}

function immediate(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

describe('the history of transactions over crashes', () => {
  it('is as it should be', async () => {
    let committed = 0;
    for (let seed = 1; seed <= SEEDS; seed++) {
      const report = await run(seed, null);
      expect(report.violations, `seed ${seed}`).toEqual([]);
      committed += report.transactions.committed;
    }
    expect(committed).toBeGreaterThan(SEEDS * 20);
  });

  it.each<[Bug, readonly ViolationKind[]]>([
    ['end-before-durable', ['lost-write']],
    ['end-in-parts', ['torn-transaction']],
    ['late-end-taken', ['precommitted-read']],
    ['sequences-lost', ['duplicate']],
    ['no-last-stable-offset', ['precommitted-read', 'G1a']],
  ])('has what a planted bug does to it: %s is %j', async (bug, kinds) => {
    const found = new Set<string>();
    for (let seed = 1; seed <= BUG_SEEDS && !kinds.every((kind) => found.has(kind)); seed++) {
      // A shard that finds out by itself is no less right.
      const report = await run(seed, bug).catch(() => null);
      for (const kind of Object.keys(report?.counts ?? {})) found.add(kind);
    }
    expect([...found]).toEqual(expect.arrayContaining([...kinds]));
  });
});
