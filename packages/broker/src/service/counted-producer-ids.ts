/** Producer ids without metadata, for tests: 1, 2, 3 … */
import { FreshProducerIds } from './fresh-producer-ids.ts';

export function countedProducerIds(): FreshProducerIds {
  let last = 0;
  return new FreshProducerIds({ next: () => Promise.resolve(++last) });
}
