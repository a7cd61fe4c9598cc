/** What a scenario is, and what it has to work with. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { SettingsInput } from '@naru/client';
import type { LoadResult, Measurement, ProcessUse } from './measurement.ts';
import type { RoleName, RoleOptions } from './worker/roles.ts';
import { WorkerProcess } from './worker/worker-process.ts';

export interface Scenario {
  readonly name: string;
  /** One line for the table. */
  readonly what: string;
  /** Takes minutes: only run when it, or its comparison, is named. */
  readonly isLong?: boolean | undefined;
  /** Starts what it needs, measures, and leaves nothing; `bench` cleans up after it. */
  run(bench: ScenarioRun): Promise<Measurement>;
}

/** What a ratio of two scenarios should be; said in the report, never enforced. */
export interface Target {
  readonly subject: string;
  /** The one with the lowest figure counts. */
  readonly limits: readonly string[];
  readonly what: string;
  readonly isReached: (subject: Measurement, limit: Measurement) => boolean;
}

/** Scenarios that are run in turn and stand beside each other in one table. */
export interface Comparison {
  readonly name: string;
  readonly title: string;
  readonly kind: 'throughput' | 'latency' | 'recovery';
  readonly subjects: readonly Scenario[];
  readonly limits: readonly Scenario[];
  readonly targets: readonly Target[];
  /** All its measurements are of the same processes, in turn: {@link ScenarioRun.once}. Default: each has its own. */
  readonly sharesProcesses?: boolean | undefined;
}

export interface RunSettings {
  /** Of one measurement. */
  readonly seconds: number;
  readonly warmUpSeconds: number;
  /** Bytes that a broker has stored at most when its start is measured. */
  readonly storedBytes: number;
  /** Events that consumers read. */
  readonly consumedEvents: number;
  /** Where brokers keep their data: on a real disk. */
  readonly dataDirectory: string;
  readonly profileDirectory: string | undefined;
  readonly sdkSettings: SdkSettings;
}

/** Settings of the SDK that are not its defaults. */
export type SdkSettings = Omit<SettingsInput, 'brokers'>;

/** One run: its processes and directories, which end with it. */
export class ScenarioRun {
  readonly settings: RunSettings;
  readonly #name: string;
  readonly #workers: WorkerProcess[] = [];
  readonly #directories: string[] = [];
  readonly #opened = new Map<string, Promise<unknown>>();

  constructor(settings: RunSettings, name: string) {
    this.settings = settings;
    this.#name = name;
  }

  /** A worker process. @param title what the report calls it */
  async start<N extends RoleName>(role: N, options: RoleOptions<N>, title: string): Promise<WorkerProcess<N>> {
    const worker = await WorkerProcess.start(role, options, { title: `${this.#name}.${title}` });
    this.#workers.push(worker);
    return worker;
  }

  /** What `open` gave the first time, for measurements that share processes. @param name the same for the same type */
  once<T>(name: string, open: () => Promise<T>): Promise<T> {
    const opened = (this.#opened.get(name) as Promise<T> | undefined) ?? open();
    this.#opened.set(name, opened);
    return opened;
  }

  /** A directory on a real disk, empty. */
  async directory(): Promise<string> {
    await mkdir(this.settings.dataDirectory, { recursive: true });
    const path = await mkdtemp(join(this.settings.dataDirectory, 'data-'));
    this.#directories.push(path);
    return path;
  }

  /** Runs `load` and adds what every process of this run used meanwhile. */
  async measure(load: () => Promise<LoadResult>): Promise<Measurement> {
    const { profileDirectory } = this.settings;
    if (profileDirectory !== undefined) await Promise.all(this.#workers.map((worker) => worker.startProfile()));
    const before = await Promise.all(this.#workers.map((worker) => worker.usage()));
    const result = await load();
    const after = await Promise.all(this.#workers.map((worker) => worker.usage()));
    if (profileDirectory !== undefined) {
      const path = (title: string): string => join(profileDirectory, `${title}.cpuprofile`);
      await Promise.all(this.#workers.map((worker) => worker.writeProfile(path(worker.title))));
    }
    const processes = this.#workers.map(({ title }, index): ProcessUse => ({
      process: title.slice(this.#name.length + 1),
      cpuSeconds: (after[index]?.cpuSeconds ?? 0) - (before[index]?.cpuSeconds ?? 0),
      peakRssBytes: after[index]?.peakRssBytes ?? 0,
    }));
    return { ...result, processes };
  }

  /** Ends the processes, the latest first, and removes the directories. */
  async end(): Promise<void> {
    for (const worker of this.#workers.reverse()) await worker.stop();
    for (const path of this.#directories) await rm(path, { recursive: true, force: true });
  }
}
