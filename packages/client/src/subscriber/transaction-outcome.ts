/** Finds out how a transaction has ended whose commit was not answered, by aborting it: that is refused when it is committed. */
import { delay } from '@naru/base';
import { NaruError, isNaruError } from '@naru/protocol';
import { backoffMs } from '../backoff.ts';
import type { TransactionRefFields } from '../transaction/commit-target.ts';
import { TransactionCalls } from '../transaction/transaction-calls.ts';
import type { TransactionCallsOptions } from '../transaction/transaction-calls.ts';

/** How long it is asked for at least; twice as long as a transaction may be open. */
const MAX_ASKING_MS = 30 * 60_000;

/**
 * Asks until there is an answer, `signal` aborts, or the broker has stayed away for {@link MAX_ASKING_MS}.
 *
 * @throws NaruError when it cannot be found out: DELIVERY_TIMEOUT for want of an answer, PRODUCER_FENCED when somebody else has the
 *   transactional id by now
 */
export async function askOutcome(
  options: TransactionCallsOptions,
  ref: TransactionRefFields,
  signal: AbortSignal,
): Promise<'aborted' | 'committed'> {
  const { runtime, settings } = options;
  const calls = new TransactionCalls(options);
  const onAbort = (): void => calls.close();
  signal.addEventListener('abort', onAbort, { once: true });
  const endMs = runtime.clock.monotonicMs() + MAX_ASKING_MS;
  try {
    for (let failures = 1; !signal.aborted; failures++) {
      const answer = await ask(calls, ref, settings.publisher.deliveryTimeoutMs);
      if (!(answer instanceof NaruError)) return answer;
      if (runtime.clock.monotonicMs() >= endMs) throw unknownError(answer);
      runtime.logger.warn({ error: answer.message }, 'it is not known how a transaction has ended; asking again');
      await delay(runtime.timers, backoffMs(settings.publisher.retry, failures, runtime.random), signal).catch(
        () => {},
      );
    }
    throw signal.reason as Error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}

/** @returns an error when there was no answer */
async function ask(
  calls: TransactionCalls,
  ref: TransactionRefFields,
  limitMs: number,
): Promise<'aborted' | 'committed' | NaruError> {
  const answer = await calls.end(ref, false, limitMs);
  if (answer.kind === 'ended') return 'aborted';
  const { error } = answer;
  if (answer.kind === 'unanswered') return error;
  if (error.code === 'INVALID_TXN_STATE') return 'committed';
  if (error.code !== 'PRODUCER_FENCED') throw unknownError(error);
  try {
    const fate = await calls.fateOf(ref, 'asked', limitMs);
    if (fate !== 'taken') return fate;
  } catch (reason) {
    if (isNaruError(reason)) return reason;
    throw reason;
  }
  throw unknownError(error);
}

function unknownError(cause: NaruError): NaruError {
  const message = `it cannot be found out whether a transaction was committed: ${cause.message}`;
  return new NaruError(cause.code, message, { cause });
}
