/**
 * Kafka's error codes, and what our refusals are among them.
 *
 * Whether a code is retriable is what Kafka's Java client makes of it. Clients go by the code, each request's handler by a
 * list of its own, so that the choice decides what a client does next: a code that a handler does not expect is fatal to
 * many of them. Hence the {@link KafkaAudience}.
 */
import { isErrorCode } from '../errors.ts';
import type { ErrorCode } from '../errors.ts';

export interface KafkaError {
  readonly code: number;
  /** Whether clients try the same request again. */
  readonly retriable: boolean;
}

const final = (code: number): KafkaError => ({ code, retriable: false });
const retriable = (code: number): KafkaError => ({ code, retriable: true });

export const KAFKA_ERRORS = {
  UNKNOWN_SERVER_ERROR: final(-1),
  NONE: final(0),
  OFFSET_OUT_OF_RANGE: final(1),
  CORRUPT_MESSAGE: retriable(2),
  UNKNOWN_TOPIC_OR_PARTITION: retriable(3),
  INVALID_FETCH_SIZE: final(4),
  LEADER_NOT_AVAILABLE: retriable(5),
  NOT_LEADER_OR_FOLLOWER: retriable(6),
  REQUEST_TIMED_OUT: retriable(7),
  BROKER_NOT_AVAILABLE: final(8),
  REPLICA_NOT_AVAILABLE: retriable(9),
  MESSAGE_TOO_LARGE: final(10),
  STALE_CONTROLLER_EPOCH: final(11),
  OFFSET_METADATA_TOO_LARGE: final(12),
  NETWORK_EXCEPTION: retriable(13),
  COORDINATOR_LOAD_IN_PROGRESS: retriable(14),
  COORDINATOR_NOT_AVAILABLE: retriable(15),
  NOT_COORDINATOR: retriable(16),
  INVALID_TOPIC_EXCEPTION: final(17),
  RECORD_LIST_TOO_LARGE: final(18),
  NOT_ENOUGH_REPLICAS: retriable(19),
  NOT_ENOUGH_REPLICAS_AFTER_APPEND: retriable(20),
  INVALID_REQUIRED_ACKS: final(21),
  ILLEGAL_GENERATION: final(22),
  INCONSISTENT_GROUP_PROTOCOL: final(23),
  INVALID_GROUP_ID: final(24),
  UNKNOWN_MEMBER_ID: final(25),
  INVALID_SESSION_TIMEOUT: final(26),
  REBALANCE_IN_PROGRESS: final(27),
  INVALID_COMMIT_OFFSET_SIZE: final(28),
  TOPIC_AUTHORIZATION_FAILED: final(29),
  GROUP_AUTHORIZATION_FAILED: final(30),
  CLUSTER_AUTHORIZATION_FAILED: final(31),
  INVALID_TIMESTAMP: final(32),
  UNSUPPORTED_SASL_MECHANISM: final(33),
  ILLEGAL_SASL_STATE: final(34),
  UNSUPPORTED_VERSION: final(35),
  TOPIC_ALREADY_EXISTS: final(36),
  INVALID_PARTITIONS: final(37),
  INVALID_REPLICATION_FACTOR: final(38),
  INVALID_REPLICA_ASSIGNMENT: final(39),
  INVALID_CONFIG: final(40),
  NOT_CONTROLLER: retriable(41),
  INVALID_REQUEST: final(42),
  UNSUPPORTED_FOR_MESSAGE_FORMAT: final(43),
  POLICY_VIOLATION: final(44),
  OUT_OF_ORDER_SEQUENCE_NUMBER: final(45),
  DUPLICATE_SEQUENCE_NUMBER: final(46),
  INVALID_PRODUCER_EPOCH: final(47),
  INVALID_TXN_STATE: final(48),
  INVALID_PRODUCER_ID_MAPPING: final(49),
  INVALID_TRANSACTION_TIMEOUT: final(50),
  CONCURRENT_TRANSACTIONS: retriable(51),
  TRANSACTION_COORDINATOR_FENCED: final(52),
  TRANSACTIONAL_ID_AUTHORIZATION_FAILED: final(53),
  SECURITY_DISABLED: final(54),
  OPERATION_NOT_ATTEMPTED: final(55),
  KAFKA_STORAGE_ERROR: retriable(56),
  LOG_DIR_NOT_FOUND: final(57),
  SASL_AUTHENTICATION_FAILED: final(58),
  UNKNOWN_PRODUCER_ID: final(59),
  REASSIGNMENT_IN_PROGRESS: final(60),
  DELEGATION_TOKEN_AUTH_DISABLED: final(61),
  DELEGATION_TOKEN_NOT_FOUND: final(62),
  DELEGATION_TOKEN_OWNER_MISMATCH: final(63),
  DELEGATION_TOKEN_REQUEST_NOT_ALLOWED: final(64),
  DELEGATION_TOKEN_AUTHORIZATION_FAILED: final(65),
  DELEGATION_TOKEN_EXPIRED: final(66),
  INVALID_PRINCIPAL_TYPE: final(67),
  NON_EMPTY_GROUP: final(68),
  GROUP_ID_NOT_FOUND: final(69),
  FETCH_SESSION_ID_NOT_FOUND: retriable(70),
  INVALID_FETCH_SESSION_EPOCH: retriable(71),
  LISTENER_NOT_FOUND: retriable(72),
  TOPIC_DELETION_DISABLED: final(73),
  FENCED_LEADER_EPOCH: retriable(74),
  UNKNOWN_LEADER_EPOCH: retriable(75),
  UNSUPPORTED_COMPRESSION_TYPE: final(76),
  STALE_BROKER_EPOCH: final(77),
  OFFSET_NOT_AVAILABLE: retriable(78),
  MEMBER_ID_REQUIRED: final(79),
  PREFERRED_LEADER_NOT_AVAILABLE: retriable(80),
  GROUP_MAX_SIZE_REACHED: final(81),
  FENCED_INSTANCE_ID: final(82),
  ELIGIBLE_LEADERS_NOT_AVAILABLE: retriable(83),
  ELECTION_NOT_NEEDED: retriable(84),
  NO_REASSIGNMENT_IN_PROGRESS: final(85),
  GROUP_SUBSCRIBED_TO_TOPIC: final(86),
  INVALID_RECORD: final(87),
  UNSTABLE_OFFSET_COMMIT: retriable(88),
  THROTTLING_QUOTA_EXCEEDED: retriable(89),
  PRODUCER_FENCED: final(90),
  RESOURCE_NOT_FOUND: final(91),
  DUPLICATE_RESOURCE: final(92),
  UNACCEPTABLE_CREDENTIAL: final(93),
  INCONSISTENT_VOTER_SET: final(94),
  INVALID_UPDATE_VERSION: final(95),
  FEATURE_UPDATE_FAILED: final(96),
  PRINCIPAL_DESERIALIZATION_FAILURE: final(97),
  SNAPSHOT_NOT_FOUND: final(98),
  POSITION_OUT_OF_RANGE: final(99),
  UNKNOWN_TOPIC_ID: retriable(100),
  DUPLICATE_BROKER_REGISTRATION: final(101),
  BROKER_ID_NOT_REGISTERED: final(102),
  INCONSISTENT_TOPIC_ID: retriable(103),
  INCONSISTENT_CLUSTER_ID: final(104),
  TRANSACTIONAL_ID_NOT_FOUND: final(105),
  FETCH_SESSION_TOPIC_ID_ERROR: retriable(106),
  INELIGIBLE_REPLICA: final(107),
  NEW_LEADER_ELECTED: final(108),
  OFFSET_MOVED_TO_TIERED_STORAGE: final(109),
  FENCED_MEMBER_EPOCH: final(110),
  UNRELEASED_INSTANCE_ID: final(111),
  UNSUPPORTED_ASSIGNOR: final(112),
  STALE_MEMBER_EPOCH: final(113),
  MISMATCHED_ENDPOINT_TYPE: final(114),
  UNSUPPORTED_ENDPOINT_TYPE: final(115),
  UNKNOWN_CONTROLLER_ID: final(116),
  UNKNOWN_SUBSCRIPTION_ID: final(117),
  TELEMETRY_TOO_LARGE: final(118),
  INVALID_REGISTRATION: final(119),
  TRANSACTION_ABORTABLE: final(120),
  INVALID_RECORD_STATE: final(121),
  SHARE_SESSION_NOT_FOUND: retriable(122),
  INVALID_SHARE_SESSION_EPOCH: retriable(123),
  FENCED_STATE_EPOCH: final(124),
  INVALID_VOTER_KEY: final(125),
  DUPLICATE_VOTER: final(126),
  VOTER_NOT_FOUND: final(127),
  INVALID_REGULAR_EXPRESSION: final(128),
  REBOOTSTRAP_REQUIRED: final(129),
  STREAMS_INVALID_TOPOLOGY: final(130),
  STREAMS_INVALID_TOPOLOGY_EPOCH: final(131),
  STREAMS_TOPOLOGY_FENCED: final(132),
  SHARE_SESSION_LIMIT_REACHED: retriable(133),
} as const satisfies Readonly<Record<string, KafkaError>>;

