/**
 * From a frame to the frame of its answer: finds the handler, decodes, calls it, encodes.
 *
 * Owns what is advertised, and what becomes of requests that nobody serves. A handler begins before the call returns, so that
 * requests begin in the order in which they are given.
 */
import { NaruError } from '@naru/protocol';
import {
  decodeRequest,
  decodeRequestHeader,
  encodeResponse,
  kafkaApis,
  KAFKA_ERRORS,
  type KafkaApi,
  type KafkaApiName,
  type KafkaRequestHeader,
} from '@naru/protocol/kafka';
import { advertisedApis, apiVersionsHandlers } from './handlers/api-versions.ts';
import { ConnectionRefusal, type KafkaApiHandler, type KafkaCall, type KafkaHandlers } from './kafka-handler.ts';

export interface KafkaFrame {
  readonly header: KafkaRequestHeader;
  readonly bytes: Uint8Array;
}

interface Served {
  readonly api: KafkaApi;
  readonly handler: KafkaApiHandler<KafkaApiName>;
}

export class RequestAnswerer {
  readonly #served = new Map<number, Served>();
  readonly #advertised: ReturnType<typeof advertisedApis>;
  /** Since the start, for /metrics. */
  requests = 0;

  /** @param handlers without the one for ApiVersions, which is made of them */
  constructor(handlers: KafkaHandlers) {
    const all: KafkaHandlers = { ...handlers, ...apiVersionsHandlers(() => this.#advertised) };
    this.#advertised = advertisedApis(all);
    for (const name of Object.keys(all) as KafkaApiName[]) {
      // The table below is keyed as this one is: a request of an API only ever meets the handler of that API.
      const handler = all[name] as KafkaApiHandler<KafkaApiName> | undefined;
      if (handler !== undefined) this.#served.set(kafkaApis[name].key, { api: kafkaApis[name], handler });
    }
  }

  /** @throws NaruError INVALID_REQUEST when it has no header */
  static read(bytes: Uint8Array): KafkaFrame {
    return { header: decodeRequestHeader(bytes), bytes };
  }

  /**
   * The frame of the answer in pieces, or null where Kafka answers nothing. Rejects with ConnectionRefusal, or NaruError
   * INVALID_REQUEST for a body that cannot be read; everything else is a bug.
   */
  async answer(
    { header, bytes }: KafkaFrame,
    call: Omit<KafkaCall, 'version' | 'clientId'>,
  ): Promise<Uint8Array[] | null> {
    this.requests += 1;
    const { apiKey, apiVersion: version, correlationId } = header;
    const served = this.#served.get(apiKey);
    if (served === undefined || !served.api.serves(version)) return this.#refuse(header);
    const { api, handler } = served;
    const request = decodeRequest(api, version, bytes, header.bodyAt) as never;
    const full: KafkaCall = { ...call, version, clientId: header.clientId ?? '' };
    let body;
    try {
      body = await handler.handle(request, full);
    } catch (error) {
      if (!(error instanceof NaruError)) throw error;
      body = handler.failed(request, error, full);
    }
    return body === null ? null : encodeResponse(api, version, correlationId, body as never);
  }

  /** A client that asks in a version of the future what is spoken here must be able to read the answer. */
  #refuse({ apiKey, apiVersion, correlationId, api }: KafkaRequestHeader): Uint8Array[] {
    if (apiKey !== kafkaApis.apiVersions.key) {
      throw new ConnectionRefusal(`${api?.name ?? `API ${apiKey}`} version ${apiVersion} is not served`);
    }
    const errorCode = KAFKA_ERRORS.UNSUPPORTED_VERSION.code;
    return encodeResponse(kafkaApis.apiVersions, 0, correlationId, { errorCode, apiKeys: this.#advertised });
  }
}
