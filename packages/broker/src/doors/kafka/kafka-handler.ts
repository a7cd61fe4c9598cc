/** What answers one of Kafka's APIs, and what it is told of the call. */
import type { NaruError } from '@naru/protocol';
import type { KafkaApiName, KafkaRequest, KafkaResponse } from '@naru/protocol/kafka';

/** This broker in Kafka's metadata: the only node, and the coordinator of everything. */
export const KAFKA_NODE_ID = 1;

export interface KafkaCall {
  /** Of the API. */
  readonly version: number;
  /** Empty when the client does not say. */
  readonly clientId: string;
  /** The client's address. */
  readonly clientHost: string;
  /** Where clients reach this broker, for answers that name it. */
  readonly advertised: { readonly host: string; readonly port: number };
  /** Of records in the answer, plus one batch; default: as many as the client asks for. Memory is shared with others. */
  readonly maxAnswerBytes?: number | undefined;
  /** Aborted when the connection ends: whatever waits for the client's sake stops waiting. */
  readonly signal: AbortSignal;
}

/** Thrown where Kafka closes the connection instead of answering. The message is for the broker's log. */
export class ConnectionRefusal extends Error {
  override readonly name = 'ConnectionRefusal';
}

/**
 * Answers a request. Refusals become error codes inside the answer (`kafkaErrorCode` in `@naru/protocol/kafka`); what it throws
 * ends the connection, unless it is a NaruError, of which {@link KafkaApiHandler.failed} makes an answer.
 *
 * Byte fields of the request are views of its frame: copy what is kept.
 */
export interface KafkaApiHandler<N extends KafkaApiName> {
  readonly handle: (
    request: KafkaRequest<N>,
    call: KafkaCall,
  ) => Promise<KafkaResponse<N> | null> | KafkaResponse<N> | null;
  /** The answer that says that the request failed as a whole: an operational error, such as an overload. */
  readonly failed: (request: KafkaRequest<N>, error: NaruError, call: KafkaCall) => KafkaResponse<N>;
}

/** APIs that are missing are neither advertised nor served. A handler answers null where Kafka answers nothing (acks=0). */
export type KafkaHandlers = { readonly [N in KafkaApiName]?: KafkaApiHandler<N> };