export type KafkaErrorName = keyof typeof KAFKA_ERRORS;

/**
 * Whose handler reads the code: `produce` and `fetch` for partitions in those responses (ListOffsets too), `group` for
 * members and commits of the new group protocol and other answers of a coordinator, `classicGroup` for those of the
 * classic one, `admin` for the rest.
 */
export type KafkaAudience = 'produce' | 'fetch' | 'group' | 'classicGroup' | 'admin';

/** What Kafka calls otherwise; all others are Kafka's by name. */
const kafkaErrors: Readonly<Record<Exclude<ErrorCode, KafkaErrorName>, KafkaErrorName>> = {
  UNSUPPORTED: 'UNSUPPORTED_VERSION',
  INVALID_TOPIC: 'INVALID_TOPIC_EXCEPTION',
  KEY_REORDER_NOT_ALLOWED: 'POLICY_VIOLATION',
  NO_OFFSET: 'OFFSET_OUT_OF_RANGE',
  RECORD_TOO_LARGE: 'MESSAGE_TOO_LARGE',
  TOO_MANY_PRODUCERS: 'REQUEST_TIMED_OUT',
  INVALID_TRANSACTIONAL_ID: 'INVALID_REQUEST',
  TRANSACTION_TOO_LARGE: 'INVALID_TXN_STATE',
  TOO_MANY_TRANSACTIONS: 'REQUEST_TIMED_OUT',
  // Who exceeds it is not a member any more.
  MAX_POLL_INTERVAL_EXCEEDED: 'UNKNOWN_MEMBER_ID',
  NOT_ASSIGNED: 'STALE_MEMBER_EPOCH',
  HELD_LIMIT_REACHED: 'REQUEST_TIMED_OUT',
  RECORD_LOCK_LOST: 'INVALID_REQUEST',
  DEAD_LETTERED: 'INVALID_REQUEST',
  DEAD_LETTER_NOT_FOUND: 'INVALID_REQUEST',
  EVENT_NOT_FOUND: 'INVALID_REQUEST',
  STORAGE_FULL: 'KAFKA_STORAGE_ERROR',
  STORAGE_ERROR: 'KAFKA_STORAGE_ERROR',
  STORAGE_UNAVAILABLE: 'KAFKA_STORAGE_ERROR',
  DATA_CORRUPT: 'UNKNOWN_SERVER_ERROR',
  OVERLOADED: 'REQUEST_TIMED_OUT',
  NOT_READY: 'REQUEST_TIMED_OUT',
  SHUTTING_DOWN: 'REQUEST_TIMED_OUT',
  INTERNAL: 'UNKNOWN_SERVER_ERROR',
  INVALID_CONFIGURATION: 'UNKNOWN_SERVER_ERROR',
  PORT_IN_USE: 'UNKNOWN_SERVER_ERROR',
  DATA_DIRECTORY_IN_USE: 'UNKNOWN_SERVER_ERROR',
  DATA_DIRECTORY_NOT_WRITABLE: 'UNKNOWN_SERVER_ERROR',
  DATA_DIRECTORY_VERSION: 'UNKNOWN_SERVER_ERROR',
  NETWORK: 'NETWORK_EXCEPTION',
  DELIVERY_TIMEOUT: 'UNKNOWN_SERVER_ERROR',
  BUFFER_FULL: 'REQUEST_TIMED_OUT',
  SERIALIZATION: 'INVALID_RECORD',
  HANDLER_FAILED: 'UNKNOWN_SERVER_ERROR',
  CLOSED: 'UNKNOWN_SERVER_ERROR',
  ABORTED: 'UNKNOWN_SERVER_ERROR',
};

