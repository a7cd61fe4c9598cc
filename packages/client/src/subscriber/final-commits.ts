/** What a member says before it gives partitions up: within the time for a request, and as far as that goes. */
import type { Runtime } from '../runtime.ts';
import { withDeadline } from '../call-options.ts';
import type { Settings, SubscriberSettings } from '../settings.ts';
import type { AssignedPartition } from './assigned-partition.ts';
import type { MemberSession } from './member-session.ts';
import type { PartitionCommits } from './partition-commits.ts';
import type { Settlements } from './settlements.ts';

export interface FinalCommitsOptions {
  readonly runtime: Runtime;
  readonly settings: Settings;
  readonly subscriber: SubscriberSettings;
  /** Empty for a reader that commits nothing. */
  readonly group: string;
  readonly session: MemberSession;
  readonly commits: PartitionCommits;
  readonly settlements: Settlements;
}

export class FinalCommits {
  readonly #options: FinalCommitsOptions;

  constructor(options: FinalCommitsOptions) {
    this.#options = options;
  }

  /** Commits what is finished of the partitions. Never rejects. */
  async commit(partitions: readonly AssignedPartition[]): Promise<void> {
    const { runtime, settings, subscriber, group, session, commits } = this.#options;
    if (group === '' || !subscriber.autoCommit || !session.isJoined) return;
    try {
      const limit = { timeoutMs: settings.requestTimeoutMs };
      const commit = (): Promise<void> => commits.commit(partitions);
      await withDeadline(runtime.timers, limit, undefined, 'the last commit', () =>
        // Where the broker will not keep what failed, the rest is committed all the same.
        commit().catch((error: unknown) => {
          if (!partitions.some(({ outcomes }) => outcomes.isStalled)) throw error;
          return commit();
        }),
      );
    } catch (error) {
      runtime.logger.warn({ error: String(error) }, 'the last commit failed; events will be handled again');
    }
  }

  /** Settles what is known of records of parallel topics. Never rejects. */
  async settle(): Promise<void> {
    const { runtime, settings, session, settlements } = this.#options;
    if (settlements.backlog === 0 || !session.isJoined) return;
    const limit = { timeoutMs: settings.requestTimeoutMs };
    await withDeadline(runtime.timers, limit, undefined, 'the last settlement', () => settlements.flush()).catch(
      (error: unknown) => runtime.logger.warn({ error: String(error) }, 'records were not settled, and come again'),
    );
  }
}
