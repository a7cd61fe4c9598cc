/** The APIs of Kafka's admin clients for topics, records, settings and the cluster, together. Groups have their own. */
import type { TopicConfigDefaults } from '../../../core/registry/topic-config.ts';
import type { TopicService } from '../../../service/topics.ts';
import type { KafkaHandlers } from '../kafka-handler.ts';
import { alterConfigsHandlers } from './alter-configs.ts';
import { BrokerConfigView, type ShownSettings } from './broker-config-view.ts';
import { createPartitionsHandlers } from './create-partitions.ts';
import { createTopicsHandlers } from './create-topics.ts';
import { deleteRecordsHandlers } from './delete-records.ts';
import { deleteTopicsHandlers } from './delete-topics.ts';
import { describeClusterHandlers } from './describe-cluster.ts';
import { describeConfigsHandlers } from './describe-configs.ts';
import { describeTopicPartitionsHandlers } from './describe-topic-partitions.ts';
import { TopicConfigView } from './topic-config-view.ts';

export interface AdminHandlersOptions {
  readonly topics: TopicService;
  readonly clusterId: string;
  /** The broker's, and the same where nothing is set: what differs is shown as set. */
  readonly settings: ShownSettings;
  readonly builtInSettings: ShownSettings;
  /** What holds where a topic says nothing, by either. */
  readonly topicDefaults: TopicConfigDefaults;
  readonly builtInTopicDefaults: TopicConfigDefaults;
  /** Whether a topic is made when it is first asked for. */
  readonly autoCreateTopics: boolean;
}

export type AdminApiName =
  | 'createTopics'
  | 'deleteTopics'
  | 'createPartitions'
  | 'deleteRecords'
  | 'describeConfigs'
  | 'alterConfigs'
  | 'incrementalAlterConfigs'
  | 'describeCluster'
  | 'describeTopicPartitions';

export function adminHandlers(options: AdminHandlersOptions): Required<Pick<KafkaHandlers, AdminApiName>> {
  const { topics, clusterId, settings, builtInSettings: builtIn, autoCreateTopics } = options;
  const configView = new TopicConfigView(options.topicDefaults, options.builtInTopicDefaults);
  const brokerView = new BrokerConfigView({ settings, builtIn, autoCreateTopics });
  return {
    ...createTopicsHandlers({ topics, configView }),
    ...deleteTopicsHandlers(topics),
    ...createPartitionsHandlers(topics),
    ...deleteRecordsHandlers(topics),
    ...describeConfigsHandlers({ topics, configView, brokerView }),
    ...alterConfigsHandlers(topics),
    ...describeClusterHandlers(clusterId),
    ...describeTopicPartitionsHandlers(topics),
  };
}
