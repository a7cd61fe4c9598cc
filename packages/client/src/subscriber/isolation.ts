/** What of transactions a reader is given. */
import { IsolationLevel } from '@naru/protocol/proto';

/**
 * `committed`: events of transactions once these are committed, and nothing beyond the first one that is open. `uncommitted`: every event
 * as soon as it is stored, also what is aborted later; for readers without a group only.
 */
export type Isolation = 'committed' | 'uncommitted';

export function wireIsolation(isolation: Isolation = 'committed'): IsolationLevel {
  return isolation === 'uncommitted' ? IsolationLevel.UNCOMMITTED : IsolationLevel.COMMITTED;
}
