/**
 * A reader with lanes for keys, as a subscriber has them, on a group with held events: failing handlers, crashes of reader and
 * broker, seeks, redrives and purges, in an order that a seed gives.
 *
 * Checked after every step: of the events of a partition each is unread or in hand, held, dead or done, and never two of it;
 * limits; and that what is read from the records is what was evolved. Checked of all that succeeded: the order of each key.
 */
// The model checks as it goes, outside of a test's own function.
// oxlint-disable vitest/no-standalone-expect
import { assert } from '@naru/base';
import { SeededRandom } from '@naru/testkit';
import { expect, test } from 'vitest';
import type { EventOutcome } from './commands.ts';
import { decodeGroupRecord, encodeGroupRecord } from './group-record-codec.ts';
import { evolveGroup, groupRecords, type GroupState, type OffsetRange } from './group-state.ts';
import { HeldScenario, idOf, outcome } from './held-scenario.ts';
import { isFinished } from './held-outcomes.ts';

const EVENTS = 60;
const STEPS = 500;
const MAX_HELD = 25;
const KEYS = ['a', 'b', 'c', 'd'];

interface InHand {
  readonly offset: number;
  /** Came as an event that was held. */
  readonly isHeld: boolean;
}

/** A subscriber: one event of a key at a time, those behind it wait in its lane. */
class Reader {
  position: number;
  readonly finished = new Set<number>();
  readonly outcomes = new Map<number, EventOutcome>();
  readonly lanes = new Map<string, InHand[]>();
  /** Held events that it has, until their outcome is durable. */
  readonly given = new Set<number>();
  /** Handled with success, and not committed yet. */
  successes: InHand[] = [];
  /** Keys whose next event must not be handled before a commit is answered, by the offset that it has to tell of. */
  readonly stopped = new Map<string, number>();

  constructor(position: number) {
    this.position = position;
  }

  /** What a commit of it says: everything below the offset, and ranges beyond. */
  progress(): { offset: number; ranges: OffsetRange[] } {
    let offset = this.position;
    for (let at = 0; at < this.position; at++) {
      if (this.finished.has(at)) continue;
      offset = at;
      break;
    }
    const ranges = [...this.finished].filter((at) => at >= offset).sort((a, b) => a - b);
    return { offset, ranges: ranges.map((at): OffsetRange => [at, at + 1]) };
  }
}

class Model {
  readonly random: SeededRandom;
  readonly group: HeldScenario;
  readonly trace: string[] = [];
  readonly keys: string[];
  reader: Reader;
  /** By key: offsets of committed successes since the last seek. */
  readonly succeeded = new Map<string, number[]>();
  readonly everDone = new Set<number>();
  /** Were dead letters once: they may come out of order where dead letters let others pass. */
  readonly wereDead = new Set<number>();
  /** Were dead letters when somebody went back before them: they are read again, too. */
  readonly sought = new Set<number>();
  refusals = 0;

  constructor(seed: number) {
    this.random = new SeededRandom(seed);
    this.group = new HeldScenario({ maxHeldEvents: MAX_HELD, maxFinishedRanges: EVENTS });
    this.group.parks = this.random.chance(0.5);
    this.keys = Array.from({ length: EVENTS }, () => (this.random.chance(0.1) ? '' : this.random.pick(KEYS)));
    this.group.commit(0);
    this.reader = new Reader(0);
  }

  step(isCalm: boolean): void {
    const rare = isCalm ? 1 : this.random.float();
    if (rare < 0.015) this.crashReader();
    else if (rare < 0.03) this.crashBroker();
    else if (rare < 0.035) this.seek();
    else if (rare < 0.06) this.redrive();
    else if (rare < 0.07) this.purge();
    else {
      const what = this.random.float();
      if (what < 0.35) this.read();
      else if (what < 0.7) this.handle(isCalm);
      else if (what < 0.85) this.push();
      else this.commit();
    }
    this.group.nowMs += this.random.integer(5);
    this.check();
  }

