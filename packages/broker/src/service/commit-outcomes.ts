/**
 * A member's commits: one after the other where one of them has to read events first.
 *
 * Owns their order, and that what is dead-lettered or held goes into the decision as a whole event. Does not own what a commit
 * may do (core/group/decide-offsets.ts).
 */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import { DEFAULT_GROUP_LIMITS, type EventOutcome, type PartitionResult } from '../core/group/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { hashedId } from './claims.ts';
import type { ByteBudget } from './byte-budget.ts';
import { readEventCopies } from './event-copies.ts';
import type { CommitOutcome, PartitionCommit } from './session-events.ts';

/** Copies of all members of a broker that are read and not decided on yet; nobody begins to read beyond it. */
export const MAX_COPYING_BYTES = 64 * 1024 * 1024;
/** What one partition of a commit counts for until it is known. */
const EXPECTED_COPY_BYTES = 4 * 1024 * 1024;

/** Of one partition of a commit: no events are read for more. */
const MAX_OUTCOMES = DEFAULT_GROUP_LIMITS.maxOutcomes;

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();
/** Longer texts of outcomes are cut. */
const MAX_NOTE_BYTES = 1_000;
const MAX_ERROR_BYTES = 2_000;
const MAX_REASON_BYTES = 100;

export interface MemberCommitsOptions {
  readonly shard: ShardClient;
  readonly codecs: CompressionCodecs;
  /** {@link MAX_COPYING_BYTES}; shared by all members of the broker. */
  readonly copying: ByteBudget;
  readonly groupId: string;
  readonly memberId: string;
  /** Whether the member was given the event as one that is held. */
  readonly isGiven: (partition: PartitionKey, offset: number) => boolean;
  /** Of each commit that is durable, before its answer. */
  readonly onCommitted: (commit: PartitionCommit, blocked: readonly string[]) => void;
}

export class MemberCommits {
  readonly #options: MemberCommitsOptions;
  /** The last one that others have to wait for. */
  #last: Promise<unknown> | null = null;
  readonly #began = new Map<PartitionKey, number>();
  #closed = false;

  constructor(options: MemberCommitsOptions) {
    this.#options = options;
  }

  /** Where the member began to read, for a group that has committed nothing in the partition. */
  noteBegan(partition: PartitionKey, offset: number): void {
    this.#began.set(partition, offset);
  }

  /** Resolves when no commit waits any more; null when none does. */
  settled(): Promise<unknown> | null {
    return this.#last;
  }

  /**
   * Nothing more is committed: the member may have come back in another session, and what it says there is newer than what waits
   * here.
   */
  close(): void {
    this.#closed = true;
  }

