/**
 * A broker without a port, for simulations: the same core and doors, spoken to in messages as they are on the wire.
 *
 * Everything that it does follows from its surroundings: with a virtual clock, seeded randomness and a simulated disk the same
 * calls give the same answers. It is never closed: a simulation crashes it, by cutting its disk and letting go of its timers,
 * and starts another one on what the disk has kept and on the same metadata.
 */
import { create, fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { createContextValues, type HandlerContext } from '@connectrpc/connect';
import { assert } from '@naru/base';
import {
  AdminService,
  DeadLetterService,
  PublisherService,
  SubscriberService,
  TraceService,
  TransactionService,
} from '@naru/protocol/proto';
import { makeDoors, openCore, type BrokerSurroundings } from './broker.ts';
import { brokerConfig, type BrokerConfigInput } from './config.ts';
import type { StreamMethod } from './doors/grpc/grpc-stream.ts';
import { PEER_KEY } from './doors/http/http-door.ts';
import type { MetadataStore } from './metadata/metadata-store.ts';
import { simulatedStorage } from './storage.ts';

export interface SimulatedSurroundings extends BrokerSurroundings {
  /** Outlives the broker. */
  readonly metadata: MetadataStore;
}

type UnaryHandler = (request: unknown, context: HandlerContext) => unknown;

const PEER = 'simulation';

export class SimulatedBroker {
  readonly #streams: ReadonlyMap<string, StreamMethod>;
  readonly #services: ReadonlyMap<string, object>;

  private constructor(streams: readonly StreamMethod[], services: ReadonlyMap<string, object>) {
    this.#streams = new Map(streams.map((method) => [method.path, method]));
    this.#services = services;
  }

  /** Resolves when it would serve. */
  static async start(given: BrokerConfigInput, surroundings: SimulatedSurroundings): Promise<SimulatedBroker> {
    const config = brokerConfig(given);
    const core = await openCore(
      config,
      surroundings,
      [],
      simulatedStorage(config, surroundings, surroundings.metadata),
    );
    const { services } = makeDoors(config, surroundings, core);
    const { publisher, subscriber, unary, admin, deadLetters, trace, transactions } = services;
    return new SimulatedBroker(
      [publisher.streamMethod(), subscriber.streamMethod()],
      new Map<string, object>([
        [PublisherService.typeName, publisher],
        [SubscriberService.typeName, unary],
        [AdminService.typeName, admin],
        [DeadLetterService.typeName, deadLetters],
        [TraceService.typeName, trace],
        [TransactionService.typeName, transactions],
      ]),
    );
  }

  /**
   * Serves one streaming call: bytes of messages in, pieces of messages out.
   *
   * @param path such as `/naru.v1.SubscriberService/Subscribe`
   */
  stream(path: string, requests: AsyncIterable<Uint8Array>, signal: AbortSignal): AsyncIterable<readonly Uint8Array[]> {
    const method = this.#streams.get(path);
    assert(method !== undefined, `a streaming method: ${path}`);
    return method.serve(requests, PEER, signal);
  }

  /** A call with one answer. Rejects as its door does. */
  async call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    const service = this.#services.get(method.parent.typeName) as Record<string, UnaryHandler> | undefined;
    assert(service?.[method.localName] !== undefined, `a method: ${method.parent.typeName}/${method.name}`);
    const message = fromBinary(method.input, toBinary(method.input, create(method.input, request)));
    const values = createContextValues().set(PEER_KEY, PEER);
    const answer = await service[method.localName]?.(message, { signal, values } as HandlerContext);
    const complete = create(method.output, answer as MessageInitShape<O>);
    return fromBinary(method.output, toBinary(method.output, complete));
  }
}
