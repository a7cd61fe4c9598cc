/**
 * The one table of everything that can be refused or go wrong, for all doors and the SDK.
 *
 * Four kinds of failure exist in Naru: a *refusal* is a value ({@link Refusal}) that the broker's pure core returns; an
 * *operational* error is a {@link NaruError}; a *bug* is an AssertionError; and the SDK shows a few classes of its own.
 * Doors map codes to their wire and back, nowhere else. Names are Kafka's where Kafka has one.
 */

/** gRPC status codes that the table uses (google.rpc.Code). */
const GRPC = {
  cancelled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  alreadyExists: 6,
  permissionDenied: 7,
  resourceExhausted: 8,
  failedPrecondition: 9,
  aborted: 10,
  outOfRange: 11,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  dataLoss: 15,
} as const;

interface ErrorInfo {
  /** Whether the same request, unchanged, may succeed later. */
  readonly retriable: boolean;
  /** google.rpc.Code for gRPC and Connect. */
  readonly grpc: number;
}

const final = (grpc: number): ErrorInfo => ({ retriable: false, grpc });
const retriable = (grpc: number): ErrorInfo => ({ retriable: true, grpc });

export const ERRORS = {
  // Requests
  INVALID_REQUEST: final(GRPC.invalidArgument),
  UNSUPPORTED: final(GRPC.unimplemented),
  REQUEST_TIMED_OUT: retriable(GRPC.deadlineExceeded),
  // Topics
  UNKNOWN_TOPIC_OR_PARTITION: final(GRPC.notFound),
  TOPIC_ALREADY_EXISTS: final(GRPC.alreadyExists),
  INVALID_TOPIC: final(GRPC.invalidArgument),
  INVALID_PARTITIONS: final(GRPC.invalidArgument),
  INVALID_CONFIG: final(GRPC.invalidArgument),
  KEY_REORDER_NOT_ALLOWED: final(GRPC.failedPrecondition),
  OFFSET_OUT_OF_RANGE: final(GRPC.outOfRange),
  NO_OFFSET: final(GRPC.failedPrecondition),
  // Records and batches
  CORRUPT_MESSAGE: final(GRPC.invalidArgument),
  INVALID_RECORD: final(GRPC.invalidArgument),
  RECORD_TOO_LARGE: final(GRPC.invalidArgument),
  UNSUPPORTED_COMPRESSION_TYPE: final(GRPC.invalidArgument),
  // Producers
  OUT_OF_ORDER_SEQUENCE_NUMBER: final(GRPC.aborted),
  DUPLICATE_SEQUENCE_NUMBER: final(GRPC.alreadyExists),
  INVALID_PRODUCER_EPOCH: final(GRPC.aborted),
  UNKNOWN_PRODUCER_ID: final(GRPC.failedPrecondition),
  TOO_MANY_PRODUCERS: retriable(GRPC.resourceExhausted),
  // Transactions
  PRODUCER_FENCED: final(GRPC.aborted),
  INVALID_TXN_STATE: final(GRPC.failedPrecondition),
  INVALID_PRODUCER_ID_MAPPING: final(GRPC.failedPrecondition),
  INVALID_TRANSACTION_TIMEOUT: final(GRPC.invalidArgument),
  INVALID_TRANSACTIONAL_ID: final(GRPC.invalidArgument),
  TRANSACTIONAL_ID_NOT_FOUND: final(GRPC.notFound),
  TRANSACTION_TOO_LARGE: final(GRPC.resourceExhausted),
  /** It cannot be committed any more: abort it and begin anew. */
  TRANSACTION_ABORTABLE: final(GRPC.aborted),
  TOO_MANY_TRANSACTIONS: retriable(GRPC.resourceExhausted),
  UNSTABLE_OFFSET_COMMIT: retriable(GRPC.unavailable),
  // Groups
  INVALID_GROUP_ID: final(GRPC.invalidArgument),
  GROUP_ID_NOT_FOUND: final(GRPC.notFound),
  NON_EMPTY_GROUP: final(GRPC.failedPrecondition),
  GROUP_MAX_SIZE_REACHED: final(GRPC.resourceExhausted),
  UNKNOWN_MEMBER_ID: final(GRPC.failedPrecondition),
  FENCED_MEMBER_EPOCH: final(GRPC.aborted),
  STALE_MEMBER_EPOCH: final(GRPC.aborted),
  UNRELEASED_INSTANCE_ID: retriable(GRPC.failedPrecondition),
  MAX_POLL_INTERVAL_EXCEEDED: final(GRPC.aborted),
  INCONSISTENT_GROUP_PROTOCOL: final(GRPC.failedPrecondition),
  REBALANCE_IN_PROGRESS: final(GRPC.aborted),
  ILLEGAL_GENERATION: final(GRPC.aborted),
  FENCED_INSTANCE_ID: final(GRPC.aborted),
  INVALID_SESSION_TIMEOUT: final(GRPC.invalidArgument),
  UNSUPPORTED_ASSIGNOR: final(GRPC.invalidArgument),
  INVALID_REGULAR_EXPRESSION: final(GRPC.invalidArgument),
  OFFSET_METADATA_TOO_LARGE: final(GRPC.invalidArgument),
  NOT_ASSIGNED: final(GRPC.failedPrecondition),
  // Delivery
  HELD_LIMIT_REACHED: retriable(GRPC.resourceExhausted),
  RECORD_LOCK_LOST: final(GRPC.failedPrecondition),
  DEAD_LETTERED: final(GRPC.aborted),
  DEAD_LETTER_NOT_FOUND: final(GRPC.notFound),
  EVENT_NOT_FOUND: final(GRPC.notFound),
  // Storage
  STORAGE_FULL: retriable(GRPC.resourceExhausted),
  STORAGE_ERROR: retriable(GRPC.unavailable),
  STORAGE_UNAVAILABLE: retriable(GRPC.unavailable),
  DATA_CORRUPT: final(GRPC.dataLoss),
  // The broker
  OVERLOADED: retriable(GRPC.resourceExhausted),
  NOT_READY: retriable(GRPC.unavailable),
  SHUTTING_DOWN: retriable(GRPC.unavailable),
  INTERNAL: final(GRPC.internal),
  // Starting a broker
  INVALID_CONFIGURATION: final(GRPC.invalidArgument),
  PORT_IN_USE: final(GRPC.failedPrecondition),
  DATA_DIRECTORY_IN_USE: final(GRPC.failedPrecondition),
  DATA_DIRECTORY_NOT_WRITABLE: final(GRPC.failedPrecondition),
  DATA_DIRECTORY_VERSION: final(GRPC.failedPrecondition),
  // The SDK
  NETWORK: retriable(GRPC.unavailable),
  DELIVERY_TIMEOUT: final(GRPC.deadlineExceeded),
  BUFFER_FULL: retriable(GRPC.resourceExhausted),
  SERIALIZATION: final(GRPC.invalidArgument),
  HANDLER_FAILED: final(GRPC.aborted),
  CLOSED: final(GRPC.cancelled),
  ABORTED: final(GRPC.cancelled),
} as const satisfies Readonly<Record<string, ErrorInfo>>;

export type ErrorCode = keyof typeof ERRORS;

export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(ERRORS, text);
}

/** A decision not to do what was asked: a value, not an exception. */
export interface Refusal {
  readonly code: ErrorCode;
  /** One sentence for the person who asked: what was wrong, where, and what to do. */
  readonly message: string;
}

export function refuse(code: ErrorCode, message: string): Refusal {
  return { code, message };
}

/** An operational error, of the broker or the SDK. */
export class NaruError extends Error {
  override readonly name: string = 'NaruError';
  readonly code: ErrorCode;
  /** Whether the same request, unchanged, may succeed later. */
  readonly retriable: boolean;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    this.retriable = ERRORS[code].retriable;
  }

  static from(refusal: Refusal): NaruError {
    return new NaruError(refusal.code, refusal.message);
  }

  toRefusal(): Refusal {
    return { code: this.code, message: this.message };
  }
}

export function isNaruError(error: unknown, ...codes: ErrorCode[]): error is NaruError {
  return error instanceof NaruError && (codes.length === 0 || codes.includes(error.code));
}