type Overrides = Readonly<Partial<Record<ErrorCode, KafkaErrorName>>>;

/** The one transient answer that every request to a coordinator expects: find it again, then repeat. */
const coordinatorIsAway: Overrides = {
  REQUEST_TIMED_OUT: 'NOT_COORDINATOR',
  STORAGE_FULL: 'NOT_COORDINATOR',
  STORAGE_ERROR: 'NOT_COORDINATOR',
  STORAGE_UNAVAILABLE: 'NOT_COORDINATOR',
  TOO_MANY_PRODUCERS: 'NOT_COORDINATOR',
  TOO_MANY_TRANSACTIONS: 'NOT_COORDINATOR',
  OVERLOADED: 'NOT_COORDINATOR',
  NOT_READY: 'NOT_COORDINATOR',
  SHUTTING_DOWN: 'NOT_COORDINATOR',
};

const overrides: Readonly<Record<KafkaAudience, Overrides>> = {
  // Says that nothing was stored, where a time-out leaves it open, as it is when the storage went away or failed.
  produce: {
    STORAGE_FULL: 'NOT_ENOUGH_REPLICAS',
    STORAGE_UNAVAILABLE: 'REQUEST_TIMED_OUT',
    TOO_MANY_PRODUCERS: 'NOT_ENOUGH_REPLICAS',
    TOO_MANY_TRANSACTIONS: 'NOT_ENOUGH_REPLICAS',
    // What clients know of a batch that is refused.
    PRODUCER_FENCED: 'INVALID_PRODUCER_EPOCH',
    OVERLOADED: 'NOT_ENOUGH_REPLICAS',
    NOT_READY: 'NOT_ENOUGH_REPLICAS',
    SHUTTING_DOWN: 'NOT_LEADER_OR_FOLLOWER',
  },
  // Consumers throw on the codes for producers; these make them wait, ask for metadata and fetch again.
  fetch: {
    REQUEST_TIMED_OUT: 'NOT_LEADER_OR_FOLLOWER',
    OVERLOADED: 'NOT_LEADER_OR_FOLLOWER',
    NOT_READY: 'NOT_LEADER_OR_FOLLOWER',
    SHUTTING_DOWN: 'NOT_LEADER_OR_FOLLOWER',
    DATA_CORRUPT: 'CORRUPT_MESSAGE',
  },
  group: coordinatorIsAway,
  classicGroup: {
    ...coordinatorIsAway,
    FENCED_MEMBER_EPOCH: 'ILLEGAL_GENERATION',
    STALE_MEMBER_EPOCH: 'ILLEGAL_GENERATION',
    NOT_ASSIGNED: 'ILLEGAL_GENERATION',
  },
  admin: {},
};

