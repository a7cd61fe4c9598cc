/** Requests on a stream that are answered by their ids, in the order in which they were made. */
import type { NaruError } from '@naru/protocol';
import { deferred } from '../deferred.ts';

interface Pending<Answer> {
  send(): void;
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
      send: () => send(id),
      resolve: (answer) => {
        answered?.(answer);
        resolve(answer);
      },
      reject,
    });
    if (isConnected) send(id);
    return promise;
  }

  answered(id: number, answer: Answer): void {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.resolve(answer);
  }

  /** After a reconnection. */
  sendAgain(): void {
    for (const pending of this.#pending.values()) pending.send();
  }

  rejectAll(error: NaruError): void {
    for (const pending of this.#pending.values()) pending.reject(error);
    this.#pending.clear();
  }
}
