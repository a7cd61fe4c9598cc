/** What a kind of server is: how to start one with its own directory and ports, and what its configuration is then. */

export type ServerName = 'naru' | 'kafka' | 'nats' | 'redis' | 'rabbitmq';
export const SERVER_NAMES: readonly ServerName[] = ['naru', 'kafka', 'nats', 'redis', 'rabbitmq'];

/** `fsync`: what is acknowledged is on the disk. `no-fsync`: the operating system has it, or will have it soon. */
export type Durability = 'fsync' | 'no-fsync';

export interface ServerAddress {
  readonly host: string;
  readonly port: number;
  /** Of RabbitMQ's stream protocol. */
  readonly streamPort?: number | undefined;
}

/** One program to start. */
export interface Launch {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** A server that could be started: its directory and ports are chosen. */
export interface ServerPlan {
  readonly address: ServerAddress;
  readonly launch: Launch;
  /** Started before it, and ended with it. */
  readonly companions?: readonly Launch[] | undefined;
  /** What it is told that is not its default, for people. */
  readonly configuration: string;
  /** Once, before the first start: files, formatting. */
  prepare(): Promise<void>;
}

export interface PlanOptions {
  readonly durability: Durability;
  /** Empty, and its own. */
  readonly directory: string;
  /** For the latency of publishing: what happens from time to time happens often, so that it is measured. */
  readonly frequentCheckpoints: boolean;
}

export interface ServerKind {
  readonly name: ServerName;
  /** The durability classes that are different settings of the server; of others the client's choice decides. */
  readonly durabilities: readonly Durability[];
  /** Where its directories have to be; undefined for anywhere. */
  readonly directories?: (() => string) | undefined;
  /** Why it cannot be started here, and how to get it; null when it can. */
  missing(): string | null;
  version(): string;
  plan(options: PlanOptions): Promise<ServerPlan>;
}