function isKafkaErrorName(text: ErrorCode | KafkaErrorName): text is KafkaErrorName {
  return Object.hasOwn(KAFKA_ERRORS, text);
}

/** The name of Kafka's error for one of ours. */
export function kafkaErrorName(code: ErrorCode, audience: KafkaAudience): KafkaErrorName {
  return overrides[audience][code] ?? (isKafkaErrorName(code) ? code : kafkaErrors[code]);
}

/** The number that stands in the response. */
export function kafkaErrorCode(code: ErrorCode, audience: KafkaAudience): number {
  return KAFKA_ERRORS[kafkaErrorName(code, audience)].code;
}

/** Where the names differ, or several of ours became one. */
const ourErrors: Readonly<Partial<Record<KafkaErrorName, ErrorCode>>> = {
  UNKNOWN_SERVER_ERROR: 'INTERNAL',
  UNSUPPORTED_VERSION: 'UNSUPPORTED',
  UNSUPPORTED_FOR_MESSAGE_FORMAT: 'UNSUPPORTED',
  INVALID_TOPIC_EXCEPTION: 'INVALID_TOPIC',
  UNKNOWN_TOPIC_ID: 'UNKNOWN_TOPIC_OR_PARTITION',
  POLICY_VIOLATION: 'KEY_REORDER_NOT_ALLOWED',
  MESSAGE_TOO_LARGE: 'RECORD_TOO_LARGE',
  RECORD_LIST_TOO_LARGE: 'RECORD_TOO_LARGE',
  INVALID_TIMESTAMP: 'INVALID_RECORD',
  KAFKA_STORAGE_ERROR: 'STORAGE_ERROR',
  NETWORK_EXCEPTION: 'NETWORK',
  THROTTLING_QUOTA_EXCEEDED: 'OVERLOADED',
};

const namesByCode = new Map<number, KafkaErrorName>(
  (Object.keys(KAFKA_ERRORS) as KafkaErrorName[]).map((name) => [KAFKA_ERRORS[name].code, name]),
);

/** Undefined for a code that Kafka has not given away yet. */
export function kafkaErrorNameOf(code: number): KafkaErrorName | undefined {
  return namesByCode.get(code);
}

/**
 * Ours for the code of a response, null for 0. What we have no word for is NOT_READY when it is retriable and INTERNAL when
 * it is not, as are codes that nobody knows.
 */
export function errorCodeOfKafka(code: number): ErrorCode | null {
  const name = namesByCode.get(code);
  if (name === 'NONE') return null;
  if (name === undefined) return 'INTERNAL';
  if (isErrorCode(name)) return name;
  return ourErrors[name] ?? (KAFKA_ERRORS[name].retriable ? 'NOT_READY' : 'INTERNAL');
}
