/**
 * CreatePartitions 0–3. Answered when the partitions can be used; each topic stands for itself.
 *
 * More partitions move keys, and what is stored of a key is then no longer handled before what comes. So it
 * takes consent, by the topic's setting `allow.key.reorder` or the broker's `allowKeyReorder`; without it the answer is
 * POLICY_VIOLATION, with a message that names both. In Kafka no consent is needed.
 */
import type { KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { answered, DONE, refused, refusedAs, repeated, type AdminAnswer } from './admin-answers.ts';
import { MAX_NEW_PARTITIONS } from './create-topics.ts';
import { checkReplicas } from './replica-assignment.ts';

type Request = KafkaRequest<'createPartitions'>;
type Wanted = Request['topics'][number];
type Result = KafkaResponse<'createPartitions'>['results'][number];

export function createPartitionsHandlers(topics: TopicService): Required<Pick<KafkaHandlers, 'createPartitions'>> {
  return {
    createPartitions: {
      handle: async (request) => ({ results: await growAll(request, topics) }),
      failed: (request, error) => ({ results: request.topics.map(({ name }) => ({ name, ...refusedAs(error) })) }),
    },
  };
}

async function growAll(request: Request, topics: TopicService): Promise<Result[]> {
  const twice = repeated(request.topics.map(({ name }) => name));
  const results: Result[] = [...twice].map((name) => ({
    name,
    ...refused('INVALID_REQUEST', 'the topic is named twice'),
  }));
  let added = 0;
  for (const wanted of request.topics) {
    if (twice.has(wanted.name)) continue;
    const answer = await answered<AdminAnswer>(async () => {
      const topic = topics.find(wanted.name);
      if (isRefusal(topic)) return refusedAs(topic);
      const more = wanted.count - topic.partitionCount;
      if (added + more > MAX_NEW_PARTITIONS) {
        return refused('POLICY_VIOLATION', `a request creates at most ${MAX_NEW_PARTITIONS} partitions`);
      }
      const wrong = more > 0 ? checkAssignments(wanted, more) : null;
      if (wrong !== null) return wrong;
      const grown = await topics.addPartitions(wanted.name, wanted.count, false, request.validateOnly);
      if (isRefusal(grown)) return refusedAs(grown);
      added += more;
      return DONE;
    });
    results.push({ name: wanted.name, ...answer });
  }
  return results;
}

function checkAssignments({ assignments }: Wanted, more: number): AdminAnswer | null {
  if (assignments === null) return null;
  if (assignments.length !== more) {
    const message = `${more} partitions are added, the assignment is for ${assignments.length}`;
    return refused('INVALID_REPLICA_ASSIGNMENT', message);
  }
  for (const { brokerIds } of assignments) {
    const wrong = checkReplicas(brokerIds);
    if (wrong !== null) return wrong;
  }
  return null;
}
