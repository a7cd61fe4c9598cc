/** What changes of held events say for the ledger, where no commit says it. Pure. */
import type { PartitionKey } from '@naru/base';
import type { GroupRecord, GroupState } from './group-state.ts';
import type { HeldEvent } from '../held/held-event.ts';
import type { LedgerEntry } from '../ledger/ledger-codec.ts';

/** Of a text of an entry, in UTF-16 units: whole errors are kept with held events. */
const MAX_TEXT = 1_000;

/** By partition, what was redriven, purged, became a dead letter, or waited and is gone. */
export function entriesOfHeld(
  state: GroupState | undefined,
  records: readonly GroupRecord[],
): Map<PartitionKey, LedgerEntry[]> {
  const found = new Map<PartitionKey, LedgerEntry[]>();
  for (const record of records) {
    if (record.kind !== 'held') continue;
    const before = state?.held.get(record.partition)?.get(record.offset);
    const outcome = heldOutcome(before, record.value);
    if (outcome === null) continue;
    const { attempts = 0, reason = '', error = '' } = record.value ?? before ?? {};
    const entry = { offset: record.offset, outcome, attempts, durationMs: 0, note: '', nextAttemptMs: 0 };
    let entries = found.get(record.partition);
    if (entries === undefined) found.set(record.partition, (entries = []));
    entries.push({ ...entry, reason: cutText(reason), error: cutText(error) });
  }
  return found;
}

function heldOutcome(before: HeldEvent | undefined, after: HeldEvent | null): LedgerEntry['outcome'] | null {
  // What waited and is gone was handled: only whoever settles it says so.
  if (after === null) return before?.state === 'dead' ? 'purged' : before === undefined ? null : 'processed';
  if (after.state === 'dead') return before?.state === 'dead' ? null : 'dead-lettered';
  return before?.state === 'dead' ? 'redriven' : null;
}

export function cutText(text: string): string {
  return text.length <= MAX_TEXT ? text : `${text.slice(0, MAX_TEXT - 1)}…`;
}
