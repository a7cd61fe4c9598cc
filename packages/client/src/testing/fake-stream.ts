/** A stream between a client and a broker that a test plays. Messages arrive after `delayMs` of virtual time, in order. */
import type { NaruError } from '@naru/protocol';
import { OutboundQueue } from './outbound-queue.ts';
import type { MessageStream } from '../transport/transport.ts';
import type { VirtualTime } from './virtual-time.ts';

export class FakeStream<Out, In> implements MessageStream<Out, In> {
  readonly #time: VirtualTime;
  readonly #answers: OutboundQueue<In>;
  readonly #received: (message: Out) => void;
  readonly #delayMs: () => number;
  #lastArrivalMs = 0;
  #error: NaruError | null = null;
  isOver = false;
  backlog = 0;
  onDrain: (() => void) | null = null;
  /** Called once, when the client has gone. */
  onGone: (() => void) | null = null;

  constructor(time: VirtualTime, received: (message: Out) => void, delayMs: () => number = () => 0) {
    this.#time = time;
    this.#received = received;
    this.#delayMs = delayMs;
    this.#answers = new OutboundQueue<In>(() => {});
  }

  send(message: Out): void {
    if (this.isOver) return;
    this.backlog += 1;
    this.#arrive(() => {
      this.backlog -= 1;
      if (this.isOver) return;
      this.#received(message);
      if (this.backlog === 0) this.onDrain?.();
    });
  }

  /** The broker says something; it gets lost when the stream breaks before it arrives. */
  answer(message: In): void {
    this.#arrive(() => {
      if (!this.isOver) this.#answers.push(message);
    });
  }

  /** The connection breaks: whatever is under way is lost. */
  break(error: NaruError): void {
    this.#error = error;
    this.#finish();
  }

  end(): void {}

  abort(): void {
    this.#finish();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<In, void> {
    yield* this.#answers;
    if (this.#error !== null) throw this.#error;
  }

  #finish(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.#answers.end();
    this.onGone?.();
  }

  #arrive(callback: () => void): void {
    this.#lastArrivalMs = Math.max(this.#lastArrivalMs, this.#time.monotonicMs() + this.#delayMs());
    this.#time.after(this.#lastArrivalMs - this.#time.monotonicMs(), callback);
  }
}
