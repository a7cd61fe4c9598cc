/**
 * Requests and responses as frames: four bytes of size, a header, a body.
 *
 * Owns the headers and the errors of decoding: bytes that are not the message they should be are a NaruError
 * INVALID_REQUEST that names API, version, field and position. Does not own the stream: whoever reads it cuts frames out
 * and bounds their size. Decoded byte fields are views of the frame.
 *
 * Bytes behind a body are ignored, as Kafka does. Values that cannot be encoded are the caller's bug and assert.
 */
import { NaruError } from '../errors.ts';
import { kafkaApiByKey } from './kafka-apis.ts';
import type { KafkaRequest, KafkaRequestInput, KafkaResponse, KafkaResponseOutput } from './kafka-apis.ts';
import { decodeStruct, decodeTagged } from './schema/decode-struct.ts';
import { encodeStruct } from './schema/encode-struct.ts';
import type { KafkaApi } from './schema/kafka-api.ts';
import { MalformedMessageError } from './schema/malformed-message-error.ts';
import type { StructPlan } from './schema/plan.ts';
import { MAX_RESPONSE_ELEMENTS, WireReader } from './schema/wire-reader.ts';
import { WireWriter } from './schema/wire-writer.ts';

export interface KafkaRequestHeader {
  readonly apiKey: number;
  readonly apiVersion: number;
  /** What the response repeats. */
  readonly correlationId: number;
  readonly clientId: string | null;
  /** Undefined when nothing here knows the key; whether the version is served is `api.serves(apiVersion)`. */
  readonly api: KafkaApi | undefined;
  /** Where the body begins in the frame. */
  readonly bodyAt: number;
}

/**
 * The header of a request. It is read for keys and versions that are not served too, so that they can be answered.
 *
 * @param frame one request, without the four bytes of its size
 * @throws NaruError INVALID_REQUEST
 */
export function decodeRequestHeader(frame: Uint8Array): KafkaRequestHeader {
  const reader = new WireReader(frame);
  try {
    const apiKey = reader.int16();
    const apiVersion = reader.int16();
    const correlationId = reader.int32();
    // Never compact: a broker that does not know the version must be able to read it.
    const clientId = reader.string(false);
    const api = kafkaApiByKey(apiKey);
    if (api?.isFlexible(apiVersion) === true) decodeTagged(reader, []);
    return { apiKey, apiVersion, correlationId, clientId, api, bodyAt: reader.position };
  } catch (error) {
    throw refused(error, 'the header of a Kafka request');
  }
}

/**
 * The body of a request.
 *
 * @param version one that `api` serves
 * @param bodyAt where the body begins in `frame`
 * @throws NaruError INVALID_REQUEST
 */
export function decodeRequest<A extends KafkaApi>(
  api: A,
  version: number,
  frame: Uint8Array,
  bodyAt: number,
): KafkaRequest<A> {
  const plan = api.requestPlan(version);
  return decodeBody(new WireReader(frame, bodyAt), plan, api, version, 'request') as KafkaRequest<A>;
}

/**
 * A whole response, size in front: buffers to be written one after the other. Record batches in `body` are among them,
 * uncopied: they must not change until the response is sent.
 *
 * @param version one that `api` serves
 */
export function encodeResponse<A extends KafkaApi>(
  api: A,
  version: number,
  correlationId: number,
  body: KafkaResponse<A>,
): Uint8Array[] {
  const writer = new WireWriter();
  writer.int32(0);
  writer.int32(correlationId);
  if (api.responseHeaderVersion(version) === 1) writer.unsignedVarint(0);
  encodeStruct(writer, api.responsePlan(version), body);
  return writer.finishFrame();
}

/** A whole request, size in front, as a client sends it. */
export function encodeRequest<A extends KafkaApi>(
  api: A,
  version: number,
  header: { readonly correlationId: number; readonly clientId: string | null },
  body: KafkaRequestInput<A>,
): Uint8Array[] {
  const writer = new WireWriter();
  writer.int32(0);
  writer.int16(api.key);
  writer.int16(version);
  writer.int32(header.correlationId);
  writer.string(header.clientId, false);
  if (api.isFlexible(version)) writer.unsignedVarint(0);
  encodeStruct(writer, api.requestPlan(version), body);
  return writer.finishFrame();
}

/**
 * A response as a client reads it.
 *
 * @param version of the request that it answers
 * @param frame one response, without the four bytes of its size
 * @throws NaruError INVALID_REQUEST
 */
export function decodeResponse<A extends KafkaApi>(
  api: A,
  version: number,
  frame: Uint8Array,
): { correlationId: number; body: KafkaResponseOutput<A> } {
  const plan = api.responsePlan(version);
  const reader = new WireReader(frame, 0, MAX_RESPONSE_ELEMENTS);
  let correlationId: number;
  try {
    correlationId = reader.int32();
    if (api.responseHeaderVersion(version) === 1) decodeTagged(reader, []);
  } catch (error) {
    throw refused(error, `${api.name} v${version} response header`);
  }
  const body = decodeBody(reader, plan, api, version, 'response') as KafkaResponseOutput<A>;
  return { correlationId, body };
}

function decodeBody(
  reader: WireReader,
  plan: StructPlan,
  api: KafkaApi,
  version: number,
  direction: 'request' | 'response',
): unknown {
  try {
    return decodeStruct(reader, plan);
  } catch (error) {
    throw refused(error, `${api.name} v${version} ${direction}`);
  }
}

function refused(error: unknown, what: string): unknown {
  if (!(error instanceof MalformedMessageError)) return error;
  const where = error.path === '' ? '' : ` ${error.path},`;
  return new NaruError('INVALID_REQUEST', `${what} cannot be read:${where} byte ${error.position}: ${error.message}`);
}
