/**
 * The sessions of members that speak in single calls, by id.
 *
 * Owns their number, and how long it is remembered why one of them is over.
 */
import { randomUuidBytes, topicIdFromBytes, type Random } from '@naru/base';
import { NaruError } from '@naru/protocol';
import type { JoinRequest } from './session-events.ts';
import { UnarySession, type UnarySessionOptions } from './unary-session.ts';

export const MAX_UNARY_SESSIONS = 1_000;
/** Sessions that are over, whose reason is told to a member that calls again. The oldest are forgotten first. */
const MAX_REMEMBERED = 1_000;

export interface UnarySessionsOptions extends Omit<UnarySessionOptions, 'onEnded'> {
  readonly random: Random;
}

export class UnarySessions {
  readonly #options: UnarySessionsOptions;
  readonly #sessions = new Map<string, UnarySession>();
  readonly #over = new Map<string, NaruError>();
  /** Those that are about to join among them. */
  #count = 0;
  #closed = false;

  constructor(options: UnarySessionsOptions) {
    this.#options = options;
  }

  get size(): number {
    return this.#count;
  }

  /**
   * @param request without a member id the member gets one
   * @throws NaruError OVERLOADED when there are too many sessions, or why the member could not join
   */
  async join(request: JoinRequest): Promise<{ readonly id: string; readonly session: UnarySession }> {
    if (this.#closed) throw new NaruError('SHUTTING_DOWN', 'the broker is shutting down');
    if (this.#count >= MAX_UNARY_SESSIONS) {
      const message = `${MAX_UNARY_SESSIONS} members speak in single calls, which is the limit; use Subscribe`;
      throw new NaruError('OVERLOADED', message);
    }
    const id = this.#uuid();
    const memberId = request.memberId === '' ? this.#uuid() : request.memberId;
    this.#count += 1;
    let isOver = false;
    const onEnded = (error: NaruError | null): void => {
      isOver = true;
      this.#count -= 1;
      if (this.#sessions.delete(id) && error !== null) this.#remember(id, error);
    };
    const session = await UnarySession.join({ ...request, memberId }, { ...this.#options, onEnded });
    // oxlint-disable-next-line typescript/no-unnecessary-condition -- it may have ended while the answer was on its way
    if (!isOver) this.#sessions.set(id, session);
    if (this.#closed) session.shutDown();
    return { id, session };
  }

  /** @throws NaruError UNKNOWN_MEMBER_ID, or why the session is over */
  find(id: string): UnarySession {
    const session = this.#sessions.get(id);
    if (session !== undefined) return session;
    const error = this.#over.get(id);
    this.#over.delete(id);
    throw (
      error ?? new NaruError('UNKNOWN_MEMBER_ID', `there is no session ${JSON.stringify(id)} (any more): join again`)
    );
  }

  /** Ends every session because the broker goes; memberships last. */
  close(): void {
    this.#closed = true;
    for (const session of this.#sessions.values()) session.shutDown();
  }

  #remember(id: string, error: NaruError): void {
    if (this.#over.size >= MAX_REMEMBERED) {
      for (const oldest of this.#over.keys()) {
        this.#over.delete(oldest);
        break;
      }
    }
    this.#over.set(id, error);
  }

  #uuid(): string {
    return topicIdFromBytes(randomUuidBytes(this.#options.random));
  }
}
