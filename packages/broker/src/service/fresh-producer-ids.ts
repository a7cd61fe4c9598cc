/**
 * Producer ids for commands that may need a new one: when a transactional id is new, or its epochs are used up.
 *
 * Owns those that were not needed, which the next command gets. Invariant: an id that may have been taken is not given again.
 */
import type { ProducerIds } from './producer-ids.ts';

/** Ids that were not needed and are kept. */
const MAX_SPARE = 1_000;

export class FreshProducerIds {
  readonly #ids: Pick<ProducerIds, 'next'>;
  readonly #spare: number[] = [];

  constructor(ids: Pick<ProducerIds, 'next'>) {
    this.#ids = ids;
  }

  /**
   * Does `work` with an id that nobody has.
   *
   * @param isTaken whether somebody may have the id after it, by the result. After work that fails it is not given again
   */
  async lend<T>(
    work: (freshProducerId: number) => Promise<T>,
    isTaken: (result: T, freshProducerId: number) => boolean,
  ): Promise<T> {
    const id = this.#spare.pop() ?? (await this.#ids.next());
    const result = await work(id);
    if (!isTaken(result, id) && this.#spare.length < MAX_SPARE) this.#spare.push(id);
    return result;
  }
}
