/**
 * All APIs of Kafka's protocol that are spoken here, by name and by key.
 *
 * Whoever handles requests has one handler for each name of this table; what is not in it is refused.
 */
import { addOffsetsToTxnApi } from './messages/add-offsets-to-txn.ts';
import { addPartitionsToTxnApi } from './messages/add-partitions-to-txn.ts';
import { alterConfigsApi } from './messages/alter-configs.ts';
import { apiVersionsApi } from './messages/api-versions.ts';
import { consumerGroupDescribeApi } from './messages/consumer-group-describe.ts';
import { consumerGroupHeartbeatApi } from './messages/consumer-group-heartbeat.ts';
import { createPartitionsApi } from './messages/create-partitions.ts';
import { createTopicsApi } from './messages/create-topics.ts';
import { deleteGroupsApi } from './messages/delete-groups.ts';
import { deleteRecordsApi } from './messages/delete-records.ts';
import { deleteTopicsApi } from './messages/delete-topics.ts';
import { describeClusterApi } from './messages/describe-cluster.ts';
import { describeConfigsApi } from './messages/describe-configs.ts';
import { describeGroupsApi } from './messages/describe-groups.ts';
import { describeProducersApi } from './messages/describe-producers.ts';
import { describeTopicPartitionsApi } from './messages/describe-topic-partitions.ts';
import { describeTransactionsApi } from './messages/describe-transactions.ts';
import { endTxnApi } from './messages/end-txn.ts';
import { fetchApi } from './messages/fetch.ts';
import { findCoordinatorApi } from './messages/find-coordinator.ts';
import { heartbeatApi } from './messages/heartbeat.ts';
import { incrementalAlterConfigsApi } from './messages/incremental-alter-configs.ts';
import { initProducerIdApi } from './messages/init-producer-id.ts';
import { joinGroupApi } from './messages/join-group.ts';
import { leaveGroupApi } from './messages/leave-group.ts';
import { listGroupsApi } from './messages/list-groups.ts';
import { listOffsetsApi } from './messages/list-offsets.ts';
import { listTransactionsApi } from './messages/list-transactions.ts';
import { metadataApi } from './messages/metadata.ts';
import { offsetCommitApi } from './messages/offset-commit.ts';
import { offsetDeleteApi } from './messages/offset-delete.ts';
import { offsetFetchApi } from './messages/offset-fetch.ts';
import { offsetForLeaderEpochApi } from './messages/offset-for-leader-epoch.ts';
import { produceApi } from './messages/produce.ts';
import { saslAuthenticateApi } from './messages/sasl-authenticate.ts';
import { saslHandshakeApi } from './messages/sasl-handshake.ts';
import { syncGroupApi } from './messages/sync-group.ts';
import { txnOffsetCommitApi } from './messages/txn-offset-commit.ts';
import type { Decoded, Encodable } from './schema/field.ts';
import type { KafkaApi } from './schema/kafka-api.ts';

export const kafkaApis = {
  produce: produceApi,
  fetch: fetchApi,
  listOffsets: listOffsetsApi,
  metadata: metadataApi,
  offsetCommit: offsetCommitApi,
  offsetFetch: offsetFetchApi,
  findCoordinator: findCoordinatorApi,
  joinGroup: joinGroupApi,
  heartbeat: heartbeatApi,
  leaveGroup: leaveGroupApi,
  syncGroup: syncGroupApi,
  describeGroups: describeGroupsApi,
  listGroups: listGroupsApi,
  saslHandshake: saslHandshakeApi,
  apiVersions: apiVersionsApi,
  createTopics: createTopicsApi,
  deleteTopics: deleteTopicsApi,
  deleteRecords: deleteRecordsApi,
  initProducerId: initProducerIdApi,
  offsetForLeaderEpoch: offsetForLeaderEpochApi,
  addPartitionsToTxn: addPartitionsToTxnApi,
  addOffsetsToTxn: addOffsetsToTxnApi,
  endTxn: endTxnApi,
  txnOffsetCommit: txnOffsetCommitApi,
  describeConfigs: describeConfigsApi,
  alterConfigs: alterConfigsApi,
  saslAuthenticate: saslAuthenticateApi,
  createPartitions: createPartitionsApi,
  deleteGroups: deleteGroupsApi,
  incrementalAlterConfigs: incrementalAlterConfigsApi,
  offsetDelete: offsetDeleteApi,
  describeCluster: describeClusterApi,
  describeProducers: describeProducersApi,
  describeTransactions: describeTransactionsApi,
  listTransactions: listTransactionsApi,
  consumerGroupHeartbeat: consumerGroupHeartbeatApi,
  consumerGroupDescribe: consumerGroupDescribeApi,
  describeTopicPartitions: describeTopicPartitionsApi,
} as const;

export type KafkaApiName = keyof typeof kafkaApis;

/** The fields of an API's request, given the API or its name in the table. */
type RequestFields<A> = A extends KafkaApiName
  ? RequestFields<(typeof kafkaApis)[A]>
  : A extends KafkaApi<infer Q, infer _S>
    ? Q
    : never;

type ResponseFields<A> = A extends KafkaApiName
  ? ResponseFields<(typeof kafkaApis)[A]>
  : A extends KafkaApi<infer _Q, infer S>
    ? S
    : never;

/** A request as a broker reads it: every field is there. `KafkaRequest<'fetch'>` or `KafkaRequest<typeof fetchApi>`. */
export type KafkaRequest<A> = Decoded<RequestFields<A>>;
/** A response as a broker writes it: fields with a default, and those that some version lacks, may be left out. */
export type KafkaResponse<A> = Encodable<ResponseFields<A>>;
/** A request as a client writes it. */
export type KafkaRequestInput<A> = Encodable<RequestFields<A>>;
/** A response as a client reads it. */
export type KafkaResponseOutput<A> = Decoded<ResponseFields<A>>;

const byKey = new Map<number, KafkaApi>(Object.values(kafkaApis).map((api) => [api.key, api]));

export function kafkaApiByKey(key: number): KafkaApi | undefined {
  return byKey.get(key);
}
