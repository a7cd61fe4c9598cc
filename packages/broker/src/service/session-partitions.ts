/**
 * The partitions of one subscriber that it was told of, and those that it was asked to give up.
 *
 * Owns the difference between what the group says and what the subscriber knows. Does not own reading (poller.ts), nor where reading
 * begins (assigned-partitions.ts).
 *
 * Invariants: a partition is told of before anything of it is given. One whose committed offset an open transaction may yet change is
 * not told of before that transaction is over, which its time-out bounds; the others do not wait for it.
 */
import type { PartitionKey, TimerHandle, Timers } from '@naru/base';
import type { MemberView } from '../core/group/index.ts';
import { assignedPartitions, type AssignedOptions } from './assigned-partitions.ts';
import type { MemberCommits } from './commit-outcomes.ts';
import type { GatedReading } from './gated-reading.ts';
import { MAX_TOLD_KEYS, type BlockedKeys, type HeldFeed } from './held-feed.ts';
import type { Poller } from './poller.ts';
import type { AssignedPartition, SessionEvent } from './session-events.ts';
import { isGated } from './session-gates.ts';

/** How long it is waited before the offsets of a partition are asked for again; twice as long each time. */
export const FIRST_STABLE_WAIT_MS = 50;
export const MAX_STABLE_WAIT_MS = 1_000;

export interface SessionPartitionsOptions extends AssignedOptions {
  readonly timers: Timers;
  readonly poller: Poller;
  /** Null for a reader. */
  readonly held: HeldFeed | null;
  /** Null for a reader. */
  readonly gates: GatedReading | null;
  readonly commits: MemberCommits;
  readonly emit: (event: SessionEvent) => void;
  /** Gives partitions back that the subscriber was never told of. */
  readonly release: (partitions: readonly PartitionKey[]) => Promise<void>;
  /** The session ends with it. */
  readonly fail: (error: unknown) => void;
}

export class SessionPartitions {
  readonly #options: SessionPartitionsOptions;
  /** That the subscriber was asked to give up. */
  readonly #revoking = new Set<PartitionKey>();
  /** About to be told of, with the inquiry that found out where they are. */
  readonly #coming = new Map<PartitionKey, number>();
  /** Of these, those to be asked for again. */
  readonly #unstable = new Set<PartitionKey>();
  #inquiries = 0;
  #memberEpoch = 0;
  #waitMs = FIRST_STABLE_WAIT_MS;
  #timer: TimerHandle | null = null;
  #closed = false;

  constructor(options: SessionPartitionsOptions) {
    this.#options = options;
  }

  /** Tells the subscriber the difference between what it knows and `view`. */
  async apply(view: MemberView): Promise<void> {
    const { poller, held, emit } = this.#options;
    const { memberEpoch } = view;
    this.#memberEpoch = memberEpoch;
    const assigned = new Set(view.assigned);
    const revoking = new Set(view.revoking);
    this.#forget(assigned, revoking);
    const lost: PartitionKey[] = [];
    const revoked: PartitionKey[] = [];
    for (const partition of poller.partitions()) {
      if (assigned.has(partition)) continue;
      poller.remove(partition);
      if (revoking.has(partition)) revoked.push(partition);
      else lost.push(partition);
    }
    for (const partition of revoked) held?.leave(partition);
    for (const partition of this.#revoking) {
      if (revoking.has(partition)) continue;
      this.#revoking.delete(partition);
      if (!assigned.has(partition)) lost.push(partition);
    }
    for (const partition of revoked) this.#revoking.add(partition);
    for (const partition of lost) held?.remove(partition);
    if (lost.length > 0) emit({ type: 'revoked', memberEpoch, partitions: lost, lost: true });
    if (revoked.length > 0) emit({ type: 'revoked', memberEpoch, partitions: revoked, lost: false });
    const added = view.assigned.filter((partition) => !poller.has(partition) && !this.#coming.has(partition));
    if (added.length > 0) await this.#assign(added);
  }

  /** The subscriber gave up partitions that it was asked for. */
  released(partitions: readonly PartitionKey[]): void {
    for (const partition of partitions) {
      if (!this.#revoking.delete(partition)) continue;
      this.#options.poller.remove(partition);
      this.#options.held?.remove(partition);
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** What the subscriber was not told of yet and is not to have any more. */
  #forget(assigned: ReadonlySet<PartitionKey>, revoking: ReadonlySet<PartitionKey>): void {
    const unknown: PartitionKey[] = [];
    for (const partition of this.#coming.keys()) {
      if (assigned.has(partition)) continue;
      this.#coming.delete(partition);
      this.#unstable.delete(partition);
      if (revoking.has(partition)) unknown.push(partition);
    }
    if (unknown.length > 0) this.#options.release(unknown).catch(this.#options.fail);
  }

  async #assign(added: readonly PartitionKey[]): Promise<void> {
    const { request, follower, poller, held, gates, commits, emit } = this.#options;
    const inquiry = ++this.#inquiries;
    for (const partition of added) this.#coming.set(partition, inquiry);
    const { stable, unstable } = await assignedPartitions(this.#options, added);
    const blocked = await held?.blockedKeys(stable.map(({ partition }) => partition));
    if (this.#isClosed()) return;
    const isWanted = (partition: PartitionKey): boolean => this.#coming.get(partition) === inquiry;
    const told = stable.filter(({ partition }) => isWanted(partition));
    const waiting = unstable.filter(isWanted);
    for (const partition of added) if (isWanted(partition)) this.#coming.delete(partition);
    for (const partition of waiting) this.#coming.set(partition, inquiry);
    this.#wait(waiting);
    if (told.length === 0) return;
    // Told first, so that no record comes before its assignment.
    const partitions = told.map((assigned) => withKeys(assigned, blocked));
    emit({ type: 'assigned', memberEpoch: this.#memberEpoch, partitions });
    for (const { partition, position, finished, committedOffset } of told) {
      if (committedOffset === null) commits.noteBegan(partition, position);
      held?.add(partition, blocked?.get(partition));
      gates?.noteFinished(partition, finished);
      if (isGated(partition, request.groupId, follower)) gates?.add(partition);
      poller.place(partition, position);
    }
  }

  #isClosed(): boolean {
    return this.#closed;
  }

  #wait(partitions: readonly PartitionKey[]): void {
    for (const partition of partitions) this.#unstable.add(partition);
    if (this.#unstable.size === 0) this.#waitMs = FIRST_STABLE_WAIT_MS;
    if (this.#unstable.size === 0 || this.#timer !== null) return;
    this.#timer = this.#options.timers.after(this.#waitMs, () => {
      this.#timer = null;
      const again = [...this.#unstable];
      this.#unstable.clear();
      if (again.length > 0) this.#assign(again).catch(this.#options.fail);
    });
    this.#waitMs = Math.min(MAX_STABLE_WAIT_MS, this.#waitMs * 2);
  }
}

function withKeys(assigned: AssignedPartition, blocked: ReadonlyMap<PartitionKey, BlockedKeys> | undefined) {
  const { keys = [] } = blocked?.get(assigned.partition) ?? {};
  return keys.length === 0 ? assigned : { ...assigned, blockedKeys: keys.slice(0, MAX_TOLD_KEYS) };
}
