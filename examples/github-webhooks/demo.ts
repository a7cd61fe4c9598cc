/**
 * A stream of GitHub webhooks, three services, and a broker that is killed while all of them work.
 *
 *   npm run demo [-- --events N] [--rate EVENTS_PER_SECOND] [--smoke]
 *
 * Exits with 1 if anything was lost, out of order or twice in the log. This file is the demo's course; how to publish is in
 * publisher.ts, how to subscribe in team.ts and services/.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { connect } from '@naru/client';
import type { Catalog, Naru } from '@naru/client';
import { BrokerProcess } from './broker-process.ts';
import { loadCatalog, soundness } from './catalog.ts';
import { DeliveryAccount } from './delivery-account.ts';
import { POISON, Poison } from './poison.ts';
import type { PoisonOutcome } from './poison.ts';
import { Progress, number } from './progress.ts';
import type { ProgressState } from './progress.ts';
import { publishAll } from './publisher.ts';
import { problems, report } from './report.ts';
import type { GroupOutcome, Outcome } from './report.ts';
import { Auditor } from './services/auditor.ts';
import { Notifier } from './services/notifier.ts';
import { SearchIndexer } from './services/search-indexer.ts';
import { Team } from './team.ts';
import type { Watcher } from './team.ts';
import { SEQUENCE_HEADER, TOPIC, replay } from './webhooks.ts';

const USAGE = `Usage: npm run demo [-- OPTIONS]

  --events N   webhooks to publish (default 24000)
  --rate N     of them a second; 0 for as fast as it goes (default 1000)
  --smoke      the same in a few seconds, with fewer events
  --help
`;
const FULL = { events: 24_000, rate: 1_000 };
const SMOKE = { events: 5_000, rate: 1_000 };
/** Without an event handled for this long, what is missing counts as lost. */
const STALL_TIMEOUT_MS = 20_000;
const LOOK_INTERVAL_MS = 20;
const EXIT_WRONG = 1;
const EXIT_USAGE = 2;
const EXIT_INTERRUPTED = 130;

interface Options {
  readonly events: number;
  readonly rate: number;
}

class Demo {
  readonly #options: Options;
  readonly #broker: BrokerProcess;
  readonly #naru: Naru;
  /** Publishes by event name. */
  readonly #publisher: Naru;
  readonly #teams: readonly Team[];
  readonly #account: DeliveryAccount;
  readonly #progress: Progress;
  /** Aborts when the demo is interrupted, or a member of a team has failed. */
  readonly #signal: AbortSignal;
  #brokerState = 'serves';
  #acknowledged = 0;
  #failed = 0;
  #firstFailure: string | undefined;
  #restartMs = 0;
  readonly #poison: Poison;
  #poisoned: PoisonOutcome | null = null;

  constructor(options: Options, interrupted: AbortSignal, broker: BrokerProcess, naru: Naru, publisher: Naru) {
    this.#options = options;
    this.#broker = broker;
    this.#naru = naru;
    this.#publisher = publisher;
    const failure = new AbortController();
    this.#signal = AbortSignal.any([interrupted, failure.signal]);
    const notifier = new Notifier(() => {});
    const services = [notifier, new Auditor(), new SearchIndexer()];
    this.#poison = new Poison(naru, notifier);
    const account = new DeliveryAccount(services.map(({ group }) => group));
    const watcher: Watcher = {
      assigned: (group, partitions) => {
        for (const { partition } of partitions) account.assigned(group, partition);
      },
      delivered: (group, { key, headers, partition, offset }) => {
        const sequence = Number(headers.get(SEQUENCE_HEADER));
        account.delivered(group, { key: key ?? '', sequence, partition, offset });
      },
      failed: (group, error) => failure.abort(new Error(`a member of ${group} has failed`, { cause: error })),
    };
    this.#account = account;
    this.#teams = services.map((service) => new Team(service, broker.address, watcher));
    this.#progress = new Progress(process.stderr, () => this.#state());
  }

