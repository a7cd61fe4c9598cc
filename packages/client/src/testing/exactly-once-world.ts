/** A subscriber that handles exactly once, its connection, and the brokers that a test plays: one for what is published, one for what is read. */
import { silentLogger, topicIdToBytes } from '@naru/base';
import type { Commit } from '@naru/protocol/proto';
import { Naru } from '../naru.ts';
import type { SettingsInput } from '../settings.ts';
import { settingsSchema } from '../settings.ts';
import type { HandlerContext, NaruEvent } from '../subscriber/event.ts';
import type { Subscriber, SubscriberOptions } from '../subscriber/subscriber.ts';
import type { Transport } from '../transport/transport.ts';
import { FakeGroupBroker, TOPIC_ID } from './fake-group-broker.ts';
import type { CommittedFields } from './fake-group-broker.ts';
import { FakeTransactionBroker } from './fake-transaction-broker.ts';
import { VirtualTime, seededRandom } from './virtual-time.ts';

export type Handle = (event: NaruEvent<string>, context: HandlerContext) => unknown;

const backoff = { initialMs: 10, factor: 1, maxMs: 10, jitter: 0 };
export const INTERVAL_MS = 100;

/** One broker for what is published, one for what is subscribed. */
export function brokers(time: VirtualTime) {
  const group = new FakeGroupBroker(time);
  const log = new FakeTransactionBroker(time);
  log.createTopic('out', 1);
  const commits: string[] = [];
  /** What becomes of the next commits in transactions; then they succeed. */
  const faults: ((commit: Commit) => CommittedFields | 'silent')[] = [];
  const succeed = ({ transaction }: Commit): CommittedFields => {
    if (transaction === undefined) throw new Error('not part of a transaction');
    return { nextTransaction: { ...log.commitWith(transaction), transactionalId: transaction.transactionalId } };
  };
  group.commitTransaction = (commit) => {
    commits.push(group.commits.at(-1) ?? '');
    return (faults.shift() ?? succeed)(commit);
  };
  const transport: Transport = {
    openPublishStream: () => log.openPublishStream(),
    openSubscribeStream: () => group.openSubscribeStream(),
    call: (method, request) => log.call(method, request),
    close: () => Promise.resolve(),
  };
  return { group, log, commits, faults, transport, succeed };
}

export function connectionOf(
  time: VirtualTime,
  transport: Transport,
  publisher: SettingsInput['publisher'] = {},
): Naru {
  const runtime = { clock: time, timers: time, random: seededRandom(1), logger: silentLogger };
  const settings = settingsSchema.parse({
    reconnect: { initial: '10ms', max: '10ms' },
    publisher: { cloudEvents: false, ...publisher },
    subscriber: { concurrency: 4, autoCommitIntervalMs: INTERVAL_MS, guarantee: 'exactly-once' },
  });
  return new Naru(settings, transport, runtime);
}

export async function setUp(
  handle: Handle,
  options: SubscriberOptions = {},
  register?: (subscriber: Subscriber) => unknown,
  publisher?: SettingsInput['publisher'],
) {
  const time = new VirtualTime();
  const all = brokers(time);
  const naru = connectionOf(time, all.transport, publisher);
  const subscriber = naru.subscriber('billing', { retry: { attempts: 3, backoff }, ...options });
  const calls: string[] = [];
  const called: Handle = (event, context) => {
    calls.push(`${event.value}#${context.attempt}`);
    return handle(event, context);
  };
  if (register === undefined) subscriber.handle<string>('orders', called);
  else register(subscriber);
  const end: { error?: unknown; isOver?: boolean } = {};
  void subscriber.run().then(
    () => (end.isOver = true),
    (error: unknown) => (end.error = error),
  );
  await time.advance(0);
  return { time, ...all, naru, subscriber, calls, end };
}

export const events = (...names: string[]) => names.map((name) => ({ key: name[0] as string, value: name }));
export const boom = (): never => {
  throw new Error('boom');
};
export const echo: Handle = ({ key, value }, context) => context.publish('out', `${value}!`, { key });
const ref = (partition: number) => ({ topicId: topicIdToBytes(TOPIC_ID), partition });
export const refusal = (partition: number, code: string): CommittedFields => ({
  errors: [{ partition: ref(partition), error: { code, message: code, retriable: false } }],
});
