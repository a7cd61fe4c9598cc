/** Requests to a schema registry: addresses, time-outs, retries, and what its answers mean. */
import type { Random, Timers } from '@naru/base';
import { delay } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { BackoffPolicy } from '../../backoff.ts';
import { backoffMs } from '../../backoff.ts';
import { withDeadline } from '../../call-options.ts';
import { SerializationError, messageOf } from '../serialization-error.ts';

const CONTENT_TYPE = 'application/vnd.schemaregistry.v1+json';
/** Bytes of an answer: the largest schemas have a few MiB. */
const MAX_ANSWER_BYTES = 16 * 1024 * 1024;
const MAX_MESSAGE_CHARACTERS = 500;

export interface RegistryHttpOptions {
  /** Tried in turn. */
  readonly urls: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
  readonly fetch: typeof fetch;
  readonly timeoutMs: number;
  readonly attempts: number;
  readonly backoff: BackoffPolicy;
  readonly timers: Timers;
  readonly random: Random;
}

/** The registry said no: the same request will be refused again. */
export class RegistryRefusal extends SerializationError {
  override readonly name = 'RegistryRefusal';
  /** HTTP's. */
  readonly status: number;
  /** The registry's own, such as 40403; the status where it gave none. */
  readonly errorCode: number;

  constructor(message: string, status: number, errorCode: number) {
    super(message, { format: 'schema registry' });
    this.status = status;
    this.errorCode = errorCode;
  }
}

export class RegistryHttp {
  readonly #options: RegistryHttpOptions;

  constructor(options: RegistryHttpOptions) {
    this.#options = options;
  }

  /**
   * @param path its parts are escaped
   * @throws RegistryRefusal; NaruError NETWORK after the last attempt; INVALID_CONFIGURATION when this is no registry, or it
   *   wants other credentials
   */
  async call(method: 'GET' | 'POST', path: readonly string[], body?: unknown): Promise<unknown> {
    const { attempts, backoff, random, timers, urls } = this.#options;
    const resource = path.map(encodeURIComponent).join('/');
    for (let failures = 1; ; failures++) {
      try {
        return await this.#attempt(method, `${urls[(failures - 1) % urls.length]}/${resource}`, body);
      } catch (error) {
        const again = error instanceof NaruError && error.retriable && failures < attempts;
        if (!again) throw error;
        await delay(timers, backoffMs(backoff, failures, random));
      }
    }
  }

  async #attempt(method: string, url: string, body: unknown): Promise<unknown> {
    const { fetch: send, headers, timeoutMs, timers } = this.#options;
    const what = `schema registry: ${method} ${url}`;
    let answer: { status: number; text: string };
    try {
      answer = await withDeadline(timers, undefined, timeoutMs, what, async (signal) => {
        const response = await send(url, {
          method,
          headers: {
            accept: CONTENT_TYPE,
            ...(body === undefined ? {} : { 'content-type': CONTENT_TYPE }),
            ...headers,
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          signal,
          redirect: 'follow',
        });
        return { status: response.status, text: await readAnswer(response, what) };
      });
    } catch (error) {
      if (error instanceof NaruError) throw error;
      const cause = error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : '';
      throw new NaruError('NETWORK', `${what}: ${messageOf(error)}${cause}`, { cause: error });
    }
    return understand(answer.status, answer.text, what);
  }
}

async function readAnswer(response: Response, what: string): Promise<string> {
  if (response.body === null) return '';
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > MAX_ANSWER_BYTES) {
      throw new NaruError('INVALID_CONFIGURATION', `${what}: the answer has more than ${MAX_ANSWER_BYTES} bytes`);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function understand(status: number, text: string, what: string): unknown {
  const answer = parse(text);
  if (status >= 200 && status < 300 && answer !== undefined) return answer;
  const { error_code: code, message } = (answer ?? {}) as { error_code?: unknown; message?: unknown };
  const said = (typeof message === 'string' ? message : text).slice(0, MAX_MESSAGE_CHARACTERS);
  const full = `${what}: ${status}${said === '' ? '' : `: ${said}`}`;
  if (status >= 500 || status === 429 || status === 408) throw new NaruError('NETWORK', full);
  if (typeof code === 'number' && status !== 401 && status !== 403) throw new RegistryRefusal(full, status, code);
  throw new NaruError(
    'INVALID_CONFIGURATION',
    status < 300 ? `${what}: the answer is not JSON; is this a registry?` : full,
  );
}

function parse(text: string): unknown {
  try {
    const answer = JSON.parse(text) as unknown;
    return typeof answer === 'object' && answer !== null ? answer : undefined;
  } catch {
    return undefined;
  }
}
