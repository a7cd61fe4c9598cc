/** Calls of the schema registry's REST API: settings, time-outs, and errors as the command line shows them. */
import { NaruError } from '@naru/protocol';
import type { Terminal } from './terminal.ts';

const CONTENT_TYPE = 'application/vnd.schemaregistry.v1+json';

export class RegistryConnection {
  readonly #brokers: readonly string[];
  readonly #timeoutMs: number;

  private constructor(brokers: readonly string[], timeoutMs: number) {
    this.#brokers = brokers;
    this.#timeoutMs = timeoutMs;
  }

  /** @throws NaruError INVALID_CONFIGURATION */
  static async open({ environment }: Terminal, options: { readonly broker?: string }): Promise<RegistryConnection> {
    const { loadSettings } = await import('@naru/client');
    const overlay = options.broker === undefined ? environment : { ...environment, NARU_BROKERS: options.broker };
    const { brokers, requestTimeoutMs } = await loadSettings(undefined, overlay);
    return new RegistryConnection(brokers, requestTimeoutMs);
  }

  /**
   * Asks the first broker that answers.
   *
   * @returns the answer as JSON
   * @throws NaruError NETWORK, or what the registry says
   */
  async call<T>(method: 'GET' | 'POST', path: string, body?: unknown): Promise<T> {
    const response = await this.#fetch(path, {
      method,
      headers: { accept: CONTENT_TYPE, ...(body === undefined ? {} : { 'content-type': CONTENT_TYPE }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    const text = await response.text();
    const answer = parsed(text);
    if (response.ok && answer !== undefined) return answer as T;
    throw registryError(response.status, answer);
  }

  async #fetch(path: string, init: RequestInit): Promise<Response> {
    let last: unknown;
    for (const broker of this.#brokers) {
      try {
        return await fetch(`http://${broker}${path}`, { ...init, signal: AbortSignal.timeout(this.#timeoutMs) });
      } catch (error) {
        last = error;
      }
    }
    const cause = (last as { cause?: unknown } | undefined)?.cause ?? last;
    const why = cause instanceof Error ? cause.message : String(cause);
    const message = `no broker answers at ${this.#brokers.join(', ')}: ${why}. Is one running there? "naru start" starts one`;
    throw new NaruError('NETWORK', message, { cause: last });
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function registryError(status: number, answer: unknown): NaruError {
  const { error_code: code, message } = (answer ?? {}) as { readonly error_code?: unknown; readonly message?: unknown };
  if (typeof message !== 'string') {
    return new NaruError('UNSUPPORTED', `the broker answers with HTTP ${status}: it has no schema registry`);
  }
  const text = `${message}${typeof code === 'number' ? ` [${code}]` : ''}`;
  return new NaruError(status >= 500 ? 'NOT_READY' : 'INVALID_REQUEST', text);
}