  #key(offset: number): string {
    return this.keys[offset] as string;
  }

  #isBlocked(key: string): boolean {
    if (key === '') return false;
    const isHeldHere = [...this.reader.outcomes.values()].some(
      ({ kind, copy }) => kind === 'held' && copy?.keyId === idOf(key),
    );
    return (
      isHeldHere || this.reader.stopped.has(key) || (this.group.events?.isBlocked(idOf(key), this.group.parks) ?? false)
    );
  }

  read(): void {
    const { reader } = this;
    const offset = reader.position;
    if (offset >= EVENTS) return;
    reader.position += 1;
    if (reader.finished.has(offset)) return;
    const key = this.#key(offset);
    if (this.#isBlocked(key)) this.#report(offset, 'held', 0);
    else this.#lane(key, offset).push({ offset, isHeld: false });
    this.trace.push(`read ${offset}`);
  }

  /** An event without a key is alone in its lane. */
  #lane(key: string, offset: number): InHand[] {
    const name = key === '' ? `#${offset}` : key;
    let lane = this.reader.lanes.get(name);
    if (lane === undefined) this.reader.lanes.set(name, (lane = []));
    return lane;
  }

  push(): void {
    const [offset] = this.group.deliverable([...this.reader.given], 1);
    if (offset === undefined) return;
    const key = this.#key(offset);
    const others = [...this.reader.given].filter((at) => this.#key(at) === key);
    assert(key === '' || others.length === 0, `${offset} is given beside ${others.join(' ')}`);
    this.reader.given.add(offset);
    this.#lane(this.#key(offset), offset).push({ offset, isHeld: true });
    this.trace.push(`given ${offset}`);
  }

  /** The first of a lane: it succeeds, fails, or is given up. */
  handle(isCalm: boolean): void {
    const { reader } = this;
    const lanes = [...reader.lanes].filter(([name, lane]) => lane.length > 0 && !reader.stopped.has(name));
    if (lanes.length === 0) return;
    const [name, lane] = this.random.pick(lanes);
    const event = lane.shift() as InHand;
    const luck = isCalm ? 0 : this.random.float();
    this.trace.push(`handled ${event.offset} ${luck < 0.6 ? 'well' : luck < 0.8 ? 'badly' : 'never again'}`);
    if (luck < 0.6) {
      reader.successes.push(event);
      if (event.isHeld) reader.outcomes.set(event.offset, outcome(event.offset, 'processed'));
      else reader.finished.add(event.offset);
      return;
    }
    this.#report(event.offset, luck < 0.8 ? 'held' : 'dead-lettered', 1, event.isHeld);
    // Those behind it must not pass it.
    if (name.startsWith('#')) return;
    if (luck >= 0.8 && !this.group.parks) return;
    reader.stopped.set(name, event.offset);
    for (const next of lane.splice(0))
      if (!next.isHeld) this.#report(next.offset, 'held', 0);
      else reader.given.delete(next.offset);
  }

  #report(offset: number, kind: 'held' | 'dead-lettered', attempts: number, isHeld = false): void {
    const key = this.#key(offset);
    const nextAttemptMs = attempts > 0 && kind === 'held' ? this.group.nowMs + this.random.integer(20) : 0;
    const given = isHeld ? undefined : key === '' ? null : key;
    this.reader.outcomes.set(offset, outcome(offset, kind, given, { attempts, nextAttemptMs, reason: 'x' }));
    if (!isHeld) this.reader.finished.add(offset);
    if (kind === 'dead-lettered') this.wereDead.add(offset);
  }

  commit(): void {
    const { reader, group } = this;
    const { offset, ranges } = reader.progress();
    const outcomes = [...reader.outcomes.values()];
    const code = group.commit(offset, outcomes, ranges);
    this.trace.push(`commit ${offset} ${outcomes.length} ${code}`);
    if (code !== 'ok') {
      expect(code).toBe('HELD_LIMIT_REACHED');
      this.refusals += 1;
      this.#limited();
      return;
    }
    this.#succeeded(reader.successes);
    reader.successes = [];
    for (const at of reader.outcomes.keys()) reader.given.delete(at);
    reader.outcomes.clear();
    reader.stopped.clear();
  }

  /** Nothing was taken but what became of events that were held before. */
  #limited(): void {
    const { reader } = this;
    for (const [at, { copy }] of reader.outcomes) {
      if (copy !== undefined) continue;
      reader.outcomes.delete(at);
      reader.given.delete(at);
      for (const [key, by] of reader.stopped) if (by === at) reader.stopped.delete(key);
    }
    this.#succeeded(reader.successes.filter(({ isHeld }) => isHeld));
    reader.successes = reader.successes.filter(({ isHeld }) => !isHeld);
  }

  #succeeded(events: readonly InHand[]): void {
    for (const { offset: at } of events) {
      this.everDone.add(at);
      const key = this.#key(at);
      if (key === '') continue;
      const before = this.succeeded.get(key) ?? [];
      const last = before.at(-1) ?? -1;
      const isLate = (one: number): boolean => (!this.group.parks && this.wereDead.has(one)) || this.sought.has(one);
      const mayBeLate = isLate(at) || isLate(last);
      if (!mayBeLate) expect(at, `key ${key} after ${before.join(' ')}`).toBeGreaterThanOrEqual(last);
      this.succeeded.set(key, [...before, at]);
    }
  }

  /** Another one goes on where the group is. */
  crashReader(): void {
    const committed = this.group.state?.offsets.get(this.group.partition);
    this.reader = new Reader(committed?.offset ?? 0);
    for (let at = 0; at < EVENTS; at++) {
      if (committed !== undefined && isFinished(committed, at)) this.reader.finished.add(at);
    }
    this.trace.push(`reader from ${committed?.offset}`);
  }

  /** The state comes back from the records' bytes; readers have to come back too. */
  crashBroker(): void {
    const { group } = this;
    let replayed: GroupState | undefined;
    const bytes = group.records.map(encodeGroupRecord);
    for (const { key, value } of bytes) replayed = evolveGroup(replayed, decodeGroupRecord(key, value));
    assert(replayed !== undefined && group.state !== undefined, 'there is a group');
    expect(plain(replayed)).toEqual(plain(group.state));
    group.state = replayed;
    this.trace.push('broker');
    this.crashReader();
  }

  /** Reads again from an offset; says so with a commit. */
  seek(): void {
    const to = this.random.integer(EVENTS);
    if (this.group.commit(to) !== 'ok') return;
    for (const [offset, { state }] of this.group.events ?? []) if (state === 'dead') this.sought.add(offset);
    this.reader = new Reader(to);
    for (let at = 0; at < to; at++) this.reader.finished.add(at);
    this.succeeded.clear();
    // Jumped over, if it went forward.
    for (let at = 0; at < to; at++) this.everDone.add(at);
    this.trace.push(`seek ${to}`);
  }

  redrive(): void {
    const { letters } = this.group.reply({ type: 'redrive', ...this.#query() });
    this.trace.push(`redrive ${letters.map(({ offset }) => offset).join(' ')}`);
  }

  purge(): void {
    const { letters } = this.group.reply({ type: 'purge-dead-letters', ...this.#query() });
    for (const { offset } of letters) this.everDone.add(offset);
    this.trace.push(`purge ${letters.map(({ offset }) => offset).join(' ')}`);
  }

  #query() {
    const keyId = this.random.chance(0.5) ? idOf(this.random.pick(KEYS)) : null;
    const filter = { places: null, topicId: null, keyId, reason: null, sinceMs: null, beforeMs: null };
    return { filter, limit: 1 + this.random.integer(5), cursor: null, dryRun: this.random.chance(0.1) };
  }

  check(): void {
    const { group } = this;
    const held = group.events;
    const committed = group.state?.offsets.get(group.partition);
    assert(committed !== undefined, 'something is committed');
    assert((held?.size ?? 0) <= MAX_HELD, 'the limit is kept');
    for (let offset = 0; offset < EVENTS; offset++) {
      const state = held?.get(offset)?.state;
      const finished = isFinished(committed, offset);
      // Else it would be both held and read again.
      if (state === 'waiting' && !this.sought.has(offset)) assert(finished, `${offset} waits and is unread`);
      if (finished && state === undefined) assert(this.everDone.has(offset), `${offset} is lost`);
    }
  }

  /** Redrives what is dead and handles everything well: in the end nothing is left. */
  settle(): void {
    for (let round = 0; round < 2_000 && !this.isSettled; round++) {
      this.group.nowMs += 50;
      if (round % 50 === 49) {
        this.redrive();
        this.commit();
      }
      this.step(true);
    }
    expect(this.isSettled, 'everything is handled in the end').toBe(true);
  }

  get isSettled(): boolean {
    const { group } = this;
    return group.events === undefined && group.state?.offsets.get(group.partition)?.offset === EVENTS;
  }
}

function plain(state: GroupState): unknown {
  return groupRecords(state)
    .map((record) => {
      const { key, value } = encodeGroupRecord(record);
      return [...key, -1, ...(value ?? [])].join(' ');
    })
    .sort();
}

function run(seed: number): Model {
  const model = new Model(seed);
  try {
    for (let step = 0; step < STEPS; step++) model.step(false);
    model.settle();
  } catch (error) {
    throw new Error(`seed ${seed}, after: ${model.trace.slice(-40).join(', ')}`, { cause: error });
  }
  return model;
}

test('nothing is lost, and the order of each key holds, whatever fails', () => {
  let refusals = 0;
  for (let seed = 1; seed <= 40; seed++) refusals += run(seed).refusals;
  expect(refusals).toBeGreaterThan(0);
}, 60_000);

test('the same seed gives the same trace', () => {
  expect(run(7).trace).toEqual(run(7).trace);
});
