/**
 * DescribeConfigs 1–4: topics, the broker, its logger. No keys, null or empty, ask for all; entries come by name. A resource that
 * is named twice is INVALID_REQUEST, so that no answer is much larger than what there is to tell.
 *
 * Topics show ours and Kafka's settings together, each with where its value comes from. Settings of the broker are read-only,
 * and there are none for "all brokers" (an empty name). Kafka's other resources (client metrics, groups) have no settings here:
 * INVALID_REQUEST, as for a resource nobody knows.
 */
import { checkTopicName } from '@naru/protocol';
import type { KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import { KAFKA_NODE_ID, type KafkaCall, type KafkaHandlers } from '../kafka-handler.ts';
import { DONE, refused, refusedAs, repeated, type AdminAnswer } from './admin-answers.ts';
import type { BrokerConfigView } from './broker-config-view.ts';
import { checkNodeName, keyOf, NAMED_TWICE, RESOURCE } from './config-resource.ts';
import type { ConfigEntry, TopicConfigView } from './topic-config-view.ts';

export interface DescribeConfigsOptions {
  readonly topics: TopicService;
  readonly configView: TopicConfigView;
  readonly brokerView: BrokerConfigView;
}

type Request = KafkaRequest<'describeConfigs'>;
type Resource = Request['resources'][number];
type Result = KafkaResponse<'describeConfigs'>['results'][number];

export function describeConfigsHandlers(
  options: DescribeConfigsOptions,
): Required<Pick<KafkaHandlers, 'describeConfigs'>> {
  return {
    describeConfigs: {
      handle: (request, call) => {
        const twice = repeated(request.resources.map(keyOf));
        const results = request.resources.map((resource) => {
          if (twice.has(keyOf(resource))) return without(resource, refused('INVALID_REQUEST', NAMED_TWICE));
          const entries = entriesOf(resource, call, options);
          return Array.isArray(entries) ? result(resource, entries, request) : without(resource, entries);
        });
        return { results };
      },
      failed: ({ resources }, error) => ({ results: resources.map((resource) => without(resource, refusedAs(error))) }),
    },
  };
}

function entriesOf(
  { resourceType, resourceName }: Resource,
  { advertised }: KafkaCall,
  { topics, configView, brokerView }: DescribeConfigsOptions,
): ConfigEntry[] | AdminAnswer {
  switch (resourceType) {
    case RESOURCE.topic: {
      const topic = topics.find(resourceName);
      return isRefusal(topic) ? refusedAs(checkTopicName(resourceName) ?? topic) : configView.entries(topic);
    }
    case RESOURCE.broker:
      if (resourceName === '') return [];
      return checkNodeName(resourceName) ?? brokerView.entries(KAFKA_NODE_ID, advertised);
    case RESOURCE.brokerLogger:
      return checkNodeName(resourceName) ?? brokerView.loggers();
    default:
      return refused('INVALID_REQUEST', `resources of type ${resourceType} have no settings here`);
  }
}

function result(
  { resourceType, resourceName, configurationKeys }: Resource,
  entries: readonly ConfigEntry[],
  { includeSynonyms, includeDocumentation }: Request,
): Result {
  const keys = configurationKeys === null || configurationKeys.length === 0 ? null : new Set(configurationKeys);
  return {
    ...DONE,
    resourceType,
    resourceName,
    configs: entries
      .filter(({ name }) => keys === null || keys.has(name))
      .map(({ name, value, source, type, help, readOnly, synonyms }) => ({
        name,
        value,
        readOnly,
        configSource: source,
        isSensitive: false,
        synonyms: includeSynonyms ? synonyms : [],
        configType: type,
        documentation: includeDocumentation ? help : null,
      })),
  };
}

function without({ resourceType, resourceName }: Resource, answer: AdminAnswer): Result {
  return { ...answer, resourceType, resourceName, configs: [] };
}
