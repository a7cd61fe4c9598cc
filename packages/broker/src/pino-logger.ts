/**
 * The broker's diagnostics through pino: JSON lines on stderr for collectors, or short lines for a person.
 *
 * Written asynchronously, so that a slow reader of stderr does not stall the broker; what is still buffered is written when
 * the process exits. Pino is loaded when it is asked for: a broker inside a test does without.
 */
import type { LogFields, Logger } from '@naru/base';

const STDERR = 2;

export interface PinoLoggerOptions {
  readonly level: 'silent' | 'error' | 'warn' | 'info' | 'debug';
  /** Lines for people in place of JSON. Default false. */
  readonly isForPeople?: boolean | undefined;
  /** File descriptor. Default 2, stderr. */
  readonly fd?: number | undefined;
}

export async function pinoLogger(options: PinoLoggerOptions): Promise<Logger> {
  const { pino } = await import('pino');
  const destination = pino.destination({ fd: options.fd ?? STDERR, sync: false });
  const stream =
    options.isForPeople === true ? { write: (line: string) => destination.write(personLine(line)) } : destination;
  const logger = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (level) => ({ level }) },
      serializers: { error: pino.stdSerializers.err },
    },
    stream,
  );
  return {
    debug: (fields: LogFields, message: string) => logger.debug(fields, message),
    info: (fields: LogFields, message: string) => logger.info(fields, message),
    warn: (fields: LogFields, message: string) => logger.warn(fields, message),
    error: (fields: LogFields, message: string) => logger.error(fields, message),
  };
}

/** `{"level":"info","time":"2026-01-31T08:00:00.123Z","port":9092,"msg":"…"}` → `08:00:00.123 info  … port=9092`. */
export function personLine(json: string): string {
  const { level, time, msg, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const shown = Object.entries(fields).map(([name, value]) => {
    const isPlain = typeof value === 'string' && /^[^\s"=\p{Cc}]+$/u.test(value);
    return ` ${name}=${isPlain ? value : JSON.stringify(value)}`;
  });
  return `${String(time).slice(11, 23)} ${String(level).padEnd(5)} ${String(msg)}${shown.join('')}\n`;
}
