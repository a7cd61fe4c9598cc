/** Finds out how a transaction has ended whose commit was not answered, by aborting it: that is refused when it is committed. */
import { NaruError } from '@naru/protocol';
import type { TransactionRefFields } from '../transaction/commit-target.ts';
import { TransactionCalls } from '../transaction/transaction-calls.ts';
import type { TransactionCallsOptions } from '../transaction/transaction-calls.ts';

/**
 * Asks until there is an answer, or `signal` aborts.
 *
 * @throws NaruError when it cannot be found out: PRODUCER_FENCED when somebody else has the transactional id by now
 */
export async function askOutcome(
  options: TransactionCallsOptions,
  ref: TransactionRefFields,
  signal: AbortSignal,
): Promise<'aborted' | 'committed'> {
  const { publisher } = options.settings;
  const calls = new TransactionCalls(options);
  const onAbort = (): void => calls.close();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    while (!signal.aborted) {
      const answer = await calls.end(ref, false, publisher.deliveryTimeoutMs);
      if (answer.kind === 'ended') return 'aborted';
      if (answer.kind === 'unanswered') continue;
      const { error } = answer;
      if (error.code === 'INVALID_TXN_STATE') return 'committed';
      // Timed out, or aborted by an operator.
      if (error.code === 'PRODUCER_FENCED' && (await calls.wasAborted(ref, publisher.deliveryTimeoutMs)))
        return 'aborted';
      const message = `it cannot be found out whether a transaction was committed: ${error.message}`;
      throw new NaruError(error.code, message, { cause: error });
    }
    throw signal.reason as Error;
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
