/** What a log line carries beside its message. Never secrets, never payloads. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Diagnostics for operators. The broker passes pino, the SDK whatever its user passes; both are silent by default in tests. */
export interface Logger {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

const nothing = (): void => {};

export const silentLogger: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };
