/**
 * Commits with all that the shard needs to decide on them: whole events for what is dead-lettered or held, texts within their limits.
 */
import type { PartitionKey } from '@naru/base';
import { refuse, type Refusal } from '@naru/protocol';
import type { CompressionCodecs } from '@naru/protocol/batch';
import { DEFAULT_GROUP_LIMITS, type EventOutcome } from '../core/group/index.ts';
import { isRefusal, type ShardClient } from '../runtime/commands.ts';
import { hashedId } from './claims.ts';
import { readEventCopies } from './event-copies.ts';
import type { PartitionCommit } from './session-events.ts';

/** Of one partition of a commit: no events are read for more. */
const MAX_OUTCOMES = DEFAULT_GROUP_LIMITS.maxOutcomes;

const TEXT = new TextEncoder();
const FROM_TEXT = new TextDecoder();
/** Longer texts of outcomes are cut. */
const MAX_NOTE_BYTES = 1_000;
const MAX_ERROR_BYTES = 2_000;
const MAX_REASON_BYTES = 100;

export interface CommitCopiesOptions {
  readonly shard: ShardClient;
  readonly codecs: CompressionCodecs;
  /** Whether the member was given the event as one that is held. */
  readonly isGiven: (partition: PartitionKey, offset: number) => boolean;
}

/** The commit as the shard takes it, or why that cannot be made of it. */
export async function withCopies(
  { shard, codecs, isGiven }: CommitCopiesOptions,
  commit: PartitionCommit,
): Promise<PartitionCommit | Refusal> {
  const { partition, outcomes = [] } = commit;
  if (outcomes.length > MAX_OUTCOMES) {
    return refuse('INVALID_REQUEST', `${outcomes.length} outcomes in a commit: at most ${MAX_OUTCOMES} are taken`);
  }
  const wanted = outcomes.filter(({ kind, offset }) => keepsEvent(kind) && !isGiven(partition, offset));
  const offsets = [...new Set(wanted.map(({ offset }) => offset))].sort((a, b) => a - b);
  const copies = offsets.length === 0 ? null : await readEventCopies(shard, codecs, partition, offsets);
  if (isRefusal(copies)) return copies;
  const complete = outcomes.map((outcome): EventOutcome => {
    const cut = withinLimits(outcome);
    if (!keepsEvent(outcome.kind) || isGiven(partition, outcome.offset)) return cut;
    return { ...cut, copy: copies?.get(outcome.offset) ?? null };
  });
  return { ...commit, outcomes: complete };
}

export function copiedBytes({ outcomes = [] }: PartitionCommit): number {
  return outcomes.reduce((sum, { copy }) => sum + (copy?.batch.length ?? 0), 0);
}

function keepsEvent(kind: EventOutcome['kind']): boolean {
  return kind === 'dead-lettered' || kind === 'held';
}

function withinLimits(outcome: EventOutcome): EventOutcome {
  const { note, error, reason, idempotencyId } = outcome;
  return {
    ...outcome,
    note: cut(note, MAX_NOTE_BYTES),
    error: cut(error, MAX_ERROR_BYTES),
    reason: cut(reason, MAX_REASON_BYTES),
    idempotencyId: hashedId(idempotencyId),
  };
}

/** At the end of a character. */
function cut(text: string, maxBytes: number): string {
  if (text.length * 3 <= maxBytes) return text;
  const bytes = TEXT.encode(text);
  if (bytes.length <= maxBytes) return text;
  let end = maxBytes;
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end -= 1;
  return FROM_TEXT.decode(bytes.subarray(0, end));
}
