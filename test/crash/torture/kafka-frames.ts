/**
 * Sees the requests of Kafka clients in the bytes of their connections, and sends some of them again later, from another connection.
 *
 * Only what a broker can tell from the real one: batches, which have sequences, and ends of the second transaction flow, where
 * each transaction has its own epoch. An end of the first flow that comes late may end a later transaction (KIP-890 says why).
 */
import { connect } from 'node:net';
import { delay, systemTimers } from '@naru/base';
import type { SeededRandom } from '@naru/testkit';

const PRODUCE = 0;
const END_TXN = 26;
const TXN_OFFSET_COMMIT = 28;
/** The version from which an API is of the second flow. */
const SECOND_FLOW = 5;
const MAX_KEPT = 500;
const MAX_FRAME_BYTES = 1024 * 1024;
const REPLAY_MS = 2_000;

export class KafkaFrames {
  readonly #random: SeededRandom;
  /** By connection: what is not a whole frame yet. */
  readonly #partial = new Map<number, Buffer>();
  readonly #kept: Buffer[] = [];
  readonly done = { replayedRequests: 0 };

  constructor(random: SeededRandom) {
    this.#random = random;
  }

  /** Bytes of a client on their way to the broker. */
  sent(connection: number, bytes: Uint8Array): void {
    let rest = Buffer.concat([this.#partial.get(connection) ?? Buffer.alloc(0), bytes]);
    while (rest.length >= 8) {
      const size = 4 + rest.readInt32BE(0);
      if (rest.length < size) break;
      this.#keep(Buffer.from(rest.subarray(0, size)));
      rest = rest.subarray(size);
    }
    this.#partial.set(connection, Buffer.from(rest));
  }

  /** A connection is over. */
  closed(connection: number): void {
    this.#partial.delete(connection);
  }

  /** Sends requests of the past again. The broker need not be there. */
  async replay(port: number, count: number): Promise<void> {
    if (this.#kept.length === 0) return;
    const socket = connect(port, '127.0.0.1');
    const over = new Promise<void>((resolve) => socket.on('close', () => resolve()).on('error', () => resolve()));
    for (let i = 0; i < count; i++) {
      const frame = this.#random.pick(this.#kept);
      const answered = new Promise<void>((resolve) => socket.once('data', () => resolve()));
      socket.write(frame);
      this.done.replayedRequests += 1;
      await Promise.race([answered, over, delay(systemTimers, REPLAY_MS)]);
    }
    socket.destroy();
  }

  #keep(frame: Buffer): void {
    const api = frame.readInt16BE(4);
    const version = frame.readInt16BE(6);
    const isSafe = api === PRODUCE || ((api === END_TXN || api === TXN_OFFSET_COMMIT) && version >= SECOND_FLOW);
    if (!isSafe || frame.length > MAX_FRAME_BYTES) return;
    this.#kept.push(frame);
    if (this.#kept.length > MAX_KEPT) this.#kept.shift();
  }
}
