/**
 * The stage of a torture test: a broker in a process of its own, client processes that write in transactions and make pipelines,
 * readers; and what is done to them. The history checkers judge what everybody saw.
 *
 * At the end a last value, outside of transactions, goes into every partition: when readers have it nothing is open before it.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { assert, delay, systemTimers } from '@naru/base';
import { connect, serdes } from '@naru/client';
import type { Naru } from '@naru/client';
import type { HistoryChecker, PipelineChecker, SeededRandom } from '@naru/testkit';
import { Conditions } from '../condition.ts';
import { KillableBroker } from '../killable-broker.ts';
import { ClientProcess } from './client-process.ts';
import type { ClientTask, Role } from './client-task.ts';
import { Readers, SHARED, TAIL } from './readers.ts';
import { BULK, INPUT, INPUT_SHARE, OUTPUT, isInput, payloadOf } from './values.ts';

const PARTITIONS = 4;
const MAX_FAILURES = 5;
/** How long {@link Torture.describe} waits for an answer. */
const ANSWER_MS = 3_000;
const MAX_NOTE_CHARACTERS = 150;
/** Beyond the time-outs of sessions; at most also beyond those of transactions. */
const FREEZE_MS = { min: 6_000, max: 12_000 };
/** Kafka clients that gave up and were started anew; more is a failure. */
const MAX_RESTARTS = 1_000;

const SETTINGS = `
broker:
  logLevel: warn
  log:
    maxBatchBytes: 256KiB
    journalFileBytes: 20MiB
    journalBytes: 60MiB
    checkpointBytes: 4MiB
    segmentBytes: 2MiB
`;

/** A place for a client process, one after the other. */
export interface Slot {
  readonly role: Role;
  readonly name: string;
  readonly lanes: number;
}

export interface TortureOptions {
  readonly directory: string;
  readonly history: HistoryChecker;
  readonly pipeline: PipelineChecker;
  readonly random: SeededRandom;
  readonly slots: readonly Slot[];
  /** Values of a transaction, at most. */
  readonly maxValues: number;
  readonly transactionTimeoutMs: number;
  /** More settings of the broker, indented by two. */
  readonly settings?: string | undefined;
  /** Where clients of a role find the broker; default: the broker's own address. */
  readonly addressFor?: ((role: Role) => string) | undefined;
}

export class Torture {
  readonly broker: KillableBroker;
  readonly conditions = new Conditions();
  readonly failures: string[] = [];
  readonly #options: TortureOptions;
  readonly #clients = new Map<Slot, ClientProcess>();
  readonly #compileCache: string;
  readonly #configFile: string;
  #readers: Readers | null = null;
  #naru: Naru | null = null;
  #isEnding = false;
  readonly ended = { committed: 0, aborted: 0, left: 0 };
  readonly done = {
    brokerKills: 0,
    clientKills: 0,
    clientStops: 0,
    freezes: 0,
    clientFailures: 0,
    joins: 0,
    leaves: 0,
  };

