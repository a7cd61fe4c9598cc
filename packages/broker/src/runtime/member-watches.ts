/** Members that wait for news of their assignment: who waits, and when they are answered. */
import type { TimerHandle, Timers } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import { memberView, type GroupState, type MemberView, type TimerReply } from '../core/group/index.ts';
import type { WatchMemberCommand } from './commands.ts';
import { sameView } from './member-views.ts';

/** Members that wait for news at once. */
const MAX_WATCHES = 100_000;

interface Watch {
  readonly command: WatchMemberCommand;
  readonly reply: (reply: MemberView | Refusal) => void;
  readonly timer: TimerHandle;
  /** Why the member was removed, when that happened while somebody waited here. */
  removed: Refusal | null;
}

export interface MemberWatchesOptions {
  readonly timers: Timers;
  readonly state: (groupId: string) => GroupState | undefined;
  /** After which what is known of the group is durable; 0 when it is. */
  readonly cycleOf: (groupId: string) => number;
}

export class MemberWatches {
  readonly #options: MemberWatchesOptions;
  readonly #watches = new Map<number, Watch>();
  readonly #byGroup = new Map<string, Set<Watch>>();

  constructor(options: MemberWatchesOptions) {
    this.#options = options;
  }

  watch(command: WatchMemberCommand, reply: (reply: MemberView | Refusal) => void): void {
    if (this.#watches.size >= MAX_WATCHES) {
      return reply(refuse('OVERLOADED', `${MAX_WATCHES} members are watched, which is the limit`));
    }
    const timer = this.#options.timers.after(command.maxWaitMs, () => this.cancel(command.watchId));
    const watch: Watch = { command, reply, timer, removed: null };
    this.#watches.set(command.watchId, watch);
    let ofGroup = this.#byGroup.get(command.groupId);
    if (ofGroup === undefined) this.#byGroup.set(command.groupId, (ofGroup = new Set()));
    ofGroup.add(watch);
    this.#look(watch);
  }

  /** Answers a watch at once, with what the member has. */
  cancel(watchId: number): void {
    const watch = this.#watches.get(watchId);
    if (watch !== undefined) this.#answer(watch, watch.command.known);
  }

  /** What is known of the group is durable. */
  changed(groupId: string): void {
    for (const watch of this.#byGroup.get(groupId) ?? []) this.#look(watch);
  }

  noteRemoval(groupId: string, removed: NonNullable<TimerReply['removed']>): void {
    for (const watch of this.#byGroup.get(groupId) ?? []) {
      if (watch.command.memberId === removed.memberId) watch.removed = removed.refusal;
    }
  }

  end(refusal: Refusal): void {
    for (const watch of this.#watches.values()) this.#answer(watch, refusal);
  }

  /** Answers when there is news and it is durable. */
  #look(watch: Watch): void {
    const { groupId, memberId, known, watchId } = watch.command;
    if (!this.#watches.has(watchId) || this.#options.cycleOf(groupId) > 0) return;
    const view = memberView(this.#options.state(groupId), memberId);
    if (view === undefined) this.#answer(watch, watch.removed ?? unknownMember(groupId, memberId));
    else if (!sameView(view, known)) this.#answer(watch, view);
  }

  #answer(watch: Watch, reply: MemberView | Refusal): void {
    const { groupId, watchId } = watch.command;
    watch.timer.cancel();
    this.#watches.delete(watchId);
    const ofGroup = this.#byGroup.get(groupId);
    ofGroup?.delete(watch);
    if (ofGroup?.size === 0) this.#byGroup.delete(groupId);
    watch.reply(reply);
  }
}

function unknownMember(groupId: string, memberId: string): Refusal {
  return refuse('UNKNOWN_MEMBER_ID', `group ${JSON.stringify(groupId)} has no member ${memberId} (any more)`);
}
