/** What a program sees that is not the only one to use a transactional id. */
import { NaruError } from '@naru/protocol';

export class TransactionFencedError extends NaruError {
  override readonly name = 'TransactionFencedError';
  readonly transactionalId: string;

  /** @param mayBeCommitted whether the end was asked for before, without an answer */
  constructor(transactionalId: string, mayBeCommitted: boolean, cause: unknown) {
    const fate = mayBeCommitted
      ? 'it is not known whether the transaction was committed before that'
      : 'nothing of the transaction was committed';
    super(
      'PRODUCER_FENCED',
      `another process uses the transactional id ${transactionalId} and has fenced this one; ${fate}. ` +
        'Every process needs a setting publisher.transaction.id of its own, or none',
      { cause },
    );
    this.transactionalId = transactionalId;
  }
}
