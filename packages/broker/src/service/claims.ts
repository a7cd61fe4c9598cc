/**
 * Claims of events by their own ids, for a member: the ids are hashed here, so that the group's state holds 16 bytes for
 * each, however long they are.
 */
import { hash } from 'node:crypto';
import { refuse, type Refusal } from '@naru/protocol';
import type { ClaimReply } from '../core/group/index.ts';
import { ID_LENGTH } from '../core/idempotency/claimed-ids.ts';
import type { ShardClient } from '../runtime/commands.ts';

/** Of one id, as UTF-8. */
export const MAX_ID_BYTES = 256;
/** Of one claim. */
export const MAX_CLAIMED_IDS = 1_000;

const TEXT = new TextEncoder();

export interface ClaimRequest {
  readonly groupId: string;
  readonly memberId: string;
  readonly memberEpoch: number;
  readonly ids: readonly string[];
  /** 0 for 5 minutes. */
  readonly leaseMs: number;
}

/** What the group's state keeps of an id; empty for none. */
export function hashedId(id: string): string {
  return id === '' ? '' : hash('sha256', id, 'buffer').toString('latin1', 0, ID_LENGTH);
}

export async function claimIds(shard: ShardClient, { ids, ...request }: ClaimRequest): Promise<ClaimReply | Refusal> {
  if (request.groupId === '') return refuse('INVALID_REQUEST', 'a reader without a group cannot claim events');
  if (ids.length > MAX_CLAIMED_IDS) {
    return refuse('INVALID_REQUEST', `${ids.length} ids in one claim: at most ${MAX_CLAIMED_IDS} are allowed`);
  }
  if (ids.some((id) => id === '' || TEXT.encode(id).length > MAX_ID_BYTES)) {
    return refuse('INVALID_REQUEST', `an id to claim has 1 to ${MAX_ID_BYTES} bytes`);
  }
  return shard.submit({ type: 'group', command: { type: 'claim', ...request, ids: ids.map(hashedId) } });
}
