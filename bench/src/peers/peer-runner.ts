/**
 * Runs a scenario: its servers are started, every subject is warmed up, and then all are measured in turn (A B C A B C …), so
 * that a slow minute of the machine is all of theirs. A subject that fails is left out from then on, and its failure is told.
 */
import { spawnSync } from 'node:child_process';
import { durabilityOf } from '../peer-clients/clients.ts';
import type { PeerMeasurement, PeerScenario, Subject } from './peer-scenario.ts';
import { subjectName } from './peer-scenario.ts';
import { PeerServer } from '../peer-servers/peer-server.ts';
import { serverKinds } from '../peer-servers/server-kinds.ts';
import { SubjectRun } from './subject-run.ts';
import type { PeerSettings } from './subject-run.ts';

const WARM_UPS = 2;
const WARM_UP_SHARE = 0.5;
/** Of one run, or of one preparation: what takes longer hangs. */
const RUN_LIMIT_MS = 900_000;
const QUICK_RUN_LIMIT_MS = 60_000;
/** Servers are quiet when all together use less of a core than this. */
const QUIET_SHARE = 0.1;
const QUIET_LOOK_MS = 250;
const QUIET_LOOKS = 40;

export interface SubjectResult {
  readonly subject: Subject;
  readonly name: string;
  readonly runs: readonly PeerMeasurement[];
  /** What its server was told. */
  readonly configuration: string;
  readonly commandLine: string;
}

export interface ScenarioResult {
  readonly scenario: PeerScenario;
  readonly subjects: readonly SubjectResult[];
  readonly failures: readonly { readonly subject: string; readonly error: string }[];
}

export interface PeerRunnerOptions {
  readonly settings: PeerSettings;
  readonly rounds: number;
  /** Without warm-ups. */
  readonly isQuick: boolean;
  readonly wants: (subject: Subject) => boolean;
  /** Without a line's end. */
  readonly progress: (text: string) => void;
  readonly say: (text: string) => void;
}

interface Entry {
  readonly run: SubjectRun;
  readonly name: string;
  readonly server: PeerServer | null;
  readonly runs: PeerMeasurement[];
  isFailed: boolean;
}

export class PeerRunner {
  readonly #scenario: PeerScenario;
  readonly #options: PeerRunnerOptions;
  readonly #servers = new Map<string, PeerServer>();
  readonly #failures: { subject: string; error: string }[] = [];

  constructor(scenario: PeerScenario, options: PeerRunnerOptions) {
    this.#scenario = scenario;
    this.#options = options;
  }

  async run(): Promise<ScenarioResult> {
    const entries: Entry[] = [];
    try {
      for (const subject of this.#scenario.subjects.filter(this.#options.wants)) {
        const entry = await this.#open(subject);
        if (entry !== null) entries.push(entry);
      }
      for (let round = 1; round <= this.#options.rounds; round++) {
        for (const entry of entries) {
          const text = `${this.#scenario.name}: ${entry.name}, round ${round} of ${this.#options.rounds}`;
          await this.#try(entry, text, async () => {
            entry.runs.push(await this.#scenario.run(entry.run));
          });
        }
      }
    } finally {
      for (const server of this.#servers.values()) await server.end();
    }
    const subjects = entries
      .filter(({ runs }) => runs.length > 0)
      .map(({ run: { subject }, name, runs, server }) => ({
        subject,
        name,
        runs,
        configuration: server?.configuration ?? '',
        commandLine: server?.commandLine ?? '',
      }));
    return { scenario: this.#scenario, subjects, failures: this.#failures };
  }

  /** With its server started and warmed up; null when that fails. */
  async #open(subject: Subject): Promise<Entry | null> {
    const name = subjectName(subject);
    this.#options.progress(`${this.#scenario.name}: ${name}, starting`);
    try {
      const server = subject.server === 'bare' ? null : await this.#serverOf(subject, subject.server);
      const run = new SubjectRun(subject, server, this.#options.settings);
      const entry: Entry = { run, name, server, runs: [], isFailed: false };
      await this.#try(entry, `${this.#scenario.name}: ${name}, preparing`, () => this.#scenario.prepare?.(run));
      const warmUps = this.#options.isQuick ? 0 : (this.#scenario.warmUps ?? WARM_UPS);
      run.warmUp(WARM_UP_SHARE);
      for (let warmUp = 1; warmUp <= warmUps; warmUp++) {
        await this.#try(entry, `${this.#scenario.name}: ${name}, warming up`, () => this.#scenario.run(run));
      }
      run.endWarmUp();
      return entry;
    } catch (error) {
      this.#fail(name, error);
      return null;
    }
  }

  async #serverOf({ durability, client, variant }: Subject, name: keyof typeof serverKinds): Promise<PeerServer> {
    const kind = serverKinds[name];
    const known = kind.durabilities.find((one) => one === durability) ?? kind.durabilities[0] ?? durability;
    const own = this.#scenario.serverPerVariant === true && variant !== undefined ? `, ${variant}` : '';
    const key = `${name} ${known}${own}`;
    let server = this.#servers.get(key);
    if (server === undefined) {
      const { frequentCheckpoints } = this.#scenario;
      const directories = this.#options.settings.directory;
      server = await PeerServer.start(kind, { durability: known, directories, frequentCheckpoints });
      this.#servers.set(key, server);
      this.#options.say(`${key}:\n${indented(`${server.commandLine}\n${server.configuration}`)}`);
    }
    if (client !== 'kafka-tools' && client !== 'none' && durabilityOf(client, known) !== durability) {
      throw new Error(`${client} on ${name} is ${durabilityOf(client, known)}`);
    }
    return server;
  }

  async #try(entry: Entry, text: string, work: () => Promise<unknown> | undefined): Promise<void> {
    if (entry.isFailed) return;
    this.#options.progress(text);
    try {
      await this.#quiet();
      await limited(work(), this.#options.isQuick ? QUICK_RUN_LIMIT_MS : RUN_LIMIT_MS);
    } catch (error) {
      entry.isFailed = true;
      this.#fail(entry.name, error);
    } finally {
      await entry.run.endRound();
    }
  }

  /** What was written before is on the disk, and no server is still busy with it. */
  async #quiet(): Promise<void> {
    spawnSync('sync', ['-f', this.#options.settings.directory]);
    const used = (): number => [...this.#servers.values()].reduce((sum, server) => sum + server.usage().cpuSeconds, 0);
    for (let look = 0; look < QUIET_LOOKS; look++) {
      const before = used();
      await new Promise((resolve) => setTimeout(resolve, QUIET_LOOK_MS));
      if (used() - before <= (QUIET_SHARE * QUIET_LOOK_MS) / 1_000) return;
    }
  }

  #fail(subject: string, error: unknown): void {
    const text = described(error);
    this.#failures.push({ subject, error: text });
    this.#options.say(`${this.#scenario.name}: ${subject} failed: ${text}`);
  }
}

function described(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const causes = error instanceof AggregateError ? error.errors : error.cause === undefined ? [] : [error.cause];
  return [error.message, ...causes.map(described)].join(': ');
}

async function limited(work: Promise<unknown> | undefined, limitMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${limitMs / 1_000} s`)), limitMs);
  });
  try {
    await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function indented(text: string): string {
  return text.trimEnd().replaceAll(/^/gm, '    ');
}
