/**
 * A Kafka client for tests that has only frames: it sends what it is told, also what no client would, and reads when it is told.
 */
import { connect, type Socket } from 'node:net';
import {
  decodeResponse,
  encodeRequest,
  kafkaApis,
  type KafkaApiName,
  type KafkaRequestInput,
  type KafkaResponseOutput,
} from '@naru/protocol/kafka';
import { FrameReader } from './frame-reader.ts';

const MAX_ANSWER_BYTES = 0x7fff_ffff;

export class RawKafkaClient {
  readonly #socket: Socket;
  readonly #frames = new FrameReader(MAX_ANSWER_BYTES);
  readonly #answers: Buffer[] = [];
  readonly #waiting: ((frame: Buffer | null) => void)[] = [];
  #nextCorrelationId = 1;
  /** Resolves when the connection is closed. */
  readonly closed: Promise<void>;
  isClosed = false;

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.closed = new Promise((resolve) => {
      socket.on('close', () => {
        this.isClosed = true;
        for (const give of this.#waiting.splice(0)) give(null);
        resolve();
      });
    });
    socket.on('error', () => {});
    socket.on('data', (chunk: Buffer) => {
      this.#frames.push(chunk);
      for (let frame = this.#frames.next(); frame !== null; frame = this.#frames.next()) {
        const give = this.#waiting.shift();
        if (give === undefined) this.#answers.push(frame);
        else give(frame);
      }
    });
  }

  static async connect({ host, port }: { readonly host: string; readonly port: number }): Promise<RawKafkaClient> {
    const socket = connect({ host, port, noDelay: true });
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', reject);
    });
    return new RawKafkaClient(socket);
  }

  /** Bytes that the connection has not taken. */
  get unsentBytes(): number {
    return this.#socket.writableLength;
  }

  /** Answers that came and were not taken. */
  get answers(): number {
    return this.#answers.length;
  }

  write(bytes: Uint8Array | string): void {
    this.#socket.write(bytes);
  }

  /** Sends a request and returns its correlation id. */
  send<N extends KafkaApiName>(name: N, version: number, body: KafkaRequestInput<N>): number {
    const correlationId = this.#nextCorrelationId++;
    this.write(frameOf(name, version, body, correlationId));
    return correlationId;
  }

  /** The next answer, which must be one to this. Fails when the connection ends before. */
  async take<N extends KafkaApiName>(name: N, version: number, correlationId: number): Promise<KafkaResponseOutput<N>> {
    const frame = await this.takeFrame();
    if (frame === null) throw new Error(`the connection was closed before ${name} v${version} was answered`);
    const answer = decodeResponse(kafkaApis[name], version, frame);
    if (answer.correlationId !== correlationId) {
      throw new Error(`answer ${answer.correlationId} came where ${correlationId} was expected`);
    }
    return answer.body as unknown as KafkaResponseOutput<N>;
  }

  /** The next answer as it came; null when the connection ended before. */
  takeFrame(): Promise<Buffer | null> {
    const ready = this.#answers.shift();
    if (ready !== undefined) return Promise.resolve(ready);
    if (this.isClosed) return Promise.resolve(null);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  call<N extends KafkaApiName>(name: N, version: number, body: KafkaRequestInput<N>): Promise<KafkaResponseOutput<N>> {
    return this.take(name, version, this.send(name, version, body));
  }

  /** Reads no more from the connection. */
  stopReading(): void {
    this.#socket.pause();
  }

  destroy(): void {
    this.#socket.destroy();
  }
}

/** A whole request, size in front. */
export function frameOf<N extends KafkaApiName>(
  name: N,
  version: number,
  body: KafkaRequestInput<N>,
  correlationId = 1,
): Buffer {
  const header = { correlationId, clientId: 'raw' };
  return Buffer.concat(encodeRequest(kafkaApis[name], version, header, body as never));
}
