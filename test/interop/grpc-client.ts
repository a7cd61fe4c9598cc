/** gRPC's own client for Node (@grpc/grpc-js), driven by descriptors: those that are generated, or those of a reflection. */
import {
  create,
  fromBinary,
  toBinary,
  type DescMessage,
  type DescMethod,
  type MessageInitShape,
  type MessageShape,
} from '@bufbuild/protobuf';
import {
  Client,
  credentials,
  type ClientDuplexStream,
  type ClientReadableStream,
  type ServiceError,
} from '@grpc/grpc-js';
import { ErrorSchema, type Error as ErrorMessage } from '@naru/protocol/proto';

type Method<I extends DescMessage, O extends DescMessage> = DescMethod & { readonly input: I; readonly output: O };

export class GrpcClient implements Disposable {
  readonly #client: Client;

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure());
  }

  call<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      const done = (error: ServiceError | null, response?: MessageShape<O>): void => {
        if (response === undefined) reject(error ?? new Error('no answer'));
        else resolve(response);
      };
      this.#client.makeUnaryRequest(pathOf(method), ...codecOf(method), create(method.input, request), done);
    });
  }

  watch<I extends DescMessage, O extends DescMessage>(
    method: Method<I, O>,
    request: MessageInitShape<I>,
  ): ClientReadableStream<MessageShape<O>> {
    return this.#client.makeServerStreamRequest(pathOf(method), ...codecOf(method), create(method.input, request));
  }

  talk<I extends DescMessage, O extends DescMessage>(method: Method<I, O>): Conversation<I, O> {
    return new Conversation(method, this.#client.makeBidiStreamRequest(pathOf(method), ...codecOf(method)));
  }

  [Symbol.dispose](): void {
    this.#client.close();
  }
}

/** A stream both ways. */
export class Conversation<I extends DescMessage, O extends DescMessage> {
  readonly #method: Method<I, O>;
  readonly #stream: ClientDuplexStream<MessageShape<I>, MessageShape<O>>;
  readonly #answers: AsyncIterator<MessageShape<O>>;

  constructor(method: Method<I, O>, stream: ClientDuplexStream<MessageShape<I>, MessageShape<O>>) {
    this.#method = method;
    this.#stream = stream;
    this.#answers = stream[Symbol.asyncIterator]() as AsyncIterator<MessageShape<O>>;
  }

  say(request: MessageInitShape<I>): void {
    this.#stream.write(create(this.#method.input, request));
  }

  /** The next answer; null at the end. Rejects with what the stream failed with. */
  async hear(): Promise<MessageShape<O> | null> {
    const next = await this.#answers.next();
    return next.done === true ? null : next.value;
  }

  async ask(request: MessageInitShape<I>): Promise<MessageShape<O> | null> {
    this.say(request);
    return this.hear();
  }

  finish(): void {
    this.#stream.end();
  }
}

/** Naru's error in the details of a failed call. */
export function naruErrorOf(error: unknown): ErrorMessage | undefined {
  const [status] = (error as ServiceError).metadata.get('grpc-status-details-bin');
  if (!Buffer.isBuffer(status)) return undefined;
  // The last field of a google.rpc.Status is its detail, and that one's last field the message.
  const name = Buffer.from(`type.googleapis.com/${ErrorSchema.typeName}`);
  const at = status.indexOf(name) + name.length;
  const length = status[at + 1] ?? 0;
  return fromBinary(ErrorSchema, status.subarray(at + 2, at + 2 + length));
}

function pathOf(method: DescMethod): string {
  return `/${method.parent.typeName}/${method.name}`;
}

type Codec<I extends DescMessage, O extends DescMessage> = [
  serialize: (request: MessageShape<I>) => Buffer,
  deserialize: (bytes: Buffer) => MessageShape<O>,
];

function codecOf<I extends DescMessage, O extends DescMessage>({ input, output }: Method<I, O>): Codec<I, O> {
  return [(request) => Buffer.from(toBinary(input, request)), (bytes) => fromBinary(output, bytes)];
}