  async run(): Promise<Outcome> {
    const { events, rate } = this.#options;
    try {
      await this.#naru.admin.createTopic(TOPIC, this.#catalog.topics.get(TOPIC));
      this.#publisher.onDelivery((delivery) => {
        if (delivery.ok) this.#acknowledged += 1;
        else this.#failed += 1;
        if (!delivery.ok) this.#firstFailure ??= `${delivery.error.code}: ${delivery.error.message}`;
      });
      for (const team of this.#teams) await team.join();
      const isSound = await soundness(this.#catalog);
      const beganMs = performance.now();
      let publishMs = 0;
      const publishing = publishAll(this.#publisher, replay(events, isSound), {
        rate,
        signal: this.#signal,
        handedOver: ({ key, sequence }) => this.#account.publish(key, sequence),
      }).then(() => {
        publishMs = performance.now() - beganMs;
      });
      await this.#orFailure(Promise.all([publishing, this.#disturb()]));
      await this.#handled();
      const totalMs = performance.now() - beganMs;
      await Promise.all(this.#teams.map((team) => team.close()));
      return await this.#outcome(publishMs, totalMs);
    } finally {
      this.#progress.stop();
    }
  }

  get #catalog(): Catalog {
    return this.#publisher.catalog as Catalog;
  }

  /** What happens to the services and the broker while events flow. */
  async #disturb(): Promise<void> {
    const notifier = this.#teams[0] as Team;
    await this.#published(0.15);
    this.#progress.say(`${await notifier.join()} joins`);
    await this.#published(0.2);
    await this.#publishPoison();
    await this.#published(0.25);
    this.#progress.say(`${await notifier.join()} joins`);
    await this.#published(0.45);
    await this.#killBroker();
    await this.#published(0.6);
    this.#progress.say('the notifier is repaired, and its dead letter redriven');
    this.#poisoned = await this.#poison.redrive(this.#signal);
    this.#progress.say('the dead letter was handled, and what was parked behind it');
    await this.#published(0.7);
    this.#progress.say(`${await notifier.leave()} has left`);
    await this.#published(0.85);
    this.#progress.say(`${await notifier.leave()} has left`);
  }

  async #publishPoison(): Promise<void> {
    for (const { key, sequence } of POISON) this.#account.publish(key, sequence);
    await this.#poison.publish();
    this.#acknowledged += POISON.length;
    const { attempts, parkedBehind } = await this.#poison.parked(this.#signal);
    const what = `a payload broke the notifier: a dead letter after ${attempts} attempts`;
    this.#progress.say(`${what}, ${parkedBehind} event of its key parked behind it`);
  }

  async #killBroker(): Promise<void> {
    await this.#broker.kill();
    this.#brokerState = 'KILLED';
    this.#progress.say('the broker was killed with SIGKILL; it starts again on the same files');
    this.#restartMs = await this.#broker.start(this.#signal);
    this.#brokerState = 'serves again';
    this.#progress.say(`the broker serves again after ${(this.#restartMs / 1000).toFixed(2)} s`);
  }

  /** Until this share of the events was published. */
  async #published(share: number): Promise<void> {
    const wanted = Math.floor(this.#options.events * share);
    while (this.#account.published < wanted) await sleep(LOOK_INTERVAL_MS, undefined, { signal: this.#signal });
  }

  /** Until every group has handled everything, or nothing has come for long. */
  async #handled(): Promise<void> {
    let last = { handled: -1, atMs: 0 };
    while (!this.#account.isComplete) {
      const handled = this.#account.accounts().reduce((sum, account) => sum + account.handled, 0);
      const nowMs = performance.now();
      if (handled > last.handled) last = { handled, atMs: nowMs };
      if (nowMs - last.atMs > STALL_TIMEOUT_MS) return;
      await sleep(LOOK_INTERVAL_MS, undefined, { signal: this.#signal });
    }
  }

  /** `work`, unless something else fails before. */
  async #orFailure(work: Promise<unknown>): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#signal.addEventListener('abort', () => reject(this.#signal.reason as Error), { once: true });
      work.then(() => resolve(), reject);
    });
  }

  async #outcome(publishMs: number, totalMs: number): Promise<Outcome> {
    const { admin } = this.#naru;
    const { partitionDetails } = await admin.describeTopic(TOPIC);
    const groups: GroupOutcome[] = [];
    for (const { service, mostMembers } of this.#teams) {
      const { offsets } = await admin.describeGroup(service.group);
      const lag = offsets.reduce((sum, offset) => sum + offset.lag, 0n);
      groups.push({ ...this.#account.account(service.group), mostMembers, lag, summary: service.summary() });
    }
    return {
      published: this.#account.published,
      keys: this.#account.keys,
      acknowledged: this.#acknowledged,
      failed: this.#failed,
      firstFailure: this.#firstFailure,
      stored: partitionDetails.reduce(
        (sum, { highWatermark, logStartOffset }) => sum + highWatermark - logStartOffset,
        0n,
      ),
      storedBytes: partitionDetails.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0n),
      duplicates: this.#account.duplicates,
      poison: this.#poisoned,
      groups,
      restartMs: this.#restartMs,
      publishMs,
      totalMs: Math.max(totalMs, publishMs),
    };
  }

  #state(): ProgressState {
    const groups = this.#teams.map(({ service: { group }, members }) => {
      const { handled, repeated } = this.#account.account(group);
      const note = `${members} member${members === 1 ? '' : 's'}${repeated > 0 ? `, ${number(repeated)} repeated` : ''}`;
      return { name: group, count: handled, note };
    });
    const violations = this.#account.accounts().reduce((sum, account) => sum + account.violations.size, 0);
    return {
      broker: `broker ${this.#broker.address} ${this.#brokerState}`,
      total: this.#options.events + POISON.length,
      rows: [{ name: 'published', count: this.#acknowledged, note: 'acknowledged' }, ...groups],
      footer: `keys out of order ${violations} · duplicates in the log ${this.#account.duplicates}`,
    };
  }
}

