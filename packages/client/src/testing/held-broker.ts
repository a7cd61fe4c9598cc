/**
 * A broker with one partition that keeps events for its group as core/held does, over streams that delay and break: for
 * simulations of the SDK's side of holding, blocking and freeing keys. It checks what it is told.
 */
import { create } from '@bufbuild/protobuf';
import type { MessageInitShape } from '@bufbuild/protobuf';
import { topicIdToBytes } from '@naru/base';
import type { Random } from '@naru/base';
import { NaruError, keyId } from '@naru/protocol';
import { encodeBatch } from '@naru/protocol/batch';
import { OutcomeKind, SubscribeResponseSchema } from '@naru/protocol/proto';
import type {
  Commit,
  EventOutcome,
  Join,
  PartitionCommit,
  SubscribeRequest,
  SubscribeResponse,
} from '@naru/protocol/proto';
import type { PublishStream, SubscribeStream, Transport } from '../transport/transport.ts';
import { TOPIC_ID } from './fake-group-broker.ts';
import { FakeStream } from './fake-stream.ts';
import type { VirtualTime } from './virtual-time.ts';

type Said = MessageInitShape<typeof SubscribeResponseSchema>['message'];

export interface HeldEntry {
  state: 'waiting' | 'dead';
  readonly key: string | null;
  attempts: number;
  notBeforeMs: number;
  reason: string;
  redriven: boolean;
}

export interface HeldBrokerOptions {
  readonly time: VirtualTime;
  readonly random: Random;
  readonly parks: boolean;
  readonly maxDelayMs: number;
  /** Whether the handler has succeeded with the offset. */
  succeeded(offset: number): boolean;
}

const REF = { topicId: topicIdToBytes(TOPIC_ID), partition: 0 };
const text = new TextEncoder();

export class HeldBroker implements Transport {
  readonly #options: HeldBrokerOptions;
  readonly log: { readonly key: string | null; readonly value: string }[] = [];
  readonly held = new Map<number, HeldEntry>();
  /** What it was told that cannot be. */
  readonly violations: string[] = [];
  /** Offsets that are finished, as committed. */
  #finished = new Set<number>();
  committed = 0;
  refusals = 0;
  /** Held events at a time; more are refused. */
  limit = Number.POSITIVE_INFINITY;
  maxHeld = 0;
  #stream: FakeStream<SubscribeRequest, SubscribeResponse> | null = null;
  #polls: number[] = [];
  #position = 0;
  #told = new Set<string>();
  #given = new Set<number>();

  constructor(options: HeldBrokerOptions) {
    this.#options = options;
  }

  openPublishStream(): PublishStream {
    throw new Error('this broker takes subscribers only');
  }

