/**
 * One seeded run: services publish and handle events through the real SDK and a real broker, on virtual time, while handlers fail,
 * members crash, come and go, connections break, the broker crashes and comes back, and dead letters are redriven. In the end the
 * handlers are repaired, everything is redriven until nothing is left, and the accounts are checked.
 *
 * Everything follows from the seed: the same seed gives the same trace.
 */
import { assert, silentLogger, type Timers } from '@naru/base';
import { SimulatedBroker, simulatedMetadata } from '@naru/broker';
import { Naru, NonRetriableError, settingsSchema, type HandlerContext, type NaruEvent } from '@naru/client';
import { isNaruError } from '@naru/protocol';
import { DeadLetterService } from '@naru/protocol/proto';
import { SeededRandom, SimDisk, VirtualClock } from '@naru/testkit';
import { keyName, OrderAccount, type CallOfHandler } from './order-account.ts';
import { checkOutputs, type OutputOf } from './output-account.ts';
import { SimNetwork } from './sim-network.ts';

const ORDERS = 'orders';
/** A parallel topic. */
const JOBS = 'jobs';
/** What the group {@link POSTING} publishes. */
const POSTS = 'posts';
const POSTING = 'posting';
const PARTITIONS = 2;
const KEYS = 6;
const MAX_ATTEMPTS = 3;
const MAX_MEMBERS = 3;
/** Virtual time within which everything has to be handled once nothing fails any more. */
const SETTLE_LIMIT_MS = 120_000;
const TICK_MS = 4;

const GROUPS = [
  { group: 'billing', topic: ORDERS, afterDeadLetter: 'continue', after: [] },
  { group: 'shipping', topic: ORDERS, afterDeadLetter: 'park', after: [] },
  { group: 'search', topic: ORDERS, afterDeadLetter: 'continue', after: ['billing', 'shipping'] },
  // Handled exactly once: publishes what it handles, in transactions.
  { group: POSTING, topic: ORDERS, afterDeadLetter: 'continue', after: [] },
  { group: 'mailing', topic: JOBS, afterDeadLetter: 'continue', after: [] },
] as const;

const SETTINGS = {
  connectTimeoutMs: 0,
  requestTimeoutMs: '3s',
  reconnect: { initial: '10ms', max: '100ms' },
  publisher: {
    batchBytes: '4KiB',
    retry: { initial: '10ms', max: '100ms' },
    // What a member that was killed has left open keeps readers waiting for so long.
    transaction: { timeoutMs: '5s' },
  },
  subscriber: {
    concurrency: 4,
    pollWaitMs: '200ms',
    autoCommitIntervalMs: '40ms',
    sessionTimeoutMs: '2s',
    maxPollIntervalMs: '5s',
    drainTimeoutMs: '1s',
    retry: {
      attempts: MAX_ATTEMPTS,
      backoff: { initial: '10ms', max: '300ms' },
      // So small that failed keys overflow to the broker all the time.
      maxWaitingEvents: 4,
    },
  },
} as const;

export interface OrderReport {
  /** A line for each thing that happened. */
  readonly trace: readonly string[];
  published: number;
  calls: number;
  repeats: number;
  givenUp: number;
  redriven: number;
  memberCrashes: number;
  brokerCrashes: number;
  brokenConnections: number;
}

interface Member {
  readonly name: string;
  readonly group: string;
  readonly topic: string;
  readonly process: SimProcess;
  readonly naru: Naru;
}

/** Timers that stop when their process does. */
class SimProcess implements Timers {
  readonly #clock: VirtualClock;
  isAlive = true;

  constructor(clock: VirtualClock) {
    this.#clock = clock;
  }

  after(delayMs: number, callback: () => void): ReturnType<Timers['after']> {
    // As the platform's, they fire at whole milliseconds.
    return this.#clock.after(Math.ceil(delayMs), () => {
      if (this.isAlive) callback();
    });
  }
}

export class OrderRun {
  readonly #random: SeededRandom;
  readonly #clock = new VirtualClock();
  readonly #network: SimNetwork;
  readonly #metadata = simulatedMetadata();
  readonly #trace: string[] = [];
  readonly #accounts = new Map<string, OrderAccount>();
  readonly #members: Member[] = [];
  /** By topic: offsets by partition and key, as acknowledged. */
  readonly #published = new Map<string, Map<string, number[]>>([ORDERS, JOBS].map((topic) => [topic, new Map()]));
  /** By topic. */
  readonly #eventCounts = new Map([ORDERS, JOBS].map((topic) => [topic, 0]));
  readonly #publisher: Naru;
  readonly report: OrderReport;
  #disk: SimDisk;
  #brokerProcess: SimProcess;
  #memberCount = 0;
  #unacknowledged = 0;
  /** How likely a handler fails; 0 once everything was repaired. */
  #failureRate = 0.25;
  #failure: unknown = null;

