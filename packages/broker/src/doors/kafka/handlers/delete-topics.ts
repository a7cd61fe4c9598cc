/**
 * DeleteTopics 1–6, by name, from version 6 on by name or id. Answered when the names are free again.
 *
 * Differs from Kafka: the broker's own topics cannot be deleted (INVALID_TOPIC_EXCEPTION); the time-out has no effect.
 */
import { NO_TOPIC_ID, type KafkaRequest, type KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { answered, DONE, refused, refusedAs, repeated, type AdminAnswer } from './admin-answers.ts';

type Request = KafkaRequest<'deleteTopics'>;
type Wanted = Request['topics'][number];
type Deleted = KafkaResponse<'deleteTopics'>['responses'][number];

export function deleteTopicsHandlers(topics: TopicService): Required<Pick<KafkaHandlers, 'deleteTopics'>> {
  return {
    deleteTopics: {
      handle: async (request) => ({ responses: await deleteAll(wantedOf(request), topics) }),
      failed: (request, error) => ({
        responses: wantedOf(request).map((wanted) => ({ ...wanted, ...refusedAs(error) })),
      }),
    },
  };
}

/** One of the two lists is empty, depending on the version. */
function wantedOf({ topics, topicNames }: Request): Wanted[] {
  return [...topicNames.map((name) => ({ name, topicId: NO_TOPIC_ID })), ...topics];
}

async function deleteAll(wanted: readonly Wanted[], topics: TopicService): Promise<Deleted[]> {
  const responses: Deleted[] = [];
  const twice = repeated(wanted.flatMap(keyOf));
  const answeredTwice = new Set<string>();
  const done = new Set<string>();
  for (const each of wanted) {
    const [key] = keyOf(each);
    if (key !== undefined && twice.has(key)) {
      if (!answeredTwice.has(key))
        responses.push({ ...each, ...refused('INVALID_REQUEST', 'the topic is named twice') });
      answeredTwice.add(key);
      continue;
    }
    const resolved = resolve(each, topics);
    if ('errorCode' in resolved) {
      responses.push({ ...each, ...resolved });
    } else if (done.has(resolved.topicId)) {
      responses.push({ ...resolved, ...refused('INVALID_REQUEST', 'the topic is named twice, by name and by id') });
    } else {
      done.add(resolved.topicId);
      const answer = await answered(async () => {
        const refusal = await topics.delete(resolved.name);
        return refusal === null ? DONE : refusedAs(refusal);
      });
      responses.push({ ...resolved, ...answer });
    }
  }
  return responses;
}

/** What the entry names, when it does so in one way. */
function keyOf({ name, topicId }: Wanted): string[] {
  if (name === null) return topicId === NO_TOPIC_ID ? [] : [`id ${topicId}`];
  return topicId === NO_TOPIC_ID ? [`name ${name}`] : [];
}

function resolve(
  { name, topicId }: Wanted,
  topics: TopicService,
): { readonly name: string; readonly topicId: Wanted['topicId'] } | AdminAnswer {
  if (name === null && topicId === NO_TOPIC_ID) return refused('INVALID_REQUEST', 'name the topic, or give its id');
  if (name === null) {
    const topic = topics.findById(topicId);
    return isRefusal(topic) ? refused('UNKNOWN_TOPIC_ID', topic.message) : { name: topic.name, topicId };
  }
  if (topicId !== NO_TOPIC_ID) return refused('INVALID_REQUEST', 'give the name of the topic or its id, not both');
  const topic = topics.find(name);
  return isRefusal(topic) ? refusedAs(topic) : { name, topicId: topic.id };
}
