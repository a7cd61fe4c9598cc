/**
 * A group coordinator behind the Kafka door on a table, for tests: requests go through the codec in the version that the
 * test says, as frames, and answers come back the same way. The test brings clock, store and randomness.
 */
import type { Clock, Random, Timers } from '@naru/base';
import type { LogStore } from '../../../log/log-store.ts';
import {
  decodeResponse,
  encodeConsumerSubscription,
  encodeRequest,
  kafkaApis,
  type KafkaApiName,
  type KafkaRequestInput,
  type KafkaResponseOutput,
} from '@naru/protocol/kafka';
import { topicMetadataKey, TopicRegistry, type TopicMetadata } from '../../../core/registry/topic-registry.ts';
import { finished } from '../../../runtime/settling.ts';
import { GROUP_LOG, ORDERS, sampleTopic, ShardScenario } from '../../../runtime/shard-scenario.ts';
import { RequestAnswerer } from '../request-answerer.ts';
import { groupHandlers } from './group-handlers.ts';

export const PAYMENTS = sampleTopic('payments', 2);
/** Keeps what its groups have not committed. */
const ACKED: TopicMetadata = {
  ...sampleTopic('acked'),
  config: { 'cleanup.policy': 'acknowledged', 'acknowledged.groups': 'payment' },
};

const SIZE_BYTES = 4;

export interface GroupScenarioOptions {
  readonly time: Clock & Timers & { advance(ms: number): void };
  readonly store: LogStore;
  readonly random: Random;
}

export class GroupScenario {
  readonly shard: ShardScenario;
  readonly time: GroupScenarioOptions['time'];
  readonly registry = new TopicRegistry();
  readonly #answerer: RequestAnswerer;
  #correlationId = 0;

  private constructor(shard: ShardScenario, topics: readonly TopicMetadata[], options: GroupScenarioOptions) {
    this.shard = shard;
    this.time = options.time;
    for (const topic of topics) this.registry.apply({ key: topicMetadataKey(topic.name), topic });
    const { random } = options;
    this.#answerer = new RequestAnswerer(groupHandlers({ shard: shard.client, registry: this.registry, random }));
  }

  static async start(options: GroupScenarioOptions): Promise<GroupScenario> {
    const topics = [GROUP_LOG, ORDERS, PAYMENTS, ACKED];
    const { store, time } = options;
    const shard = await finished(ShardScenario.start({ store, time, topics }), time);
    return new GroupScenario(shard, topics, options);
  }

  async close(): Promise<void> {
    await finished(this.shard.shard.close(), this.time);
  }

  /** The answer, as the client reads it; undefined when there is none. */
  async send<N extends KafkaApiName>(
    name: N,
    version: number,
    body: KafkaRequestInput<N>,
    { clientId = 'test', signal = new AbortController().signal } = {},
  ): Promise<KafkaResponseOutput<N> | undefined> {
    const api = kafkaApis[name];
    const header = { correlationId: ++this.#correlationId, clientId };
    const frame = Buffer.concat(encodeRequest(api, version, header, body as never)).subarray(SIZE_BYTES);
    const advertised = { host: 'broker.test', port: 9092 };
    const call = { clientHost: '192.0.2.1', advertised, signal };
    const answer = await this.#answerer.answer(RequestAnswerer.read(frame), call);
    if (answer === null) return undefined;
    const response = decodeResponse(api, version, Buffer.concat(answer).subarray(SIZE_BYTES));
    if (response.correlationId !== header.correlationId) throw new Error('the answer to another request');
    // Which API it is the compiler cannot see through a type parameter.
    return response.body as unknown as KafkaResponseOutput<N>;
  }

  /** {@link send}, with the clock going on while nothing happens. */
  async ask<N extends KafkaApiName>(
    name: N,
    version: number,
    body: KafkaRequestInput<N>,
    clientId = 'test',
  ): Promise<KafkaResponseOutput<N>> {
    const response = await finished(this.send(name, version, body, { clientId }), this.time);
    if (response === undefined) throw new Error(`${name} was not answered`);
    return response;
  }

  /** A member of the classic protocol joins, alone or with those who join meanwhile. */
  join(memberId: string, version = 5, changes: Partial<KafkaRequestInput<'joinGroup'>> = {}) {
    return this.send('joinGroup', version, joinRequest(memberId, changes));
  }

  /** A classic consumer on its own goes all the way. @returns its id */
  async joined(version = 3): Promise<string> {
    const joined = await finished(this.join('', version), this.time);
    if (joined === undefined || joined.errorCode !== 0) throw new Error(`the join failed: ${joined?.errorCode}`);
    const { memberId, generationId } = joined;
    const assignments = [{ memberId, assignment: new Uint8Array() }];
    await this.ask('syncGroup', 0, { groupId: 'payment', generationId, memberId, assignments });
    return memberId;
  }
}

export function joinRequest(
  memberId: string,
  changes: Partial<KafkaRequestInput<'joinGroup'>> = {},
): KafkaRequestInput<'joinGroup'> {
  return {
    groupId: 'payment',
    sessionTimeoutMs: 10_000,
    rebalanceTimeoutMs: 30_000,
    memberId,
    protocolType: 'consumer',
    protocols: [{ name: 'range', metadata: subscription(['orders']) }],
    ...changes,
  };
}

/** What a consumer says of itself, in version 3. */
export function subscription(topics: readonly string[], owned: readonly number[] = []): Uint8Array {
  const ownedPartitions = owned.length === 0 ? [] : [{ topic: topics[0]!, partitions: owned }];
  return encodeConsumerSubscription(3, { topics, ownedPartitions });
}