  constructor(seed: number) {
    this.#random = new SeededRandom(seed);
    this.#network = new SimNetwork(this.#clock, this.#random.fork());
    this.#disk = new SimDisk(this.#random.fork());
    this.#brokerProcess = new SimProcess(this.#clock);
    for (const { group, topic, afterDeadLetter, after } of GROUPS) {
      const before = after.map((name) => this.#accounts.get(name) as OrderAccount);
      const isExclusive = topic === JOBS;
      const options = { group, afterDeadLetter, before, isExclusive, maxAttempts: MAX_ATTEMPTS };
      this.#accounts.set(group, new OrderAccount(options));
    }
    this.#publisher = this.#connect(new SimProcess(this.#clock), 'publisher');
    this.report = {
      trace: this.#trace,
      published: 0,
      calls: 0,
      repeats: 0,
      givenUp: 0,
      redriven: 0,
      memberCrashes: 0,
      brokerCrashes: 0,
      brokenConnections: 0,
    };
  }

  /** @throws what was out of order, missing, or failed in a way that it should not */
  async run(steps: number): Promise<OrderReport> {
    await this.#startBroker();
    await this.#createTopics();
    for (const member of GROUPS) this.#join(member);
    for (let step = 0; step < steps; step++) {
      await this.#step();
      await this.#pass(this.#random.integer(40));
    }
    await this.#repair();
    for (const { group, topic } of GROUPS) {
      const account = this.#accounts.get(group) as OrderAccount;
      account.check(this.#published.get(topic) ?? new Map());
      this.report.calls += account.calls;
      this.report.repeats += account.repeats;
      this.report.givenUp += account.givenUp;
    }
    const account = this.#accounts.get(POSTING) as OrderAccount;
    checkOutputs(POSTING, await this.#outputs(), this.#published.get(ORDERS) ?? new Map(), account);
    for (const count of this.#eventCounts.values()) this.report.published += count;
    return this.report;
  }

  async #createTopics(): Promise<void> {
    const { admin } = this.#publisher;
    const groups = GROUPS.filter(({ topic }) => topic === ORDERS).map(({ group, afterDeadLetter, after }) => {
      return `${group}:order=${after.length === 0 ? 1 : 2}:after-dead-letter=${afterDeadLetter}`;
    });
    const config = { groups: groups.join() };
    await this.#until('a topic', admin.createTopic(POSTS, { partitions: PARTITIONS }));
    await this.#until('a topic', admin.createTopic(ORDERS, { partitions: PARTITIONS, config }));
    const limits = { 'delivery.limit': String(MAX_ATTEMPTS), 'delivery.lock.ms': '1s' };
    await this.#until('a topic', admin.createTopic(JOBS, { partitions: PARTITIONS, type: 'parallel', config: limits }));
  }

  async #step(): Promise<void> {
    const choice = this.#random.float();
    if (choice < 0.55) this.#publish(this.#random.chance(0.7) ? ORDERS : JOBS, 1 + this.#random.integer(4));
    else if (choice < 0.7) await this.#comeAndGo();
    else if (choice < 0.8) this.#breakConnection();
    else if (choice < 0.9) await this.#redrive(3);
    else if (choice < 0.94) await this.#crashBroker();
  }

  #publish(topic: string, count: number): void {
    for (let i = 0; i < count; i++) {
      const value = (this.#eventCounts.get(topic) ?? 0) + 1;
      this.#eventCounts.set(topic, value);
      // Of a parallel topic nothing is kept in order.
      const key = topic === JOBS ? `j${value}` : `k${this.#random.integer(KEYS)}`;
      this.#unacknowledged += 1;
      this.#publisher.publish(topic, value, { key }).then(
        ({ partition, offset }) => {
          const name = keyName(partition, key);
          const published = this.#published.get(topic) as Map<string, number[]>;
          published.set(name, [...(published.get(name) ?? []), Number(offset)]);
          this.#unacknowledged -= 1;
          this.#note(`published ${topic} ${name} at ${offset}`);
        },
        (error: unknown) => this.#failed(error),
      );
    }
  }

  /** A member joins, leaves or is killed. */
  async #comeAndGo(): Promise<void> {
    const wanted = this.#random.pick(GROUPS);
    const { group } = wanted;
    const members = this.#members.filter((member) => member.group === group);
    if (members.length < MAX_MEMBERS && this.#random.chance(members.length === 0 ? 0.9 : 0.4)) {
      this.#join(wanted);
      return;
    }
    if (members.length === 0) return;
    const member = this.#random.pick(members);
    this.#members.splice(this.#members.indexOf(member), 1);
    if (this.#random.chance(0.5)) {
      this.#note(`${member.name} leaves`);
      member.naru.close().catch((error: unknown) => this.#failed(error));
      return;
    }
    this.#note(`${member.name} is killed`);
    this.report.memberCrashes += 1;
    this.#kill(member);
  }

  #kill({ name, group, process, naru }: Member): void {
    process.isAlive = false;
    this.#accounts.get(group)?.gone(name);
    this.#transports.get(naru)?.breakAll();
  }

