/**
 * What producers and a group do to a shard that crashes again and again, and what they were promised. A test brings the
 * shards, one after each crash, and asks at the end whether the promises were kept.
 *
 * Producers are idempotent, have several batches in flight, and repeat after a crash what was not acknowledged. The
 * member of the group commits ever higher offsets. Values are `<producer>.<number>`, each once.
 */
import { assert, type Random } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { isRefusal } from './commands.ts';
import { keyOf, textBatch, type ShardScenario } from './shard-scenario.ts';

const PARTITIONS = 3;
const PRODUCERS = 3;
const MAX_IN_FLIGHT = 3;
const MEMBER = 'member';

interface SentBatch {
  readonly values: readonly string[];
  readonly baseSequence: number;
}

/** A producer's way into one partition. */
interface Lane {
  readonly producerId: number;
  readonly partition: number;
  readonly unacknowledged: SentBatch[];
  /** Of these, handed to the present shard. */
  inFlight: number;
  nextSequence: number;
  nextValue: number;
}

interface Commit {
  readonly offset: number;
  readonly finished: readonly (readonly [number, number])[];
}

export class PowerCutRun {
  readonly #random: Random;
  readonly #lanes: Lane[] = [];
  /** By partition: value by offset, as acknowledged. */
  readonly #acknowledged = Array.from({ length: PARTITIONS }, () => new Map<number, string>());
  /** By partition: everything that was asked to be committed, and how many of it were acknowledged. */
  readonly #commits = Array.from({ length: PARTITIONS }, (): { asked: Commit[]; acknowledged: number } => ({
    asked: [],
    acknowledged: 0,
  }));
  #shard: ShardScenario | null = null;
  #memberEpoch = 0;
  /** What went wrong beside the crash. */
  failure: unknown = null;
  acknowledgedEvents = 0;
  acknowledgedCommits = 0;
  repeatedBatches = 0;

  constructor(random: Random) {
    this.#random = random;
    for (let producer = 0; producer < PRODUCERS; producer++) {
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const producerId = 100 + producer;
        this.#lanes.push({ producerId, partition, unacknowledged: [], inFlight: 0, nextSequence: 0, nextValue: 0 });
      }
    }
  }

  /** Goes on with a shard that has just started; answers of the one before do not count any more. */
  async resume(shard: ShardScenario): Promise<void> {
    this.#shard = shard;
    for (const lane of this.#lanes) lane.inFlight = 0;
    await this.checkCommits();
    await this.#join(shard);
    for (const lane of this.#lanes) while (lane.inFlight < lane.unacknowledged.length) this.#send(shard, lane);
  }

  /** One random thing. */
  step(): void {
    const shard = this.#shard;
    assert(shard !== null, 'a shard was given');
    if (this.#random.float() < 0.3) {
      this.#commit(shard, this.#random.integer(PARTITIONS));
      return;
    }
    const lane = this.#lanes[this.#random.integer(this.#lanes.length)] as Lane;
    if (lane.unacknowledged.length >= MAX_IN_FLIGHT) return;
    const values = Array.from({ length: 1 + this.#random.integer(3) }, () => this.#nextValue(lane));
    lane.unacknowledged.push({ values, baseSequence: lane.nextSequence });
    lane.nextSequence += values.length;
    this.#send(shard, lane);
  }

  get isQuiet(): boolean {
    return this.#lanes.every(({ unacknowledged }) => unacknowledged.length === 0);
  }

  /** Reads everything and compares; to be called when it is quiet. */
  async check(): Promise<void> {
    const shard = this.#shard as ShardScenario;
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const contents = await shard.contents(partition);
      const values = contents.map((entry, index) => {
        const colon = entry.indexOf(':');
        assert(
          Number(entry.slice(0, colon)) === index,
          `partition ${partition} has ${entry} where offset ${index} belongs`,
        );
        return entry.slice(colon + 1).split('#', 1)[0] as string;
      });
      for (const [offset, value] of this.#acknowledged[partition] as Map<number, string>) {
        assert(
          values[offset] === value,
          `partition ${partition}: ${value} was acknowledged at ${offset}, where ${values[offset]} is`,
        );
      }
      for (const lane of this.#lanes) {
        if (lane.partition !== partition) continue;
        const own = values
          .filter((value) => value.startsWith(`${lane.producerId}.`))
          .map((value) => Number(value.slice(4)));
        const expected = Array.from({ length: lane.nextValue }, (_, index) => index);
        assert(
          String(own) === String(expected),
          `partition ${partition}: producer ${lane.producerId} has ${own.join()}`,
        );
      }
    }
    await this.checkCommits();
  }

  /** What is committed is what was acknowledged last, or what was asked after it. */
  async checkCommits(): Promise<void> {
    const shard = this.#shard as ShardScenario;
    for (let partition = 0; partition < PARTITIONS; partition++) {
      const { asked, acknowledged } = this.#commits[partition] as { asked: Commit[]; acknowledged: number };
      const [found] = await shard.ask({ type: 'group-offsets', groupId: 'payment', partitions: [keyOf(partition)] });
      const stored = found?.committed;
      const possible = asked.slice(Math.max(0, acknowledged - 1));
      const isAsked = possible.some(
        ({ offset, finished }) => stored?.offset === offset && String(stored.finished) === String(finished),
      );
      const isNone = acknowledged === 0 && stored === null;
      const what = JSON.stringify(stored);
      assert(
        isAsked || isNone,
        `partition ${partition}: ${what} is committed, ${JSON.stringify(possible)} was asked for`,
      );
    }
  }

  #nextValue(lane: Lane): string {
    const value = `${lane.producerId}.${lane.nextValue}`;
    lane.nextValue += 1;
    // Of different sizes, so that files end at different places.
    return `${value}#${'x'.repeat(this.#random.integer(200))}`;
  }

  #send(shard: ShardScenario, lane: Lane): void {
    const batch = lane.unacknowledged[lane.inFlight] as SentBatch;
    lane.inFlight += 1;
    const { producerId, partition } = lane;
    const records = textBatch(batch.values, { producerId, baseSequence: batch.baseSequence });
    this.#follow(shard, shard.submit({ type: 'append', partition: keyOf(partition), batch: records }), (reply) => {
      assert(!isRefusal(reply), `producer ${producerId} was refused: ${JSON.stringify(reply)}`);
      assert(lane.unacknowledged[0] === batch, 'batches are acknowledged in their order');
      lane.unacknowledged.shift();
      lane.inFlight -= 1;
      if (reply.duplicate) this.repeatedBatches += 1;
      const stored = this.#acknowledged[partition] as Map<number, string>;
      batch.values.forEach((value, index) => {
        const offset = reply.baseOffset + index;
        assert(!stored.has(offset), `offset ${offset} of partition ${partition} was given twice`);
        stored.set(offset, value.split('#', 1)[0] as string);
        this.acknowledgedEvents += 1;
      });
    });
  }

  #commit(shard: ShardScenario, partition: number): void {
    const commits = this.#commits[partition] as { asked: Commit[]; acknowledged: number };
    const end = (this.#acknowledged[partition] as Map<number, string>).size;
    const last = commits.asked.at(-1)?.offset ?? -1;
    // Offsets were given without gaps, so that as many as were acknowledged are below the high watermark.
    const offset = last + 1 + this.#random.integer(3);
    if (offset > end - 4) return;
    const finished = this.#random.float() < 0.5 ? [] : [[offset + 1, offset + 3] as const];
    commits.asked.push({ offset, finished });
    const count = commits.asked.length;
    this.#follow(shard, shard.commit(MEMBER, this.#memberEpoch, partition, offset, finished), ({ results }) => {
      assert(results[0]?.refusal === null, `a commit was refused: ${JSON.stringify(results)}`);
      assert(commits.acknowledged < count, 'commits are acknowledged in their order');
      commits.acknowledged = count;
      this.acknowledgedCommits += 1;
    });
  }

  async #join(shard: ShardScenario): Promise<void> {
    try {
      this.#memberEpoch = (await shard.join(MEMBER, { memberEpoch: this.#memberEpoch })).memberEpoch;
    } catch (error) {
      // The join that gave the epoch may not have become durable.
      if (!isNaruError(error, 'UNKNOWN_MEMBER_ID', 'FENCED_MEMBER_EPOCH') || this.#memberEpoch > 0) throw error;
      this.#memberEpoch = (await shard.join(MEMBER)).memberEpoch;
    }
  }

  /** Answers count while the shard that gives them lives. */
  #follow<T>(shard: ShardScenario, answer: Promise<T>, use: (reply: T) => void): void {
    answer
      .then((reply) => {
        if (this.#shard === shard) use(reply);
      })
      .catch((error: unknown) => {
        if (this.#shard === shard) this.failure ??= error;
      });
  }
}
