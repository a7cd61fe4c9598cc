/** Deadlines and cancellation of public calls. */
import { toError } from '@naru/base';
import type { Timers } from '@naru/base';
import { NaruError } from '@naru/protocol';

/** Every asynchronous call takes these. */
export interface CallOptions {
  /** Aborting it rejects the call with ABORTED. */
  readonly signal?: AbortSignal | undefined;
  /** Milliseconds until the call rejects with REQUEST_TIMED_OUT. */
  readonly timeoutMs?: number | undefined;
}

/** What an aborted signal means to a caller. */
export function abortedError(signal: AbortSignal, what: string): NaruError {
  return new NaruError('ABORTED', `${what} was aborted by its signal`, { cause: signal.reason });
}

/**
 * Runs `work` until the options' signal aborts or their time is over; then rejects, and aborts the signal that `work` got.
 *
 * @param defaultTimeoutMs for options without `timeoutMs`; undefined for no limit
 * @param what for messages, such as "publish to orders"
 */
export function withDeadline<T>(
  timers: Timers,
  options: CallOptions | undefined,
  defaultTimeoutMs: number | undefined,
  what: string,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const outer = options?.signal;
  const timeoutMs = options?.timeoutMs ?? defaultTimeoutMs;
  if (outer?.aborted) return Promise.reject(abortedError(outer, what));
  const inner = new AbortController();
  return new Promise<T>((resolve, reject) => {
    const finish = (): void => {
      timer?.cancel();
      outer?.removeEventListener('abort', onAbort);
    };
    const stop = (error: NaruError): void => {
      finish();
      reject(error);
      inner.abort(error);
    };
    const onAbort = (): void => stop(abortedError(outer as AbortSignal, what));
    const timer =
      timeoutMs === undefined
        ? undefined
        : timers.after(timeoutMs, () =>
            stop(new NaruError('REQUEST_TIMED_OUT', `${what} took longer than ${timeoutMs} ms`)),
          );
    outer?.addEventListener('abort', onAbort, { once: true });
    work(inner.signal).then(
      (value) => {
        finish();
        resolve(value);
      },
      (error: unknown) => {
        finish();
        reject(toError(error));
      },
    );
  });
}