  call(): Promise<never> {
    return Promise.reject(new NaruError('UNSUPPORTED', 'not here'));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  openSubscribeStream(): SubscribeStream {
    const { time, random, maxDelayMs } = this.#options;
    const stream: FakeStream<SubscribeRequest, SubscribeResponse> = new FakeStream(
      time,
      ({ message }) => {
        if (this.#stream !== stream) return;
        if (message.case === 'join') this.#joined(message.value);
        else if (message.case === 'poll') this.#polls.push(message.value.pollId);
        else if (message.case === 'commit') this.#committed(message.value);
        else if (message.case === 'leave') this.#say({ case: 'left', value: {} });
        this.#serve();
      },
      () => random.integer(maxDelayMs + 1),
    );
    this.#stream = stream;
    this.#polls = [];
    return stream;
  }

  append(key: string | null, value: string): void {
    this.log.push({ key, value });
    this.#serve();
  }

  breakStream(): void {
    this.#stream?.break(new NaruError('NETWORK', 'connection reset'));
  }

  redrive(offset: number): void {
    const entry = this.held.get(offset);
    if (entry?.state !== 'dead') return;
    Object.assign(entry, { state: 'waiting', attempts: 0, notBeforeMs: 0, redriven: true });
    this.#feed();
  }

  get isDone(): boolean {
    const isWaiting = [...this.held.values()].some(({ state }) => state === 'waiting');
    return this.committed === this.log.length && !isWaiting;
  }

  #say(message: Said): void {
    this.#stream?.answer(create(SubscribeResponseSchema, { message: message as never }));
  }

  #joined({ memberId, memberEpoch, owned }: Join): void {
    this.#say({
      case: 'joined',
      value: { memberId, memberEpoch: 1, heartbeatIntervalMs: 3_000, sessionTimeoutMs: 45_000 },
    });
    this.#given.clear();
    const blocked = [...this.#blocked()];
    this.#told = new Set(blocked);
    // One that was told of nothing before its connection broke owns nothing, either.
    if (memberEpoch === 0 || owned.length === 0) {
      this.#position = this.committed;
      const finished = [...this.#finished].filter((offset) => offset >= this.committed);
      const ranges = finished.map((offset) => ({ from: BigInt(offset), to: BigInt(offset + 1) }));
      const position = BigInt(this.#position);
      const assigned = { topic: 'orders', partition: REF, position, finished: ranges, blockedKeys: blocked };
      this.#say({ case: 'assigned', value: { memberEpoch: 1, partitions: [assigned] } });
    } else {
      this.#position = Number(owned[0]?.nextOffset ?? 0);
      this.#say({ case: 'blockedKeys', value: { partition: REF, blocked, unblocked: [] } });
    }
    this.#feed();
  }

  #serve(): void {
    const from = this.#position;
    const count = Math.min(this.log.length - from, 1 + this.#options.random.integer(8));
    if (count <= 0 || this.#polls.length === 0) return;
    const pollId = this.#polls.shift() as number;
    this.#position = from + count;
    const batches = this.#batch(from, count);
    const records = { partition: REF, batches, highWatermark: BigInt(this.log.length) };
    this.#say({ case: 'records', value: { pollId, partitions: [records] } });
    this.#serve();
  }

  #batch(baseOffset: number, count: number): Uint8Array {
    const records = this.log.slice(baseOffset, baseOffset + count).map(({ key, value }) => ({
      key: key === null ? null : text.encode(key),
      value: text.encode(JSON.stringify(value)),
      timestampMs: 1_000,
    }));
    return encodeBatch(records, { baseOffset });
  }

  #committed({ commitId, partitions }: Commit): void {
    const errors = partitions.flatMap((commit) => this.#commit(commit));
    // What is blocked is told before the commit that blocked it is answered.
    this.#tellBlocked();
    this.#say({ case: 'committed', value: { commitId, errors } });
    this.#feed();
  }

  #commit({ offset: wide, finished, outcomes }: PartitionCommit) {
    const next = new Set(this.#finished);
    for (let offset = this.committed; offset < Number(wide); offset++) next.add(offset);
    for (const { from, to } of finished) for (let o = Number(from); o < Number(to); o++) next.add(o);
    const fresh = outcomes.filter((one) => isKept(one) && !this.held.has(Number(one.offset)));
    if (this.held.size + fresh.length > this.limit) {
      this.refusals += 1;
      return [{ partition: REF, error: { code: 'HELD_LIMIT_REACHED', message: 'full', retriable: true } }];
    }
    if (Number(wide) < this.committed) this.violations.push(`commit went back from ${this.committed} to ${wide}`);
    for (const outcome of outcomes) this.#outcome(outcome, next);
    for (const offset of next) {
      const isAccounted = this.#finished.has(offset) || this.held.has(offset) || this.#options.succeeded(offset);
      if (!isAccounted) this.violations.push(`offset ${offset} was committed and neither handled nor kept`);
    }
    this.#finished = next;
    this.committed = Math.max(this.committed, Number(wide));
    this.maxHeld = Math.max(this.maxHeld, this.held.size);
    return [];
  }

  #outcome({ offset: wide, kind, attempts, nextAttemptMs, reason }: EventOutcome, finished: Set<number>): void {
    const offset = Number(wide);
    const entry = this.held.get(offset);
    if (kind === OutcomeKind.FAILED) return;
    if (entry !== undefined) this.#given.delete(offset);
    if (kind === OutcomeKind.PROCESSED || kind === OutcomeKind.SKIPPED) {
      if (entry?.state === 'waiting') this.held.delete(offset);
      return;
    }
    if (!finished.has(offset)) this.violations.push(`offset ${offset} has an outcome and is not finished`);
    if (entry?.state === 'dead' || (entry !== undefined && kind === OutcomeKind.HELD && attempts === 0)) return;
    const { key = null } = this.log[offset] ?? {};
    const state = kind === OutcomeKind.HELD ? 'waiting' : 'dead';
    const notBeforeMs = Number(nextAttemptMs);
    this.held.set(offset, { state, key, attempts, notBeforeMs, reason, redriven: entry?.redriven ?? false });
  }

  #blocked(): Set<string> {
    const blocked = new Set<string>();
    for (const { key, state } of this.held.values()) {
      if (key !== null && (state === 'waiting' || this.#options.parks)) blocked.add(keyId(text.encode(key)));
    }
    return blocked;
  }

  #tellBlocked(): void {
    const fresh = [...this.#blocked()].filter((id) => !this.#told.has(id));
    for (const id of fresh) this.#told.add(id);
    if (fresh.length > 0) this.#say({ case: 'blockedKeys', value: { partition: REF, blocked: fresh, unblocked: [] } });
  }

  /** Gives what is due, one of a key at a time, and tells what is free. */
  #feed(): void {
    this.#tellBlocked();
    const blocked = this.#blocked();
    const free = [...this.#told].filter((id) => !blocked.has(id));
    for (const id of free) this.#told.delete(id);
    if (free.length > 0) this.#say({ case: 'blockedKeys', value: { partition: REF, blocked: [], unblocked: free } });
    const nowMs = this.#options.time.nowMs();
    const seen = new Set<string>();
    for (const [offset, entry] of [...this.held].sort(([a], [b]) => a - b)) {
      const isFirst = entry.key === null || !seen.has(entry.key);
      const standsInTheWay = entry.state === 'waiting' || this.#options.parks;
      if (entry.key !== null && standsInTheWay) seen.add(entry.key);
      if (!isFirst || entry.state !== 'waiting' || this.#given.has(offset)) continue;
      if (entry.notBeforeMs > nowMs) {
        this.#options.time.after(entry.notBeforeMs - nowMs, () => this.#feed());
        continue;
      }
      this.#given.add(offset);
      const { attempts, redriven } = entry;
      const event = { batch: this.#batch(offset, 1), attempts, redriven };
      this.#say({ case: 'held', value: { partition: REF, events: [event] } });
    }
  }
}

function isKept({ kind }: EventOutcome): boolean {
  return kind === OutcomeKind.HELD || kind === OutcomeKind.DEAD_LETTERED;
}
