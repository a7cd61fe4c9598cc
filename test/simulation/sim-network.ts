/**
 * The network of a simulation: SDK transports whose messages reach a simulated broker, and its answers, after a while of virtual
 * time, in the order of each stream. Connections break, and everything under way on them is lost.
 *
 * Messages cross as bytes, so that neither side sees what the other changes.
 */
import { fromBinary, toBinary } from '@bufbuild/protobuf';
import type { DescMessage, DescMethodUnary, MessageInitShape, MessageShape } from '@bufbuild/protobuf';
import { ConnectError } from '@connectrpc/connect';
import type { Timers } from '@naru/base';
import type { SimulatedBroker } from '@naru/broker';
import type { MessageStream, PublishStream, SubscribeStream, Transport } from '@naru/client';
import { isErrorCode, isNaruError, NaruError } from '@naru/protocol';
import {
  ErrorSchema,
  PublishStreamRequestSchema,
  PublishStreamResponseSchema,
  SubscribeRequestSchema,
  SubscribeResponseSchema,
} from '@naru/protocol/proto';
import type { SeededRandom, VirtualClock } from '@naru/testkit';

const MAX_DELAY_MS = 6;

export class SimNetwork {
  readonly #clock: VirtualClock;
  readonly #random: SeededRandom;
  readonly #transports = new Set<SimTransport>();
  #broker: SimulatedBroker | null = null;

  constructor(clock: VirtualClock, random: SeededRandom) {
    this.#clock = clock;
    this.#random = random;
  }

  get broker(): SimulatedBroker | null {
    return this.#broker;
  }

  get clock(): VirtualClock {
    return this.#clock;
  }

  /** A broker that serves from now on; null when it crashed: every connection breaks. */
  set broker(broker: SimulatedBroker | null) {
    this.#broker = broker;
    if (broker === null) for (const transport of this.#transports) transport.breakAll();
  }

  delayMs(): number {
    return this.#random.integer(MAX_DELAY_MS);
  }

  /** @param timers of the process that it belongs to */
  transport(timers: Timers): SimTransport {
    const transport = new SimTransport(this, timers);
    this.#transports.add(transport);
    return transport;
  }
}

/** What a process has of the network. */
export class SimTransport implements Transport {
  readonly #network: SimNetwork;
  readonly #timers: Timers;
  readonly #open = new Set<{ fail(error: NaruError): void }>();

  constructor(network: SimNetwork, timers: Timers) {
    this.#network = network;
    this.#timers = timers;
  }

  openPublishStream(): PublishStream {
    const path = '/naru.v1.PublisherService/PublishStream';
    return this.#stream(path, PublishStreamRequestSchema, PublishStreamResponseSchema);
  }

  openSubscribeStream(): SubscribeStream {
    return this.#stream('/naru.v1.SubscriberService/Subscribe', SubscribeRequestSchema, SubscribeResponseSchema);
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    signal: AbortSignal,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      const pending = { fail: (error: NaruError): void => reject(error) };
      this.#open.add(pending);
      const later = (settle: () => void): void => {
        this.#timers.after(this.#network.delayMs(), () => {
          this.#open.delete(pending);
          settle();
        });
      };
      this.#timers.after(this.#network.delayMs(), () => {
        const { broker } = this.#network;
        if (broker === null) return later(() => reject(broken()));
        broker.call(method, request, signal).then(
          (answer) => later(() => resolve(answer)),
          (error: unknown) => later(() => reject(toNaruError(error))),
        );
      });
    });
  }

  /** Every connection breaks; new ones can be made. */
  breakAll(): void {
    const open = Array.from(this.#open);
    this.#open.clear();
    for (const one of open) one.fail(broken());
  }

  close(): Promise<void> {
    this.breakAll();
    return Promise.resolve();
  }

  #stream<I extends DescMessage, O extends DescMessage>(
    path: string,
    input: I,
    output: O,
  ): MessageStream<MessageShape<I>, MessageShape<O>> {
    const stream = new SimStream(this.#network, this.#timers, path, input, output, () => this.#open.delete(stream));
    this.#open.add(stream);
    return stream;
  }
}

