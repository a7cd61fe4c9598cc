/**
 * Which session speaks for a member of a group: the one that joined last.
 *
 * A client that comes back may be here before the broker notices that its old connection broke. Without this the end of
 * the old one would begin the grace time of a member that is there.
 */
export class ConnectedMembers<Session> {
  readonly #sessions = new Map<string, Session>();

  /** `session` speaks for the member from now on; returns the one that did until now. */
  take(groupId: string, memberId: string, session: Session): Session | undefined {
    const key = memberKey(groupId, memberId);
    const before = this.#sessions.get(key);
    this.#sessions.set(key, session);
    return before === session ? undefined : before;
  }

  /** Who speaks for the member now. */
  find(groupId: string, memberId: string): Session | undefined {
    return this.#sessions.get(memberKey(groupId, memberId));
  }

  /** Whether `session` spoke for the member, for whom nobody speaks now. */
  release(groupId: string, memberId: string, session: Session): boolean {
    const key = memberKey(groupId, memberId);
    return this.#sessions.get(key) === session && this.#sessions.delete(key);
  }
}

/** Group ids have no control characters. */
function memberKey(groupId: string, memberId: string): string {
  return `${groupId}\n${memberId}`;
}