  readonly #transports = new WeakMap<Naru, ReturnType<SimNetwork['transport']>>();

  #connect(process: SimProcess, clientId: string): Naru {
    const transport = this.#network.transport(process);
    const random = this.#random.fork();
    const runtime = { clock: this.#clock, timers: process, random, logger: silentLogger };
    const naru = new Naru(settingsSchema.parse({ ...SETTINGS, clientId }), transport, runtime);
    this.#transports.set(naru, transport);
    return naru;
  }

  #join({ group, topic }: Pick<Member, 'group' | 'topic'>): void {
    this.#memberCount += 1;
    const name = `${group}-${this.#memberCount}`;
    const process = new SimProcess(this.#clock);
    const member = { name, group, topic, process, naru: this.#connect(process, name) };
    this.#members.push(member);
    this.#note(`${name} joins`);
    const subscriber = member.naru.subscriber(group, group === POSTING ? { guarantee: 'exactly-once' } : {});
    const random = this.#random.fork();
    subscriber.handle<number>(topic, (event, context) => this.#handle(member, random, event, context));
    subscriber.run().catch((error: unknown) => {
      if (process.isAlive) this.#failed(error);
    });
  }

  async #handle(
    { name, group, topic, process }: Member,
    random: SeededRandom,
    event: NaruEvent<number>,
    context: HandlerContext,
  ): Promise<void> {
    // What was under way in a process when it was killed does nothing any more.
    if (!process.isAlive) return new Promise(() => {});
    const { partition, key } = event;
    const { attempt, signal } = context;
    const call: CallOfHandler = {
      member: name,
      key: key ?? '',
      partition,
      offset: Number(event.offset),
      attempt,
      signal,
    };
    const account = this.#accounts.get(group) as OrderAccount;
    const what = `${name} ${topic} ${keyName(partition, call.key)} at ${call.offset}, attempt ${attempt}`;
    this.#note(what);
    try {
      account.begin(call);
    } catch (error) {
      this.#failed(error);
    }
    // A killed process never gets on.
    const isLong = random.chance(0.02);
    await new Promise<void>((resolve) => process.after(random.integer(isLong ? 3_000 : 30), resolve));
    account.end(call);
    const isLast = attempt >= MAX_ATTEMPTS;
    const output: OutputOf = { partition, key: call.key, offset: call.offset };
    if (group === POSTING) {
      await context.publish(POSTS, output, { key }).catch((error: unknown) => {
        this.#note(`${what}: ${String(error)}`);
        if (isLast) account.gaveUp(call);
        throw error;
      });
    }
    const fate = random.float();
    if (fate >= this.#failureRate) {
      this.#note(`${what}: done`);
      account.succeeded(call);
      return;
    }
    this.#note(`${what}: fails`);
    const kind = random.integer(8);
    if (isLast || kind < 2) account.gaveUp(call);
    if (kind === 0) context.deadLetter('rejected by the simulation');
    if (kind === 1) throw new NonRetriableError('hopeless');
    if (kind === 2) context.retryIn(random.integer(100));
    throw new Error('not now');
  }

  #breakConnection(): void {
    const process = this.#random.pick([this.#publisher, ...this.#members.map(({ naru }) => naru)]);
    this.report.brokenConnections += 1;
    this.#note('a connection breaks');
    this.#transports.get(process)?.breakAll();
  }

  async #startBroker(): Promise<void> {
    const process = new SimProcess(this.#clock);
    this.#brokerProcess = process;
    const config = { storage: 'file', data: '/data', log: { maxBatchBytes: '32KiB' } } as const;
    const starting = SimulatedBroker.start(config, {
      clock: this.#clock,
      timers: process,
      random: this.#random.fork(),
      disk: this.#disk,
      logger: silentLogger,
      metadata: this.#metadata,
    });
    this.#network.broker = await this.#until('the broker serves', starting);
    this.#note('the broker serves');
  }

