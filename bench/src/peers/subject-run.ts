/** One subject through all rounds of a scenario: its server, the processes of its load, and how much it is given to do. */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { LoadResult, ProcessUse } from '../measurement.ts';
import type { RoleName, RoleOptions } from '../worker/roles.ts';
import { WorkerProcess } from '../worker/worker-process.ts';
import type { PeerMeasurement, Subject } from './peer-scenario.ts';
import type { PeerServer } from '../peer-servers/peer-server.ts';
import { endedChildrenCpuSeconds } from '../peer-servers/process-tree.ts';

export interface PeerSettings {
  /** About how long a measurement takes. */
  readonly seconds: number;
  /** Bytes of one measurement at most. */
  readonly maxBytes: number;
  /** Bytes that are stored for reading, and before a recovery. */
  readonly storedBytes: number;
  /** Events of the first warm-up. */
  readonly warmUpEvents: number;
  /** Where servers keep their data: on a real disk. */
  readonly directory: string;
}

/** What a tool's own start takes would otherwise be most of what it measures. */
const MIN_EVENTS = 2_000;
/** However long a load needs for itself, so much of its time counts as work. */
const MIN_SHARE_AT_WORK = 0.3;

export class SubjectRun {
  readonly subject: Subject;
  readonly settings: PeerSettings;
  /** For scenarios: what they keep from `prepare` on. */
  readonly kept: { topic?: string; events?: number } = {};
  readonly #server: PeerServer | null;
  #workers: WorkerProcess[] = [];
  #directories: string[] = [];
  #topics = 0;
  #last: Pick<LoadResult, 'events' | 'seconds'> | null = null;
  #eventsOfRound: number | null = null;
  #share = 1;

  constructor(subject: Subject, server: PeerServer | null, settings: PeerSettings) {
    this.subject = subject;
    this.#server = server;
    this.settings = settings;
  }

  get server(): PeerServer {
    if (this.#server === null) throw new Error('this subject has no server');
    return this.#server;
  }

  /** Different with every call. */
  nextTopic(): string {
    this.#topics += 1;
    return `${this.subject.client}-${this.#topics}`.replaceAll(/[^a-z0-9-]/g, '-');
  }

  /**
   * How many events of `bytes` fill the time of a measurement, going by the last warm-up; the same in all rounds.
   *
   * @param firstEvents in the first warm-up
   * @param ownSeconds of what was measured, that the load needs for itself before it is at work
   */
  eventsOf(bytes: number, firstEvents = this.settings.warmUpEvents, ownSeconds = 0): number {
    if (this.#eventsOfRound !== null) return this.#eventsOfRound;
    const { seconds, maxBytes } = this.settings;
    let wanted = firstEvents;
    if (this.#last !== null) {
      const atWork = Math.max(this.#last.seconds - ownSeconds, this.#last.seconds * MIN_SHARE_AT_WORK);
      wanted = Math.round((this.#last.events / atWork) * seconds * this.#share);
    }
    const events = Math.max(MIN_EVENTS, Math.min(wanted, Math.floor(maxBytes / bytes)));
    if (this.#share === 1) this.#eventsOfRound = events;
    return events;
  }

  /** Of the time of a measurement, in what follows. */
  get share(): number {
    return this.#share;
  }

  /** Until the rounds that count: less. */
  warmUp(share: number): void {
    this.#share = share;
  }

  endWarmUp(): void {
    this.#share = 1;
  }

  /** A process of this round. @param title what the report calls it */
  async start<N extends RoleName>(role: N, options: RoleOptions<N>, title: string): Promise<WorkerProcess<N>> {
    const worker = await WorkerProcess.start(role, options, { title });
    this.#workers.push(worker);
    return worker;
  }

  async directory(): Promise<string> {
    await mkdir(this.settings.directory, { recursive: true });
    const path = await mkdtemp(join(this.settings.directory, 'bare-'));
    this.#directories.push(path);
    return path;
  }

  /** Runs `load`, and adds what server and clients used meanwhile. */
  async measure(load: () => Promise<LoadResult>): Promise<PeerMeasurement> {
    this.#server?.resetPeak();
    // Processes that `load` starts are counted from their beginning.
    const usedBefore = new Map<WorkerProcess, number>();
    for (const worker of this.#workers) usedBefore.set(worker, (await worker.usage()).cpuSeconds);
    const childrenBefore = endedChildrenCpuSeconds();
    const cpuBefore = this.#server?.usage().cpuSeconds ?? 0;
    const result = await load();
    const used = this.#server?.usage() ?? { cpuSeconds: 0, rssBytes: 0, peakRssBytes: 0 };
    const children = endedChildrenCpuSeconds() - childrenBefore;
    const workers = [...this.#workers];
    const after = await Promise.all(workers.map((worker) => worker.usage()));
    const clients = workers.map((worker, index): ProcessUse => ({
      process: worker.title,
      cpuSeconds: (after[index]?.cpuSeconds ?? 0) - (usedBefore.get(worker) ?? 0),
      peakRssBytes: after[index]?.peakRssBytes ?? 0,
    }));
    if (children > 0) clients.push({ process: 'tool', cpuSeconds: children, peakRssBytes: 0 });
    this.#last = result;
    return { ...result, server: { ...used, cpuSeconds: used.cpuSeconds - cpuBefore }, clients };
  }

  /** Ends what a round has started. */
  async endRound(): Promise<void> {
    const workers = this.#workers.splice(0).reverse();
    for (const worker of workers) await worker.stop();
    for (const path of this.#directories.splice(0)) await rm(path, { recursive: true, force: true });
  }
}
