/**
 * Reads what the ledger has of one event: only the parts that may name it, and of those a bounded number of bytes.
 *
 * Invariants: entries come in the order in which they were written.
 */
import type { PartitionKey } from '@naru/base';
import { isNaruError } from '@naru/protocol';
import { iterateRecords, type CompressionCodecs } from '@naru/protocol/batch';
import type { LedgerPlaces } from '../core/group/event-progress.ts';
import { isFinished } from '../core/ledger/newly-finished.ts';
import {
  decodeLedgerRecord,
  encodeLedgerKey,
  type LedgerEntry,
  type LedgerOutcomeName,
} from '../core/ledger/ledger-codec.ts';
import { isRefusal, type FetchedPartition, type ShardClient } from '../runtime/commands.ts';
import { readNow } from './read-now.ts';

/** Of the ledger, for one group and event. */
const MAX_LEDGER_BYTES = 8 * 1024 * 1024;
const FETCH_BYTES = 1024 * 1024;
/** Steps that are told; the newest of them. */
const MAX_STEPS = 100;

export interface LedgerStep {
  readonly atMs: number;
  readonly what: LedgerOutcomeName;
  readonly memberId: string;
  /** What was said of the event alone; null when it is one of many that went well. */
  readonly entry: LedgerEntry | null;
}

export interface EventHistory {
  /** Oldest first. */
  readonly steps: readonly LedgerStep[];
  /** False when there was more to read than is read for one event, or a part could not be read. */
  readonly complete: boolean;
}

export class LedgerReader {
  readonly #shard: ShardClient;
  readonly #codecs: CompressionCodecs;

  constructor(shard: ShardClient, codecs: CompressionCodecs) {
    this.#shard = shard;
    this.#codecs = codecs;
  }

  /** @param places as the group's marks say */
  async history(
    groupId: string,
    event: { readonly partition: PartitionKey; readonly offset: number },
    places: LedgerPlaces,
  ): Promise<EventHistory> {
    const key = Buffer.from(encodeLedgerKey(groupId, event.partition));
    const steps: LedgerStep[] = [];
    let restBytes = MAX_LEDGER_BYTES;
    // The newest parts first: they say what is so now.
    for (const [from, to] of [...places.ranges].reverse()) {
      const found: LedgerStep[] = [];
      let offset = from;
      while (offset < (to ?? Infinity)) {
        const fetched = await this.#fetch(places.partition, offset);
        if (fetched === null) return { steps: steps.slice(-MAX_STEPS), complete: false };
        // What retention has deleted is not there to be told.
        if (fetched.refusal?.code === 'OFFSET_OUT_OF_RANGE' && fetched.logStartOffset > offset) {
          offset = fetched.logStartOffset;
          continue;
        }
        if (fetched.refusal !== null || fetched.batches.length === 0) break;
        for (const batch of fetched.batches) {
          restBytes -= batch.length;
          this.#collect(batch, key, event.offset, from, to, found);
        }
        offset = fetched.nextOffset;
        if (restBytes <= 0) break;
      }
      steps.unshift(...found);
      if (restBytes <= 0) return { steps: steps.slice(-MAX_STEPS), complete: false };
    }
    return { steps: steps.slice(-MAX_STEPS), complete: true };
  }

  async #fetch(partition: PartitionKey, offset: number): Promise<FetchedPartition | null> {
    const fetched = await readNow(this.#shard, partition, offset, FETCH_BYTES);
    return isRefusal(fetched) ? null : fetched;
  }

  #collect(batch: Uint8Array, key: Buffer, offset: number, from: number, to: number | null, found: LedgerStep[]): void {
    try {
      for (const record of iterateRecords(batch, this.#codecs)) {
        if (record.offset < from || record.offset >= (to ?? Infinity)) continue;
        if (record.key === null || record.value === null || !key.equals(record.key)) continue;
        const { memberId, finished, entries } = decodeLedgerRecord(record.value);
        const { timestampMs: atMs } = record;
        const own = entries.filter((entry) => entry.offset === offset);
        for (const entry of own) found.push({ atMs, what: entry.outcome, memberId, entry });
        if (own.length === 0 && isFinished(0, finished, offset)) {
          found.push({ atMs, what: 'processed', memberId, entry: null });
        }
      }
    } catch (error) {
      // A damaged batch of the ledger hides what it said, and nothing else.
      if (!isNaruError(error)) throw error;
    }
  }
}
