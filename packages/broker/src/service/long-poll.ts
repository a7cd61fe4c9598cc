/** One fetch that may wait, and ends early when nobody waits for it any more. */
import type { Refusal } from '@naru/protocol';
import type { FetchCommand, FetchReply, ShardClient } from '../runtime/commands.ts';

let nextFetchId = 1;

/** Unique among the fetches of this process. */
export function newFetchId(): number {
  return nextFetchId++;
}

/** @param signal when it aborts, the fetch is answered at once, with what there is */
export async function longPoll(
  shard: ShardClient,
  fetch: Omit<FetchCommand, 'type' | 'fetchId'>,
  signal: AbortSignal,
): Promise<FetchReply | Refusal> {
  const fetchId = newFetchId();
  const cancel = (): void => {
    // Only a shard that is closing refuses it, and that has answered the fetch.
    shard.submit({ type: 'cancel-fetch', fetchId }).catch(() => {});
  };
  const reply = shard.submit({ type: 'fetch', fetchId, ...fetch });
  if (signal.aborted) cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    return await reply;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