  /** @returns what was refused */
  commit(memberEpoch: number, commits: readonly PartitionCommit[]): Promise<readonly CommitOutcome[]> {
    const isPlain = commits.every(({ outcomes = [] }) => outcomes.length === 0);
    if (isPlain && this.#last === null) return this.#submit(memberEpoch, commits);
    const work = (): Promise<readonly CommitOutcome[]> => this.#commitAll(memberEpoch, commits);
    const done = this.#last === null ? work() : this.#last.then(work, work);
    this.#last = done;
    const forget = (): void => {
      if (this.#last === done) this.#last = null;
    };
    done.then(forget, forget);
    return done;
  }

  /** Partitions with outcomes one by one, which bounds what is in memory. */
  async #commitAll(memberEpoch: number, commits: readonly PartitionCommit[]): Promise<readonly CommitOutcome[]> {
    const refused: CommitOutcome[] = [];
    const plain = commits.filter(({ outcomes = [] }) => outcomes.length === 0);
    if (plain.length > 0) refused.push(...(await this.#submit(memberEpoch, plain)));
    for (const commit of commits) {
      if (plain.includes(commit)) continue;
      refused.push(...(await this.#commitOutcomes(memberEpoch, commit)));
    }
    return refused;
  }

  async #commitOutcomes(memberEpoch: number, commit: PartitionCommit): Promise<readonly CommitOutcome[]> {
    const { copying } = this.#options;
    for (let room = copying.room(); room !== null; room = copying.room()) await room;
    let bytes = EXPECTED_COPY_BYTES;
    copying.take(bytes);
    try {
      const complete = await this.#withCopies(commit);
      if ('code' in complete) return [{ partition: commit.partition, refusal: complete }];
      const excess = Math.max(0, copiedBytes(complete) - bytes);
      copying.take(excess);
      bytes += excess;
      return await this.#submit(memberEpoch, [complete]);
    } finally {
      copying.release(bytes);
    }
  }

  async #withCopies(commit: PartitionCommit): Promise<PartitionCommit | Refusal> {
    const { shard, codecs, isGiven } = this.#options;
    const { partition, outcomes = [] } = commit;
    if (outcomes.length > MAX_OUTCOMES) {
      return refuse('INVALID_REQUEST', `${outcomes.length} outcomes in a commit: at most ${MAX_OUTCOMES} are taken`);
    }
    const wanted = outcomes.filter(({ kind, offset }) => keepsEvent(kind) && !isGiven(partition, offset));
    const offsets = [...new Set(wanted.map(({ offset }) => offset))].sort((a, b) => a - b);
    const copies = offsets.length === 0 ? null : await readEventCopies(shard, codecs, partition, offsets);
    if (isRefusal(copies)) return copies;
    const complete = outcomes.map((outcome): EventOutcome => {
      const cut = withinLimits(outcome);
      if (!keepsEvent(outcome.kind) || isGiven(partition, outcome.offset)) return cut;
      return { ...cut, copy: copies?.get(outcome.offset) ?? null };
    });
    return { ...commit, outcomes: complete };
  }

  /** What is taken at the limit, too: outcomes of events that were held before. */
  #ofGiven(commit: PartitionCommit): PartitionCommit {
    const { partition, outcomes = [] } = commit;
    return { ...commit, outcomes: outcomes.filter(({ offset }) => this.#options.isGiven(partition, offset)) };
  }

  async #submit(memberEpoch: number, commits: readonly PartitionCommit[]): Promise<readonly CommitOutcome[]> {
    const { shard, groupId, memberId, onCommitted } = this.#options;
    if (this.#closed) {
      const refusal = refuse('ABORTED', 'the session of the commit is over');
      return commits.map(({ partition }) => ({ partition, refusal }));
    }
    const reply = await shard.submit({
      type: 'group',
      command: {
        type: 'commit',
        groupId,
        memberId,
        memberEpoch,
        offsets: commits.map((commit) => {
          return { ...commit, leaderEpoch: -1, endOffset: null, beganAt: this.#began.get(commit.partition) };
        }),
      },
    });
    if (isRefusal(reply)) return commits.map(({ partition }) => ({ partition, refusal: reply }));
    const refused: CommitOutcome[] = [];
    reply.results.forEach(({ partition, refusal, blocked = [] }: PartitionResult, index) => {
      const commit = commits[index] as PartitionCommit;
      if (refusal === null) onCommitted(commit, blocked);
      else refused.push({ partition, refusal });
      if (refusal?.code === 'HELD_LIMIT_REACHED') onCommitted(this.#ofGiven(commit), []);
    });
    return refused;
  }
}

function copiedBytes({ outcomes = [] }: PartitionCommit): number {
  return outcomes.reduce((sum, { copy }) => sum + (copy?.batch.length ?? 0), 0);
}

function keepsEvent(kind: EventOutcome['kind']): boolean {
  return kind === 'dead-lettered' || kind === 'held';
}

function withinLimits(outcome: EventOutcome): EventOutcome {
  const { note, error, reason, idempotencyId } = outcome;
  return {
    ...outcome,
    note: cut(note, MAX_NOTE_BYTES),
    error: cut(error, MAX_ERROR_BYTES),
    reason: cut(reason, MAX_REASON_BYTES),
    idempotencyId: hashedId(idempotencyId),
  };
}

/** At the end of a character. */
function cut(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text;
  const bytes = TEXT.encode(text);
  if (bytes.length <= maxBytes) return text;
  let end = maxBytes;
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end -= 1;
  return FROM_TEXT.decode(bytes.subarray(0, end));
}
