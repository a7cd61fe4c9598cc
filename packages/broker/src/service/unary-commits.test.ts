/** Commits in single calls: what the session's answer changes of what the member is given. */
import { partitionKey, topicIdFromBytes } from '@naru/base';
import { NaruError } from '@naru/protocol';
import { expect, it } from 'vitest';
import type { HeldPartitions } from './held-partitions.ts';
import type { PartitionCommit, TransactionalAnswer } from './session-events.ts';
import { UnaryCommits } from './unary-commits.ts';
import type { UnaryHeld } from './unary-held.ts';

const PARTITION = partitionKey(topicIdFromBytes(new Uint8Array(16).fill(1)), 0);
const REF = { transactionalId: 'shop', producerId: 7, producerEpoch: 3 };
const COMMIT: PartitionCommit = { partition: PARTITION, offset: 10, finished: [], metadata: '' };

function committing(answer: TransactionalAnswer) {
  const noted: string[] = [];
  const commits: UnaryCommits = new UnaryCommits({
    session: {
      commit: (commitId) => {
        const { errors, ...transaction } = answer;
        commits.heard({ type: 'committed', commitId, errors, transaction });
        return Promise.resolve();
      },
    },
    held: { noteCommitted: () => noted.push('position') } as unknown as HeldPartitions,
    keys: { committed: () => noted.push('keys') } as unknown as UnaryHeld,
    overError: () => new NaruError('ABORTED', 'the session is over'),
  });
  return { commits, noted };
}

it('notes what a commit with a transaction has finished, and nothing when it is repeated', async () => {
  const done = { errors: [], refusal: null, next: { ...REF, producerEpoch: 4 } };
  const first = committing(done);
  const answered = { committed: [COMMIT], failed: [], next: done.next };
  expect(await first.commits.commit([COMMIT], REF)).toEqual(answered);
  expect(first.noted).toEqual(['keys', 'position']);
  const repeated = committing({ ...done, isRepeated: true });
  expect(await repeated.commits.commit([COMMIT], REF)).toEqual(answered);
  expect(repeated.noted).toEqual([]);
});