  constructor(options: TortureOptions) {
    this.#options = options;
    const { directory } = options;
    this.#configFile = join(directory, 'naru.yaml');
    this.#compileCache = join(directory, 'cache');
    const dataDirectory = join(directory, 'data');
    this.broker = new KillableBroker({ configFile: this.#configFile, dataDirectory, compileCache: this.#compileCache });
  }

  /** What the test is at, for when it does not get on. */
  phase = 'starting';
  /** What clients say of themselves, and how often: why Kafka's gave up, say. */
  readonly notes: Record<string, number> = {};

  /** Transactions of writers that are over. */
  get transactions(): number {
    return this.ended.committed + this.ended.aborted + this.ended.left;
  }

  get readers(): Readers {
    assert(this.#readers !== null, 'the stage was set');
    return this.#readers;
  }

  /** The broker serves, and has its topics. */
  async start(): Promise<void> {
    await writeFile(this.#configFile, `${SETTINGS}${this.#options.settings ?? ''}`);
    await this.broker.start();
    const { address } = this.broker;
    const { history, pipeline } = this.#options;
    const { conditions } = this;
    this.#naru = await connect({
      brokers: [address],
      clientId: 'observer',
      reconnect: { initial: '20ms', max: '200ms' },
    });
    for (const topic of [BULK, INPUT, OUTPUT]) await this.#naru.admin.createTopic(topic, { partitions: PARTITIONS });
    const failed = (text: string): void => this.#failed(text);
    this.#readers = new Readers({ address, history, pipeline, conditions, failed });
  }

  /** Readers and all clients. */
  async populate(): Promise<void> {
    await this.readers.start();
    for (let i = 0; i < 2; i++) await this.readers.addMember();
    for (const slot of this.#options.slots) this.#spawn(slot);
    await this.until(() => [...this.#clients.values()].every(({ isReady }) => isReady));
  }

  /** Waits for what the clients bring about; throws when something failed that must not. */
  async until(holds: () => boolean): Promise<void> {
    await this.conditions.until(() => this.failures.length > 0 || holds());
    if (this.failures.length > 0) throw new Error(this.failures.join('\n'));
  }

  /** SIGKILL, and a new start on the same files. */
  async killBroker(): Promise<void> {
    await this.broker.kill();
    this.done.brokerKills += 1;
    await this.broker.start();
  }

  /** SIGKILL of a client, and another one in its place. */
  async killClient(roles: readonly Role[]): Promise<void> {
    const [slot, client] = this.#pick(roles);
    await client.kill();
    this.done.clientKills += 1;
    this.#spawn(slot);
  }

  /** A client stands still, for longer than its session or its transactions may, and goes on as if nothing had been. */
  async freezeClient(roles: readonly Role[]): Promise<void> {
    const [, client] = this.#pick(roles);
    client.freeze();
    await this.#whileFrozen();
    client.thaw();
  }

  /** The same with the broker. */
  async freezeBroker(): Promise<void> {
    this.broker.freeze();
    await this.#whileFrozen();
    this.broker.thaw();
  }

  /** A client ends as it should, and another one comes in its place. */
  async replaceClient(roles: readonly Role[]): Promise<void> {
    const [slot, client] = this.#pick(roles);
    await client.stop();
    this.done.clientStops += 1;
    this.#spawn(slot);
  }

  /** One member more in the shared group, or one less, in one way or the other. */
  async changeMembers(): Promise<void> {
    const { random } = this.#options;
    if (this.readers.memberCount < 2 || (this.readers.memberCount < 4 && random.chance(0.5))) {
      await this.readers.addMember();
      this.done.joins += 1;
    } else {
      await this.readers.removeMember(random.chance(0.5));
      this.done.leaves += 1;
    }
  }

  /** Ends writers, then pipelines, when everybody has everything. */
  async finish(): Promise<void> {
    this.#isEnding = true;
    this.phase = 'stopping writers';
    await this.#stopAll((slot) => slot.role.endsWith('-writer'));
    this.phase = 'publishing the last values';
    const last = await this.#publishLast();
    const { readers } = this;
    this.phase = 'waiting for the last values';
    await this.until(() => last.every((value) => readers.has(TAIL, value) && readers.has(SHARED, value)));
    this.phase = 'waiting for outputs';
    if (this.#options.slots.some(isPipeline)) await this.until(() => readers.outputs >= readers.inputs);
    this.phase = 'stopping pipelines';
    await this.#stopAll(isPipeline);
    this.phase = 'counting again';
    const recount = new Set(last);
    const all = await readers.countAll([BULK, INPUT], (_topic, _partition, value) => {
      recount.delete(value);
      return recount.size === 0;
    });
    this.recounted = all;
  }

  /** What the test is at, and what everybody says: for a run that did not end. */
  async describe(): Promise<string> {
    const { phase, transactions, failures, broker } = this;
    const clients = [...this.#clients.values()].map((client) => client.describe());
    const { outputs, inputs, memberCount } = this.#readers ?? {};
    const lines = [
      `${phase}: ${JSON.stringify({ transactions, outputs, inputs, memberCount, failures, ...this.done })}`,
      ...clients,
      `broker: ${broker.output}`,
    ];
    const tooLate = delay(systemTimers, ANSWER_MS).then(() => 'no answer');
    const answer = await Promise.race([this.#askBroker().catch(String), tooLate]);
    lines.push(inspect(answer, { depth: 6, maxArrayLength: 50 }));
    return lines.join('\n');
  }

  /** Events that a reader found who read everything at the end. */
  recounted = 0;

  async close(): Promise<void> {
    this.#isEnding = true;
    await Promise.all([...this.#clients.values()].map((client) => client.kill()));
    await this.#readers?.close();
    await this.#naru?.close({ timeoutMs: 0 });
    await this.broker.abandon();
  }

  async #whileFrozen(): Promise<void> {
    const { random } = this.#options;
    await delay(systemTimers, FREEZE_MS.min + random.integer(FREEZE_MS.max - FREEZE_MS.min));
    this.done.freezes += 1;
  }

  #spawn(slot: Slot): void {
    const { history, random, maxValues, transactionTimeoutMs, addressFor } = this.#options;
    const task: Omit<ClientTask, 'firstWriter'> = {
      ...slot,
      address: addressFor?.(slot.role) ?? this.broker.address,
      partitions: PARTITIONS,
      seed: random.integer(2 ** 32),
      maxValues,
      abortShare: 8,
      transactionTimeoutMs,
    };
    const client: ClientProcess = new ClientProcess({
      task,
      history,
      compileCache: this.#compileCache,
      ended: (outcome) => (this.ended[outcome] += 1),
      failed: (text) => this.#clientFailed(slot, text),
      noted: (text) => this.#noted(text),
      changed: () => {
        this.conditions.changed();
        if (client.isOver) this.#clientIsOver(slot, client);
      },
    });
    this.#clients.set(slot, client);
  }

  /** Kafka's clients may give up, and are started anew; ours may not. */
  #clientFailed({ role }: Slot, text: string): void {
    const isReason = !text.includes(' ended with ');
    if (isReason) {
      this.done.clientFailures += 1;
      this.#noted(text);
    }
    if (role.startsWith('sdk-') || this.done.clientFailures > MAX_RESTARTS) this.#failed(text);
  }

  #noted(text: string): void {
    const note = text.split('\n', 1)[0]?.slice(0, MAX_NOTE_CHARACTERS) ?? '';
    this.notes[note] = (this.notes[note] ?? 0) + 1;
  }

  #clientIsOver(slot: Slot, client: ClientProcess): void {
    const mustGoOn = !this.#isEnding || isPipeline(slot);
    if (this.#clients.get(slot) !== client || client.wasEnded || this.failures.length > 0) return;
    this.#clients.delete(slot);
    if (mustGoOn) this.#spawn(slot);
  }

  #pick(roles: readonly Role[]): [Slot, ClientProcess] {
    const candidates = [...this.#clients].filter(([{ role }]) => roles.includes(role));
    return this.#options.random.pick(candidates);
  }

  async #stopAll(which: (slot: Slot) => boolean): Promise<void> {
    const stopping = [...this.#clients].filter(([slot]) => which(slot));
    await Promise.all(stopping.map(([, client]) => client.stop()));
    for (const [slot] of stopping) this.#clients.delete(slot);
    if (this.failures.length > 0) throw new Error(this.failures.join('\n'));
  }

  /** A value for every partition of both topics. */
  async #publishLast(): Promise<number[]> {
    const { history } = this.#options;
    const writer = history.writer('last');
    const values: number[] = [];
    for (let i = 0; i < PARTITIONS * INPUT_SHARE; i++) values.push(...history.sending(writer));
    const inputs = values.filter(isInput);
    const bulk = values.filter((value) => !isInput(value)).slice(0, PARTITIONS);
    const last = [...inputs, ...bulk];
    for (const value of last) this.readers.watch(value);
    for (const [index, value] of last.entries()) {
      const topic = index < PARTITIONS ? INPUT : BULK;
      const options = { partition: index % PARTITIONS, key: String(index), serde: serdes.bytes };
      const { partition, offset } = await (this.#naru as Naru).publish(topic, payloadOf(value), options);
      history.acknowledged(value, `${topic}/${partition}`, Number(offset));
    }
    return last;
  }

  async #askBroker(): Promise<unknown> {
    const { admin, deadLetters } = this.#naru as Naru;
    const groups = await admin.listGroups();
    const dead = [];
    for (const { groupId } of groups) for await (const letter of deadLetters.list(groupId)) dead.push(letter);
    const described = await Promise.all(groups.map(({ groupId }) => admin.describeGroup(groupId)));
    const topics = await Promise.all([BULK, INPUT, OUTPUT].map((topic) => admin.describeTopic(topic)));
    const partitions = topics.map(({ partitionDetails }) => partitionDetails);
    return [await admin.listTransactions(), described, partitions, dead];
  }

  #failed(text: string): void {
    if (this.failures.length < MAX_FAILURES) this.failures.push(text);
    this.conditions.changed();
  }
}

function isPipeline({ role }: Slot): boolean {
  return role.endsWith('-pipeline');
}
