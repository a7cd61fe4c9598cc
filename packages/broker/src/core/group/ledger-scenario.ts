/** A group on a table whose ledger is kept, for tests: what was appended to it, and look-ups as a reader makes them. */
import type { PartitionKey } from '@naru/base';
import type { RecordInput } from '@naru/protocol/batch';
import type { EventOutcome, GroupCommand, GroupContext, GroupDecision, GroupReplies } from './commands.ts';
import { GroupScenario, commitOf } from './group-scenario.ts';
import type { OffsetRange } from './group-state.ts';
import { isFinished } from '../ledger/newly-finished.ts';
import { decodeLedgerRecord, encodeLedgerKey } from '../ledger/ledger-codec.ts';
import { ledgerPlaces } from '../ledger/ledger-marks.ts';

type Without<C> = C extends GroupCommand ? Omit<C, 'groupId'> : never;

export class LedgerScenario extends GroupScenario {
  /** The group's partition of the ledger. */
  readonly ledger: RecordInput[] = [];
  keepMs = 7 * 86_400_000;
  isUsed = true;
  #heldEnd = 0;

  override get context(): GroupContext {
    return {
      ...super.context,
      ledger: () => (this.isUsed ? { keepMs: this.keepMs } : null),
      ownLogEnd: (log) => (log === 'ledger' ? this.ledger.length : this.#heldEnd),
    };
  }

  override decide<C extends Without<GroupCommand>>(command: C): GroupDecision<GroupReplies[C['type']]> {
    const decision = super.decide(command);
    for (const { log, records } of decision.appends ?? []) {
      if (log === 'ledger') this.ledger.push(...records);
      else this.#heldEnd += records.length;
    }
    return decision;
  }

  /** A commit by nobody, of one partition of any size. */
  commit(
    partition: string,
    offset: number,
    finished: readonly OffsetRange[] = [],
    outcomes: readonly EventOutcome[] = [],
    memberId = '',
    memberEpoch = 0,
  ): GroupDecision<GroupReplies['commit']> {
    const commit = { ...commitOf(this.key(partition), offset, finished), endOffset: 1_000_000_000, outcomes };
    return this.decide({ type: 'commit', memberId, memberEpoch, offsets: [commit] });
  }

  /** What the ledger says of an event, oldest first: only what the group's marks point to is read. */
  lookUp(partition: string, offset: number): string[] {
    const key = this.key(partition);
    const places = ledgerPlaces(this.state?.ledgers.get(key), offset);
    return places.flatMap(([from, to]) => this.#said(this.ledger.slice(from, to ?? undefined), key, offset));
  }

  /** The same from all of it. */
  lookUpEverywhere(partition: string, offset: number): string[] {
    return this.#said(this.ledger, this.key(partition), offset);
  }

  /** Records that a look-up reads. */
  readBy(partition: string, offset: number): number {
    const places = ledgerPlaces(this.state?.ledgers.get(this.key(partition)), offset);
    return places.reduce((sum, [from, to]) => sum + (to ?? this.ledger.length) - from, 0);
  }

  #said(records: readonly RecordInput[], partition: PartitionKey, offset: number): string[] {
    const wanted = encodeLedgerKey(this.state?.groupId ?? 'payment', partition).join();
    return records.flatMap(({ key, value, timestampMs }) => {
      if (key?.join() !== wanted) return [];
      const { finished, entries, memberId } = decodeLedgerRecord(value as Uint8Array);
      const own = entries.filter((entry) => entry.offset === offset);
      const by = memberId === '' ? '' : ` by ${memberId}`;
      if (own.length > 0)
        return own.map(({ outcome, note }) => `${outcome}${note === '' ? '' : ` (${note})`}${by} at ${timestampMs}`);
      return isFinished(0, finished, offset) ? [`processed${by} at ${timestampMs}`] : [];
    });
  }
}

export function outcome(offset: number, kind: EventOutcome['kind'], changes: Partial<EventOutcome> = {}): EventOutcome {
  const copy = { keyId: '', batch: new Uint8Array(16) };
  return {
    offset,
    kind,
    attempts: 1,
    durationMs: 5,
    note: '',
    reason: '',
    error: '',
    firstFailureMs: 0,
    lastFailureMs: 0,
    nextAttemptMs: 0,
    idempotencyId: '',
    ...(kind === 'held' || kind === 'dead-lettered' ? { copy } : {}),
    ...changes,
  };
}