/** The exit code instead, when there is nothing to run. */
function readOptions(): Options | number {
  try {
    const { values } = parseArgs({
      options: {
        events: { type: 'string' },
        rate: { type: 'string' },
        smoke: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    });
    if (values.help === true) {
      process.stdout.write(USAGE);
      return 0;
    }
    const defaults = values.smoke === true ? SMOKE : FULL;
    return {
      events: wholeNumber('--events', values.events, defaults.events, 1),
      rate: wholeNumber('--rate', values.rate, defaults.rate, 0),
    };
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return EXIT_USAGE;
  }
}

function wholeNumber(option: string, text: string | undefined, fallback: number, minimum: number): number {
  if (text === undefined) return fallback;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= minimum) return value;
  throw new Error(`${option} takes a whole number, ${minimum} or more; got ${JSON.stringify(text)}`);
}

async function main(): Promise<number> {
  const options = readOptions();
  if (typeof options === 'number') return options;
  const interruption = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => interruption.abort(new Error(name)));
  const directory = await mkdtemp(join(tmpdir(), 'naru-demo-'));
  const broker = new BrokerProcess(join(directory, 'data'));
  try {
    await broker.start(interruption.signal);
    const naru = await connect({ brokers: [broker.address], clientId: 'demo' });
    const publisher = await connect(
      { brokers: [broker.address], clientId: 'webhook-publisher' },
      { catalog: await loadCatalog() },
    );
    const outcome = await new Demo(options, interruption.signal, broker, naru, publisher).run();
    process.stdout.write(report(outcome));
    await publisher.close();
    await naru.close();
    await broker.stop();
    return problems(outcome).length === 0 ? 0 : EXIT_WRONG;
  } catch (error) {
    if (interruption.signal.aborted) {
      process.stderr.write('interrupted\n');
      return EXIT_INTERRUPTED;
    }
    process.stderr.write(`the demo failed: ${error instanceof Error ? error.stack : String(error)}\n`);
    return EXIT_WRONG;
  } finally {
    await broker.kill();
    await rm(directory, { recursive: true, force: true });
  }
}

// Clients of a demo that was broken off still try to reach their broker: they are not waited for.
process.exit(await main());
