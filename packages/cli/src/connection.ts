/** The SDK's connection that a command works with: made from settings and options, closed whatever happens. */
import { systemClock, systemRandom, systemTimers, type Logger, type LogFields } from '@naru/base';
import type { Naru, Transport } from '@naru/client';
import { isNaruError, NaruError } from '@naru/protocol';
import { say, type Terminal } from './terminal.ts';

/**
 * Runs `work` with a connection. A broker that cannot be reached fails at once: a person waits for the answer.
 *
 * @throws NaruError NETWORK, INVALID_CONFIGURATION, and what `work` throws
 */
export async function withNaru<T>(
  terminal: Terminal,
  options: { readonly broker?: string },
  work: (naru: Naru, transport: Transport) => Promise<T>,
): Promise<T> {
  const { ConnectTransport, loadSettings, Naru } = await import('@naru/client');
  const { environment } = terminal;
  const overlay = options.broker === undefined ? environment : { ...environment, NARU_BROKERS: options.broker };
  const settings = await loadSettings(undefined, overlay);
  const runtime = { clock: systemClock, timers: systemTimers, random: systemRandom, logger: sdkLogger(terminal) };
  const transport = new ConnectTransport({ brokers: settings.brokers });
  await using naru = new Naru(settings, transport, runtime);
  await reach(naru);
  return await work(naru, transport);
}

/** Calls with one answer to the broker's services. */
export interface BrokerLink {
  /** Rejects with REQUEST_TIMED_OUT when the signal aborts first. */
  readonly call: Transport['call'];
  /** The settings' time-out, from now on. */
  readonly limit: () => AbortSignal;
}

/**
 * Runs `work` with calls to the broker's services, as {@link withNaru}.
 *
 * @throws NaruError as {@link withNaru}
 */
export function withBroker<T>(
  terminal: Terminal,
  options: { readonly broker?: string },
  work: (broker: BrokerLink) => Promise<T>,
): Promise<T> {
  return withNaru(terminal, options, ({ settings: { requestTimeoutMs } }, transport) =>
    work({
      limit: () => AbortSignal.timeout(requestTimeoutMs),
      call: async (method, request, signal) => {
        try {
          return await transport.call(method, request, signal);
        } catch (error) {
          if (!signal.aborted) throw error;
          const message = `${method.localName} took longer than ${requestTimeoutMs} ms`;
          throw new NaruError('REQUEST_TIMED_OUT', message, { cause: error });
        }
      },
    }),
  );
}

/** Asks each broker once. */
async function reach(naru: Naru): Promise<void> {
  const { brokers, connectTimeoutMs, requestTimeoutMs } = naru.settings;
  const timeoutMs = connectTimeoutMs === 0 ? requestTimeoutMs : connectTimeoutMs;
  let last: NaruError | null = null;
  // After a failed connection the transport goes on to the next broker.
  for (let attempt = 0; attempt < brokers.length; attempt++) {
    try {
      await naru.admin.describeCluster({ timeoutMs });
      return;
    } catch (error) {
      if (!isNaruError(error, 'NETWORK', 'REQUEST_TIMED_OUT')) throw error;
      last = error;
    }
  }
  const tried = brokers.length === 1 ? '' : ` (tried ${brokers.join(', ')})`;
  const message = `no broker answers${tried}: ${last?.message}. Is one running there? "naru start" starts one`;
  throw new NaruError('NETWORK', message, { cause: last });
}

/** Shows what the SDK warns of; the rest is for programs. What is said again and again is shown once. */
function sdkLogger(terminal: Terminal): Logger {
  let last = '';
  const tell =
    (level: string) =>
    ({ error }: LogFields, message: string): void => {
      const text = `${level}: ${message}${typeof error === 'string' ? `: ${error}` : ''}`;
      if (text !== last) say(terminal, text);
      last = text;
    };
  return { debug: () => {}, info: () => {}, warn: tell('warning'), error: tell('error') };
}
