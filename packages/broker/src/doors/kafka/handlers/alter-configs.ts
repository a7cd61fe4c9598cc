/**
 * AlterConfigs 0–2: what is given takes the place of everything that was set. IncrementalAlterConfigs 0–1: SET, DELETE, and for
 * lists APPEND and SUBTRACT. Each resource stands for itself: all of its changes or none. In force when answered.
 *
 * Topics only. Settings of Kafka's that change nothing here are taken where they promise nothing false, otherwise INVALID_CONFIG
 * names the setting and its only value (core/registry/kafka-topic-settings.ts).
 *
 * Differs from Kafka: settings of the broker are read when it starts, so that changing one is INVALID_REQUEST, Kafka's answer
 * for settings that are not dynamic; client metrics and groups have none.
 */
import type { KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';
import type { ConfigOperation } from '../../../core/registry/alter-topic-config.ts';
import { isRefusal } from '../../../runtime/commands.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { answered, DONE, refused, refusedAs, repeated, type AdminAnswer } from './admin-answers.ts';
import { checkNodeName, keyOf, NAMED_TWICE, RESOURCE } from './config-resource.ts';

type Resource = KafkaRequest<'alterConfigs'>['resources'][number];
type IncrementalResource = KafkaRequest<'incrementalAlterConfigs'>['resources'][number];
type Result = KafkaResponse<'alterConfigs'>['responses'][number];

/** By Kafka's numbers. */
const OPERATIONS: readonly ConfigOperation['operation'][] = ['set', 'delete', 'append', 'subtract'];

export function alterConfigsHandlers(
  topics: TopicService,
): Required<Pick<KafkaHandlers, 'alterConfigs' | 'incrementalAlterConfigs'>> {
  return {
    alterConfigs: {
      handle: async ({ resources, validateOnly }) => ({
        responses: await alterAll(resources, (resource) => replace(resource, validateOnly, topics)),
      }),
      failed: ({ resources }, error) => ({
        responses: resources.map((resource) => result(resource, refusedAs(error))),
      }),
    },
    incrementalAlterConfigs: {
      handle: async ({ resources, validateOnly }) => ({
        responses: await alterAll(resources, (resource) => alter(resource, validateOnly, topics)),
      }),
      failed: ({ resources }, error) => ({
        responses: resources.map((resource) => result(resource, refusedAs(error))),
      }),
    },
  };
}

interface Alteration {
  readonly resourceType: number;
  readonly resourceName: string;
  readonly configs: readonly { readonly name: string }[];
}

async function alterAll<R extends Alteration>(
  resources: readonly R[],
  change: (resource: R) => Promise<AdminAnswer>,
): Promise<Result[]> {
  const twice = repeated(resources.map(keyOf));
  const results: Result[] = [];
  for (const resource of resources) {
    const wrong = twice.has(keyOf(resource)) ? refused('INVALID_REQUEST', NAMED_TWICE) : checkResource(resource);
    results.push(result(resource, wrong ?? (await answered(() => change(resource)))));
  }
  return results;
}

/** Null for a topic whose settings are each named once; the rest is answered here. */
function checkResource({ resourceType, resourceName, configs }: Alteration): AdminAnswer | null {
  const [name] = repeated(configs.map((config) => config.name));
  if (name !== undefined) return refused('INVALID_REQUEST', `the setting ${JSON.stringify(name)} is named twice`);
  if (resourceType === RESOURCE.topic) return null;
  if (resourceType !== RESOURCE.broker && resourceType !== RESOURCE.brokerLogger) {
    return refused('INVALID_REQUEST', `resources of type ${resourceType} have no settings here`);
  }
  const wrong = resourceName === '' && resourceType === RESOURCE.broker ? null : checkNodeName(resourceName);
  if (wrong !== null || configs.length === 0) return wrong ?? DONE;
  const names = configs.map((config) => config.name).join(', ');
  return refused('INVALID_REQUEST', `${names}: the broker reads its settings from naru.yaml when it starts`);
}

async function replace(resource: Resource, validateOnly: boolean, topics: TopicService): Promise<AdminAnswer> {
  const set: [string, string][] = [];
  for (const { name, value } of resource.configs) {
    if (value === null) return withoutValue(name);
    set.push([name, value]);
  }
  const changed = await topics.replaceConfig(resource.resourceName, Object.fromEntries(set), validateOnly);
  return isRefusal(changed) ? refusedAs(changed) : DONE;
}

async function alter(resource: IncrementalResource, validateOnly: boolean, topics: TopicService): Promise<AdminAnswer> {
  const operations: ConfigOperation[] = [];
  for (const { name, configOperation, value } of resource.configs) {
    const operation = OPERATIONS[configOperation];
    if (operation === undefined) return refused('INVALID_REQUEST', `${name}: there is no operation ${configOperation}`);
    if (value === null && operation !== 'delete') return withoutValue(name);
    operations.push({ name, operation, text: value ?? '' });
  }
  const changed = await topics.alterConfig(resource.resourceName, operations, validateOnly);
  return isRefusal(changed) ? refusedAs(changed) : DONE;
}

function withoutValue(name: string): AdminAnswer {
  return refused('INVALID_REQUEST', `${name}: a value is missing`);
}

function result({ resourceType, resourceName }: Alteration, answer: AdminAnswer): Result {
  return { ...answer, resourceType, resourceName };
}