  async #crashBroker(): Promise<void> {
    this.report.brokerCrashes += 1;
    this.#note('the broker crashes');
    this.#brokerProcess.isAlive = false;
    this.#network.broker = null;
    const isPowerCut = this.#random.chance(0.5);
    this.#disk = isPowerCut ? this.#disk.powerCut(this.#random.fork()) : this.#disk.processKill(this.#random.fork());
    await this.#pass(this.#random.integer(100));
    await this.#startBroker();
  }

  /** Some of the dead letters of one group; Infinity for all of them. */
  async #redrive(limit: number, group: string = this.#random.pick(GROUPS).group): Promise<number> {
    const request = { filter: { groupId: group }, limit: Math.min(limit, 1_000) };
    try {
      const { redriven } = await this.#until(
        'redriving',
        this.#network
          .transport(new SimProcess(this.#clock))
          .call(DeadLetterService.method.redriveDeadLetters, request, new AbortController().signal),
      );
      for (const { partition, keyText, offset } of redriven) {
        this.#note(`redriven for ${group}: ${keyName(partition, keyText)} at ${offset}`);
      }
      this.report.redriven += redriven.length;
      return redriven.length;
    } catch (error) {
      if (isNaruError(error, 'GROUP_ID_NOT_FOUND')) return 0;
      throw error;
    }
  }

  /** Nothing fails any more, everybody is there, and what was given up is redriven until nothing is left. */
  async #repair(): Promise<void> {
    this.#note('everything is repaired');
    this.#failureRate = 0;
    for (const wanted of GROUPS) {
      if (!this.#members.some(({ group }) => group === wanted.group)) this.#join(wanted);
    }
    const endMs = this.#clock.monotonicMs() + SETTLE_LIMIT_MS;
    for (;;) {
      let redriven = 0;
      for (const { group } of GROUPS) redriven += await this.#redrive(Infinity, group);
      if (redriven === 0 && this.#unacknowledged === 0 && this.#isHandled()) break;
      if (this.#clock.monotonicMs() > endMs) throw new Error(this.#missing());
      await this.#pass(500);
    }
    await this.#pass(1_000);
    for (const { group } of GROUPS) {
      const { offsets } = await this.#until('describing', this.#publisher.admin.describeGroup(group));
      for (const { partition, lag } of offsets) assert(lag === 0n, `${group}: partition ${partition} lags by ${lag}`);
    }
  }

  /** As readers of committed events get them. */
  async #outputs(): Promise<OutputOf[]> {
    const outputs: OutputOf[] = [];
    const read = async (): Promise<void> => {
      for await (const batch of this.#publisher.poll<OutputOf>({ topics: [POSTS], idleTimeoutMs: 6_000 })) {
        outputs.push(...batch.events.map(({ value }) => value));
      }
    };
    await this.#until('reading what was published', read());
    this.#note(
      `outputs: ${outputs.map(({ partition, key, offset }) => `${keyName(partition, key)}@${offset}`).join()}`,
    );
    return outputs;
  }

  #isHandled(): boolean {
    return GROUPS.every(({ group, topic }) => this.#accounts.get(group)?.handled === this.#eventCounts.get(topic));
  }

  #missing(): string {
    const counts = GROUPS.map(
      ({ group, topic }) => `${group} ${this.#accounts.get(group)?.handled} of ${this.#eventCounts.get(topic)}`,
    );
    return `after ${SETTLE_LIMIT_MS} ms (${this.#unacknowledged} not acknowledged) have succeeded: ${counts.join(', ')}`;
  }

  async #pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= TICK_MS) {
      await turns();
      this.#clock.advance(Math.min(left, TICK_MS));
      if (this.#failure !== null) throw this.#failure as Error;
    }
  }

  /** What the promise comes to; time passes meanwhile. */
  async #until<T>(what: string, promise: Promise<T>): Promise<T> {
    let isDone = false;
    const done = promise.finally(() => (isDone = true));
    done.catch(() => {});
    const endMs = this.#clock.monotonicMs() + SETTLE_LIMIT_MS;
    while (!isDone) {
      if (this.#clock.monotonicMs() > endMs) throw new Error(`not within ${SETTLE_LIMIT_MS} ms: ${what}`);
      await this.#pass(1);
    }
    return done;
  }

  #failed(error: unknown): void {
    this.#note(`FAILED: ${String(error)}`);
    this.#failure ??= error;
  }

  #note(text: string): void {
    this.#trace.push(`${this.#clock.monotonicMs()} ${text}`);
  }
}

/** What is ready has run. */
async function turns(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise<void>((resolve) => setImmediate(resolve));
}
