/** The held events of one key of a partition: their offsets, ascending. */
import { assert } from '@naru/base';

export class KeyQueue {
  readonly waiting: number[] = [];
  readonly dead: number[] = [];

  get isEmpty(): boolean {
    return this.waiting.length === 0 && this.dead.length === 0;
  }

  /** Whether events of the key that are read have to queue up behind. */
  isBlocked(parks: boolean): boolean {
    return this.waiting.length > 0 || (parks && this.dead.length > 0);
  }

  /** The one that may be given next, when its time has come. */
  head(parks: boolean): number | undefined {
    const [first] = this.waiting;
    const [dead] = this.dead;
    return parks && first !== undefined && dead !== undefined && dead < first ? undefined : first;
  }
}

/** Most come in their order. */
export function insertSorted(offsets: number[], offset: number): void {
  if (offsets.length === 0 || (offsets.at(-1) as number) < offset) offsets.push(offset);
  else offsets.splice(firstNotBelow(offsets, offset), 0, offset);
}

/** Most go in their order. */
export function removeSorted(offsets: number[], offset: number): void {
  if (offsets[0] === offset) {
    offsets.shift();
    return;
  }
  const at = firstNotBelow(offsets, offset);
  assert(offsets[at] === offset, `offset ${offset} is in its key's queue`);
  offsets.splice(at, 1);
}

export function firstNotBelow(offsets: readonly number[], offset: number): number {
  let low = 0;
  let high = offsets.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((offsets[middle] as number) < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
