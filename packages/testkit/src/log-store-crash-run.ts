/**
 * Runs a random workload against a log store on a SimDisk, crashes it at random points, also while it recovers, and compares
 * what is recovered with a {@link LogModel}. Everything derives from the seed.
 */
import type { Clock, Disk, PartitionKey, Random, Timers, TopicId } from '@naru/base';
import { partitionKey, topicIdFromBytes } from '@naru/base';
import type { LogStore, PartitionInfo, RecoveryVisitor, Snapshot, StoredBatch } from '@naru/broker';
import { LogModel } from './log-model.ts';
import type { ModelOperation } from './log-model.ts';
import { performOperation, randomBatches } from './log-operations.ts';
import { probeDifference } from './log-probe.ts';
import { LogRewrites } from './log-rewrites.ts';
import { SeededRandom } from './seeded-random.ts';
import { SimDisk } from './sim-disk.ts';
import { VirtualClock } from './virtual-clock.ts';

export interface CrashingStoreOptions {
  readonly seed: number;
  readonly openStore: (surroundings: { disk: Disk; clock: Clock; timers: Timers; random: Random }) => LogStore;
  /** False: the disk acknowledges synced writes without keeping them; the run has to find that. Default true. */
  readonly honoursDsync?: boolean | undefined;
  /** A power cut may take back what was acknowledged since the last recovery, the newest first. Default false. */
  readonly mayLoseInPowerCut?: boolean | undefined;
  /** How often a step takes a checkpoint that is not due, 0 to 1. Default 0.01. */
  readonly checkpointChance?: number | undefined;
  /** How often a step begins to compact a partition, 0 to 1. Default 0.03. */
  readonly rewriteChance?: number | undefined;
}

export interface CrashRunOptions extends CrashingStoreOptions {
  /** Crashes of the run. */
  readonly crashes: number;
  /** A crash comes within one of these numbers of disk operations, unless the work of a round ends before. */
  readonly crashWithin: readonly number[];
}

/** What happens between opening the store and leaving it. */
export interface RoundOptions {
  /** Default 120. */
  readonly steps?: number | undefined;
  /** Disk operations that change something (SimDisk.mutations) after which no step is taken any more. Default: no limit. */
  readonly maxMutations?: number | undefined;
  /** Whether the store is closed at the end; default: a coin decides. */
  readonly closes?: boolean | undefined;
}

/** What a run did, to see that it did something. */
export interface CrashRunReport {
  submitted: number;
  acknowledged: number;
  checkpoints: number;
  recoveries: number;
  crashesInRecovery: number;
  powerCuts: number;
  closes: number;
  /** Compactions that came to their end. */
  rewrites: number;
  /** Acknowledged and lost, where that is allowed. */
  takenBack: number;
}

const MAX_PARTITIONS = 5;
/** Operations of one round. */
const MAX_STEPS = 120;
const READ_BYTES = 700;
/** Turns of the event loop that a pause lets pass at most. */
const MAX_PAUSE = 3;

