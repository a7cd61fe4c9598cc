/** Requests on a stream that are answered by their ids, in the order in which they were made. */
import type { NaruError } from '@naru/protocol';
import { deferred } from '../deferred.ts';

interface Pending<Answer> {
  /** Null: it is never sent a second time. */
  readonly sendAgain: (() => void) | null;
  resolve(answer: Answer): void;
  reject(error: NaruError): void;
}

/** Of one kind. Whoever adds them limits how many. */
export class PendingRequests<Answer> {
  readonly #pending = new Map<number, Pending<Answer>>();
  #nextId = 1;

  /**
   * @param answered called at once with the answer, before the promise resolves
   */
  add(send: (id: number) => void, isConnected: boolean, answered?: (answer: Answer) => void): Promise<Answer> {
    const id = this.#nextId++ % 2 ** 32;
    const { promise, resolve, reject } = deferred<Answer>();
    this.#pending.set(id, {
      sendAgain: () => send(id),
      resolve: (answer) => {
        answered?.(answer);
        resolve(answer);
      },
      reject,
    });
    if (isConnected) send(id);
    return promise;
  }

  /**
   * One that may not be repeated: sent now, and rejected when the connection is lost before the answer.
   *
   * @param answered as for {@link add}
   */
  addOnce(send: (id: number) => void, answered?: (answer: Answer) => void): Promise<Answer> {
    const id = this.#nextId++ % 2 ** 32;
    const { promise, resolve, reject } = deferred<Answer>();
    this.#pending.set(id, {
      sendAgain: null,
      resolve: (answer) => {
        answered?.(answer);
        resolve(answer);
      },
      reject,
    });
    send(id);
    return promise;
  }

  /** The connection is lost. @param error for those that may not be repeated */
  disconnected(error: NaruError): void {
    for (const [id, pending] of this.#pending) {
      if (pending.sendAgain !== null) continue;
      this.#pending.delete(id);
      pending.reject(error);
    }
  }

  answered(id: number, answer: Answer): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.resolve(answer);
  }

  /** After a reconnection. */
  sendAgain(): void {
    for (const pending of this.#pending.values()) pending.sendAgain?.();
  }

  rejectAll(error: NaruError): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}
