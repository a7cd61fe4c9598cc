/** What the bench and its worker processes say to each other over the process channel. */

/** What a process has used since it began. */
export interface Usage {
  /** User and system time, seconds. */
  readonly cpuSeconds: number;
  readonly peakRssBytes: number;
}

export interface WorkerRequest {
  readonly id: number;
  /** A command of the role, or one that every worker has: main.ts. */
  readonly command: string;
  readonly argument: unknown;
}

export type WorkerReply =
  | { readonly id: number; readonly ok: true; readonly value: unknown }
  | { readonly id: number; readonly ok: false; readonly error: string };

/** The id of the reply that says that a role is open; its value is the role's `ready`. */
export const READY_ID = 0;

/** One piece of work in a process of its own. */
export interface Role {
  /** What whoever started it has to know, such as a port. */
  readonly ready: unknown;
  readonly commands: Readonly<Record<string, (argument: never) => unknown>>;
  close(): Promise<void> | void;
}