export async function crashRun(options: CrashRunOptions): Promise<CrashRunReport> {
  const run = new CrashingStore(options);
  const random = new SeededRandom(options.seed).fork();
  try {
    for (let crash = 0; crash < options.crashes; crash++) {
      run.disk.cutAfter(1 + random.integer(random.pick(options.crashWithin)));
      await run.round();
      run.crash();
    }
    await run.round();
  } catch (error) {
    throw new Error(`seed ${options.seed}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  // A copy: the last store, which nobody crashes, may still acknowledge.
  return { ...run.report };
}

/** A store, opened on one disk after the other, with the random work that it is given and what is known of it. */
export class CrashingStore {
  readonly report: CrashRunReport = {
    submitted: 0,
    acknowledged: 0,
    checkpoints: 0,
    recoveries: 0,
    crashesInRecovery: 0,
    powerCuts: 0,
    closes: 0,
    rewrites: 0,
    takenBack: 0,
  };
  readonly #options: CrashingStoreOptions;
  readonly #random: SeededRandom;
  #disk: SimDisk;
  /** State after all of them: what the next operation is made for. */
  #latest = new LogModel();
  /** Submitted since the last successful recovery, and how many of them are acknowledged. */
  #operations: ModelOperation[] = [];
  #acknowledged = 0;
  /** Operations that earlier recoveries kept; snapshots carry how many operations, from the first on, they cover. */
  #history: ModelOperation[] = [];
  /** Operations submitted, by type. */
  readonly submitted = new Map<ModelOperation['type'], number>();
  /** Some may be created again. */
  readonly #deleted: PartitionKey[] = [];
  readonly #rewrites = new LogRewrites();
  /** Since the last recovery that succeeded. */
  #hadPowerCut = false;
  #failure: Error | null = null;
  #mark = 0;

  constructor(options: CrashingStoreOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    this.#disk = this.#prepared(new SimDisk(this.#random.fork()));
  }

  get disk(): SimDisk {
    return this.#disk;
  }

  #prepared(disk: SimDisk): SimDisk {
    disk.honoursDsync = this.#options.honoursDsync ?? true;
    disk.slowness = this.#random.pick([0, 0.3, 0.9]);
    return disk;
  }

  /** Ends the store's process, with the power or alone: the next round finds what is left. */
  crash(isPowerCut = this.#random.chance(0.7)): void {
    const random = this.#random.fork();
    this.#rewrites.crashed();
    if (isPowerCut) {
      this.report.powerCuts += 1;
      this.#hadPowerCut = true;
    }
    this.#disk = this.#prepared(isPowerCut ? this.#disk.powerCut(random) : this.#disk.processKill(random));
  }

  /** Recovers, checks, and works until the disk is cut, or for a while when it is not going to be. */
  async round({ steps = MAX_STEPS, maxMutations = Infinity, closes }: RoundOptions = {}): Promise<void> {
    const disk = this.#disk;
    const clock = new VirtualClock();
    const store = this.#options.openStore({ disk, clock, timers: clock, random: this.#random.fork() });
    const visitor = new HistoryVisitor();
    const recovery = this.#guard(store.recover(visitor));
    if (!(await this.#until(recovery, clock))) {
      this.report.crashesInRecovery += 1;
      return;
    }
    this.report.recoveries += 1;
    if (!(await this.#until(this.#guard(this.#check(store, visitor)), clock))) return;
    for (let step = 0; step < steps && disk.mutations < maxMutations && !disk.isCut; step++) {
      this.#step(store, clock);
      if (this.#random.chance(0.6)) await this.#pause();
      if (this.#random.chance(0.05)) await this.#until(this.#guard(this.#checkRunning(store)), clock);
      this.#throwFailure();
    }
    if (disk.isCut || !(closes ?? this.#random.chance(0.5))) return;
    const closed = store.close(this.#random.chance(0.7) ? this.#snapshot() : undefined);
    if (await this.#until(this.#guard(closed), clock)) this.report.closes += 1;
  }

  /** Lets time pass until `work` is done (true) or the disk is cut (false). */
  async #until(work: Promise<void>, clock: VirtualClock): Promise<boolean> {
    const progress = { done: false };
    void work.then(() => {
      progress.done = true;
    });
    while (!progress.done && !this.#disk.isCut) {
      clock.advance(5);
      await this.#pause();
      this.#throwFailure();
    }
    return progress.done;
  }

  #pause(): Promise<void> {
    return pause(1 + this.#random.integer(MAX_PAUSE));
  }

  /** A failure fails the run; a promise that never settles belongs to a disk that was cut. */
  #guard(work: Promise<void>): Promise<void> {
    return work.catch((error: unknown) => {
      this.#failure ??= error instanceof Error ? error : new Error(String(error));
    });
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure;
  }

  async #check(store: LogStore, visitor: HistoryVisitor): Promise<void> {
    const disk = this.#disk;
    const count = visitor.snapshotCount;
    const all = [...this.#history, ...this.#operations];
    let model = new LogModel();
    for (const operation of all.slice(0, count)) model = model.with(operation);
    const atSnapshot = model.differenceFromInfos(visitor.infos);
    if (atSnapshot !== null) throw new Error(`the state at the snapshot is wrong: ${atSnapshot}`);
    let kept = count;
    for (let told = 0; told < visitor.events.length; kept++) {
      const operation = all[kept];
      if (operation === undefined)
        throw new Error(`recovery tells of ${visitor.events[told]}, which was never submitted`);
      for (const expected of eventsOf(operation)) {
        const event = visitor.events[told++];
        if (event !== expected) throw new Error(`recovery tells of ${event} instead of ${expected}`);
      }
      model = model.with(operation);
    }
    const mayLose = this.#options.mayLoseInPowerCut === true && this.#hadPowerCut;
    const lost = this.#history.length + (mayLose ? 0 : this.#acknowledged) - kept;
    this.report.takenBack += Math.max(0, this.#history.length + this.#acknowledged - kept);
    if (lost > 0) throw new Error(`${lost} acknowledged operations are lost`);
    const difference = await model.differenceFromStore(store, READ_BYTES, this.#rewrites.forms(store));
    if (difference !== null) throw new Error(difference);
    const probed = await probeDifference(store, this.#random.fork(), READ_BYTES);
    if (probed !== null) throw new Error(probed);
    if (disk.isCut) return;
    this.#latest = model;
    this.#hadPowerCut = false;
    this.#history = all.slice(0, kept);
    this.#operations = [];
    this.#acknowledged = 0;
  }

  /** With nothing pending, what is visible is what was submitted. */
  async #checkRunning(store: LogStore): Promise<void> {
    const expected = this.#latest;
    const disk = this.#disk;
    // What was submitted while there was no room waits for a checkpoint.
    if (store.capacity().state === 'busy') void this.#guard(store.checkpoint(this.#snapshot()));
    while (this.#acknowledged < this.#operations.length && !disk.isCut) await pause(1);
    if (disk.isCut) return;
    const difference = await expected.differenceFromStore(store, READ_BYTES, this.#rewrites.forms(store));
    if (difference !== null) throw new Error(`while running: ${difference}`);
  }

  #snapshot(): Snapshot {
    const count = this.#history.length + this.#operations.length;
    return { version: 1, data: new TextEncoder().encode(String(count)) };
  }

  #step(store: LogStore, clock: VirtualClock): void {
    if (this.#random.chance(0.3)) clock.advance(this.#random.integer(15));
    const isDue = store.checkpointDue() && this.#random.chance(0.3);
    if (isDue || this.#random.chance(this.#options.checkpointChance ?? 0.01)) {
      this.report.checkpoints += 1;
      void this.#guard(store.checkpoint(this.#snapshot()));
    }
    this.#compact(store);
    if (store.capacity().state === 'open' || this.#random.chance(0.05)) this.#submit(store, this.#nextOperation(store));
    else clock.advance(20);
  }

  #compact(store: LogStore): void {
    const chance = this.#options.rewriteChance ?? 0.03;
    if (this.#random.chance(chance)) {
      const keys = store.partitions().map(({ partition }) => partition);
      if (keys.length > 0) void this.#guard(this.#sealed(store, this.#random.pick(keys)));
    }
    if (!this.#random.chance(chance)) return;
    const rewrite = this.#rewrites.begin(store, this.#random.fork());
    if (rewrite === null) return;
    void this.#guard(
      rewrite.then(() => {
        this.report.rewrites = this.#rewrites.counts.done;
      }),
    );
  }

  async #sealed(store: LogStore, partition: PartitionKey): Promise<void> {
    try {
      await store.seal(partition);
    } catch (error) {
      // Deleted or closed meanwhile.
      const { code } = error as { code?: unknown };
      if (code !== 'UNKNOWN_TOPIC_OR_PARTITION' && store.capacity().state !== 'offline') throw error;
    }
  }

  #submit(store: LogStore, operation: ModelOperation): void {
    this.#operations.push(operation);
    this.#latest = this.#latest.with(operation);
    this.report.submitted += 1;
    this.submitted.set(operation.type, (this.submitted.get(operation.type) ?? 0) + 1);
    const order = this.#operations.length;
    const acknowledged = performOperation(store, operation).then(() => {
      if (this.#acknowledged !== order - 1) throw new Error(`operation ${order} settles after ${this.#acknowledged}`);
      this.#acknowledged = order;
      this.report.acknowledged += 1;
    });
    void this.#guard(acknowledged);
  }

  #nextOperation(store: LogStore): ModelOperation {
    const random = this.#random;
    const keys = [...this.#latest.partitions.keys()];
    if (keys.length === 0 || (keys.length < MAX_PARTITIONS && random.chance(0.1))) {
      const topicId: TopicId = topicIdFromBytes(random.bytes(16));
      const again = this.#deleted.filter((key) => !this.#latest.partitions.has(key));
      const isAgain = again.length > 0 && random.chance(0.5);
      return {
        type: 'create',
        partition: isAgain ? random.pick(again) : partitionKey(topicId, random.integer(3)),
        offset: random.chance(0.3) ? 40 : 0,
      };
    }
    const partition = random.pick(keys);
    const state = this.#latest.partitions.get(partition);
    if (state === undefined) throw new Error('a key of the model is in the model');
    if (random.chance(0.04)) {
      this.#deleted.push(partition);
      return { type: 'delete', partition };
    }
    if (random.chance(0.1)) {
      const ends = [state.start, ...state.batches.map((batch) => batch.lastOffset + 1)];
      // A log start inside a batch allows no truncate at that batch's own beginning.
      const above = ends.filter((end) => end >= state.start && !insideBatch(state.batches, end));
      // With something pending, the store's partition may be another one than the model's.
      if (this.#acknowledged === this.#operations.length) {
        const inGaps = this.#rewrites.offsetsInGaps(store, partition, state.batches);
        above.push(...inGaps.filter((end) => end >= state.start));
      }
      if (above.length > 0) return { type: 'truncate', partition, offset: random.pick(above) };
    }
    if (random.chance(0.1)) {
      return { type: 'deleteBefore', partition, offset: state.start + random.integer(state.end - state.start + 1) };
    }
    const sizes = { maxCount: 3, valueBytes: () => random.integer(random.chance(0.1) ? 300 : 120) };
    const entries = randomBatches(random, this.#latest, keys, () => (this.#mark += 1), sizes);
    return { type: 'append', entries };
  }
}

function insideBatch(batches: readonly StoredBatch[], offset: number): boolean {
  return batches.some((batch) => batch.baseOffset < offset && offset <= batch.lastOffset);
}

/** What recovery tells of an operation, as {@link HistoryVisitor} words it. */
function eventsOf(operation: ModelOperation): string[] {
  if (operation.type === 'append') return operation.entries.map((entry) => describeBatch(entry.partition, entry));
  if (operation.type === 'delete') return [`delete ${operation.partition}`];
  return [`${operation.type} ${operation.partition} ${operation.offset}`];
}

function describeBatch(partition: PartitionKey, batch: StoredBatch): string {
  return `append ${partition} ${Buffer.from(batch.records).toString('base64')}`;
}

/** What recovery tells, as text. */
class HistoryVisitor implements RecoveryVisitor {
  snapshotCount = 0;
  readonly infos: PartitionInfo[] = [];
  readonly events: string[] = [];

  snapshot(snapshot: Snapshot | null): void {
    if (snapshot !== null) this.snapshotCount = Number(new TextDecoder().decode(snapshot.data));
  }
  partition(info: PartitionInfo): void {
    this.infos.push(info);
  }
  created(partition: PartitionKey, logStartOffset: number): void {
    this.events.push(`create ${partition} ${logStartOffset}`);
  }
  batch(partition: PartitionKey, batch: StoredBatch): void {
    this.events.push(describeBatch(partition, batch));
  }
  truncated(partition: PartitionKey, endOffset: number): void {
    this.events.push(`truncate ${partition} ${endOffset}`);
  }
  deletedBefore(partition: PartitionKey, offset: number): void {
    this.events.push(`deleteBefore ${partition} ${offset}`);
  }
  deleted(partition: PartitionKey): void {
    this.events.push(`delete ${partition}`);
  }
}

async function pause(turns: number): Promise<void> {
  for (let i = 0; i < turns; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
