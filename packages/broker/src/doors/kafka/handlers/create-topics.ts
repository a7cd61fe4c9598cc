/**
 * CreateTopics 2–7. Answered when the topics can be used; each topic stands for itself.
 *
 * −1 partitions are the broker's default, also before version 4. One replica is what there is: −1 and 1 are taken, more is
 * INVALID_REPLICATION_FACTOR, as it is from a Kafka of one broker; assignments may name node 1 only.
 *
 * Topics are `ordered`.
 *
 * Differs from Kafka: names that begin with `__` are the broker's own; `a.b` and `a_b` may exist side by side; the time-out
 * has no effect.
 */
import type { Refusal } from '@naru/protocol';
import type { KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';
import type { TopicConfigTexts } from '../../../core/registry/topic-config.ts';
import type { TopicMetadata } from '../../../core/registry/topic-registry.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { answered, DONE, refused, refusedAs, repeated, type AdminAnswer } from './admin-answers.ts';
import { checkReplicas } from './replica-assignment.ts';
import type { TopicConfigView } from './topic-config-view.ts';

/** New partitions that one request may ask for, as in Kafka. */
export const MAX_NEW_PARTITIONS = 10_000;

export interface CreateTopicsOptions {
  readonly topics: TopicService;
  readonly configView: TopicConfigView;
}

type Request = KafkaRequest<'createTopics'>;
type Creatable = Request['topics'][number];
type Created = KafkaResponse<'createTopics'>['topics'][number];

export function createTopicsHandlers(options: CreateTopicsOptions): Required<Pick<KafkaHandlers, 'createTopics'>> {
  return {
    createTopics: {
      handle: async (request) => ({ topics: await createAll(request, options) }),
      failed: ({ topics }, error) => ({ topics: topics.map((topic) => without(topic, refusedAs(error))) }),
    },
  };
}

async function createAll({ topics, validateOnly }: Request, options: CreateTopicsOptions): Promise<Created[]> {
  const total = topics.reduce((sum, topic) => sum + Math.max(topic.numPartitions, topic.assignments.length, 1), 0);
  if (total > MAX_NEW_PARTITIONS) {
    const tooMany = refused(
      'POLICY_VIOLATION',
      `a request creates at most ${MAX_NEW_PARTITIONS} partitions, not ${total}`,
    );
    return topics.map((topic) => without(topic, tooMany));
  }
  const twice = repeated(topics.map(({ name }) => name));
  const results = [...twice].map((name) => without({ name }, refused('INVALID_REQUEST', 'the topic is named twice')));
  for (const topic of topics) {
    if (twice.has(topic.name)) continue;
    const result = await answered<Created>(() => createOne(topic, validateOnly, options));
    results.push('name' in result ? result : without(topic, result));
  }
  return results;
}

async function createOne(
  asked: Creatable,
  validateOnly: boolean,
  { topics, configView }: CreateTopicsOptions,
): Promise<Created | AdminAnswer> {
  const partitionCount = partitionCountOf(asked);
  if (typeof partitionCount !== 'number') return partitionCount;
  const config = configOf(asked);
  if (config === null) return refused('INVALID_CONFIG', 'a setting has no value');
  const topic: TopicMetadata | Refusal = await topics.create(
    { name: asked.name, type: 'ordered', partitionCount, config },
    validateOnly,
  );
  if (isRefusal(topic)) return refusedAs(topic);
  return {
    ...DONE,
    name: topic.name,
    topicId: topic.id,
    numPartitions: topic.partitionCount,
    replicationFactor: 1,
    configs: configView
      .entries(topic)
      .map(({ name, value, source }) => ({ name, value, readOnly: false, configSource: source, isSensitive: false })),
  };
}

/** 0 is the broker's default. */
function partitionCountOf({ numPartitions, replicationFactor, assignments }: Creatable): number | AdminAnswer {
  if (assignments.length > 0) {
    if (numPartitions !== -1 || replicationFactor !== -1) {
      return refused('INVALID_REQUEST', 'with an assignment of partitions, their number and replication factor are -1');
    }
    const indexes = new Set(assignments.map(({ partitionIndex }) => partitionIndex));
    if (indexes.size < assignments.length || assignments.some((_, index) => !indexes.has(index))) {
      return refused('INVALID_REPLICA_ASSIGNMENT', 'partitions are numbered from 0 on, without gaps or repetitions');
    }
    for (const { brokerIds } of assignments) {
      const wrong = checkReplicas(brokerIds);
      if (wrong !== null) return wrong;
    }
    return assignments.length;
  }
  if (replicationFactor < -1 || replicationFactor === 0) {
    return refused('INVALID_REPLICATION_FACTOR', 'the replication factor is 1, or -1 for the default');
  }
  if (replicationFactor > 1) {
    const message = `${replicationFactor} replicas cannot be placed: there is one broker; use 1, or -1 for the default`;
    return refused('INVALID_REPLICATION_FACTOR', message);
  }
  if (numPartitions < -1 || numPartitions === 0) {
    return refused('INVALID_PARTITIONS', 'a topic has 1 partition or more, or -1 for the default');
  }
  return numPartitions === -1 ? 0 : numPartitions;
}

/** Null when a value is missing. Of a setting that is named twice the last value counts. */
function configOf({ configs }: Creatable): TopicConfigTexts | null {
  const texts: [string, string][] = [];
  for (const { name, value } of configs) {
    if (value === null) return null;
    texts.push([name, value]);
  }
  return Object.fromEntries(texts);
}

function without({ name }: { readonly name: string }, answer: AdminAnswer): Created {
  return { ...answer, name, configs: [] };
}
