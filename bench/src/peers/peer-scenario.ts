/** What a scenario with peers is. */
import type { LoadResult, ProcessUse } from '../measurement.ts';
import type { ClientName } from '../peer-clients/clients.ts';
import type { Durability, ServerName } from '../peer-servers/server-kind.ts';
import type { SubjectRun } from './subject-run.ts';

/** A server with a client: what is measured in turn with others. */
export interface Subject {
  readonly server: ServerName | 'bare';
  /** As it comes out of the server's settings and the client's choice. */
  readonly durability: Durability;
  /** `kafka-tools`: Kafka's producer-perf-test and consumer-perf-test. */
  readonly client: ClientName | 'kafka-tools' | 'none';
  /** Of several with the same server and client. */
  readonly variant?: string | undefined;
}

export interface PeerMeasurement extends LoadResult {
  readonly server: { readonly cpuSeconds: number; readonly rssBytes: number; readonly peakRssBytes: number };
  /** Processes of the load. */
  readonly clients: readonly ProcessUse[];
}

/** A number of a measurement that is compared. */
export interface Figure {
  readonly name: string;
  readonly better: 'more' | 'less';
  readonly digits: number;
  /** Undefined where the measurement has no such number. */
  readonly of: (measured: PeerMeasurement) => number | undefined;
}

/** What a ratio should be: said in the report, never enforced. */
export interface PeerTarget {
  readonly what: string;
  readonly subject: string;
  readonly peer: string;
  readonly figure: string;
  /** How many times better the subject should be. */
  readonly atLeast: number;
  /** Where less is better: by so much it may be worse than that. */
  readonly allowance?: number | undefined;
}

export interface PeerScenario {
  readonly name: string;
  readonly title: string;
  /** What exactly is done and counted. */
  readonly what: string;
  readonly subjects: readonly Subject[];
  /** The first is the one that is drawn. */
  readonly figures: readonly Figure[];
  readonly targets: readonly PeerTarget[];
  /** Runs before the first that counts; default 2: a short one, and one of half the time. */
  readonly warmUps?: number | undefined;
  readonly frequentCheckpoints?: boolean | undefined;
  /** Whether each variant has a server of its own. Default: all subjects of a server and a class share one. */
  readonly serverPerVariant?: boolean | undefined;
  /** Once for each subject, before its warm-up. */
  prepare?(run: SubjectRun): Promise<void>;
  run(run: SubjectRun): Promise<PeerMeasurement>;
}

export function subjectName({ server, durability, client, variant }: Subject): string {
  const way = client === server || client === 'none' ? '' : ` (${client})`;
  return `${server}${way} ${durability}${variant === undefined ? '' : `, ${variant}`}`;
}