class SimStream<I extends DescMessage, O extends DescMessage> implements MessageStream<
  MessageShape<I>,
  MessageShape<O>
> {
  readonly #network: SimNetwork;
  readonly #timers: Timers;
  readonly #path: string;
  readonly #input: I;
  readonly #output: O;
  readonly #over: () => void;
  readonly #requests = new MessageQueue<Uint8Array>();
  readonly #answers = new MessageQueue<MessageShape<O>>();
  readonly #gone = new AbortController();
  #lastSendMs = 0;
  #lastAnswerMs = 0;
  #isOver = false;
  backlog = 0;
  onDrain: (() => void) | null = null;

  constructor(network: SimNetwork, timers: Timers, path: string, input: I, output: O, over: () => void) {
    this.#network = network;
    this.#timers = timers;
    this.#path = path;
    this.#input = input;
    this.#output = output;
    this.#over = over;
  }

  send(message: MessageShape<I>): void {
    if (this.#isOver) return;
    this.backlog += 1;
    const bytes = toBinary(this.#input, message);
    this.#lastSendMs = this.#arrive(this.#lastSendMs, () => {
      this.backlog -= 1;
      this.#requests.push(bytes);
      if (this.backlog === 0) this.onDrain?.();
    });
  }

  end(): void {
    this.#lastSendMs = this.#arrive(this.#lastSendMs, () => this.#requests.end(null));
  }

  abort(): void {
    this.#finish(null);
  }

  fail(error: NaruError): void {
    this.#finish(error);
  }

  [Symbol.asyncIterator](): AsyncIterator<MessageShape<O>> {
    const { broker } = this.#network;
    if (broker === null) this.#lastAnswerMs = this.#arrive(this.#lastAnswerMs, () => this.#finish(broken()));
    else void this.#serve(broker);
    return this.#answers;
  }

  async #serve(broker: SimulatedBroker): Promise<void> {
    let failure: NaruError | null = null;
    try {
      for await (const pieces of broker.stream(this.#path, this.#requests, this.#gone.signal)) {
        const message = fromBinary(this.#output, Buffer.concat(pieces));
        this.#lastAnswerMs = this.#arrive(this.#lastAnswerMs, () => this.#answers.push(message));
      }
    } catch (error) {
      failure = toNaruError(error);
    }
    this.#lastAnswerMs = this.#arrive(this.#lastAnswerMs, () => this.#finish(failure));
  }

  #finish(error: NaruError | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#over();
    this.#answers.end(error);
    this.#requests.end(null);
    this.#gone.abort();
  }

  /** After what was sent before it. @returns when */
  #arrive(lastMs: number, callback: () => void): number {
    const nowMs = this.#network.clock.monotonicMs();
    const atMs = Math.max(lastMs, nowMs + this.#network.delayMs());
    this.#timers.after(atMs - nowMs, () => {
      if (!this.#isOver) callback();
    });
    return atMs;
  }
}

class MessageQueue<T> implements AsyncIterableIterator<T, undefined> {
  readonly #messages: T[] = [];
  #end: { readonly error: NaruError | null } | null = null;
  #wake: (() => void) | null = null;

  push(message: T): void {
    this.#messages.push(message);
    this.#wake?.();
  }

  end(error: NaruError | null): void {
    this.#end ??= { error };
    this.#wake?.();
  }

  async next(): Promise<IteratorResult<T, undefined>> {
    for (;;) {
      const value = this.#messages.shift();
      if (value !== undefined) return { done: false, value };
      if (this.#end !== null) {
        const { error } = this.#end;
        this.#end = { error: null };
        if (error !== null) throw error;
        return { done: true, value: undefined };
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.end(null);
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

function broken(): NaruError {
  return new NaruError('NETWORK', 'the connection broke');
}

/** As the SDK's own transport has it. */
function toNaruError(error: unknown): NaruError {
  if (isNaruError(error)) return error;
  if (!(error instanceof ConnectError)) return new NaruError('INTERNAL', String(error), { cause: error });
  const [detail] = error.findDetails(ErrorSchema);
  if (detail === undefined || !isErrorCode(detail.code)) return new NaruError('INTERNAL', error.message);
  return new NaruError(detail.code, detail.message);
}
