/**
 * gRPC's framing of messages on a stream (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"): a flag byte, a length of four
 * bytes, the message. Compressed messages are refused: record batches bring their own compression.
 *
 * Owns the bytes between a transport and a message. Batches are neither copied when they are written ({@link frameOf}
 * gives pieces) nor more than once when they are read.
 */
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { allocate } from './allocate.ts';
import { NaruError } from './errors.ts';

const PREFIX_BYTES = 5;

/** Puts messages together from the chunks of a stream. */
export class GrpcFrameReader {
  readonly #maxBytes: number;
  readonly #prefix = new Uint8Array(PREFIX_BYTES);
  #prefixBytes = 0;
  #message: Uint8Array | null = null;
  #messageBytes = 0;

  /** @param maxBytes of one message */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Whether the stream may end here. */
  get isBetweenMessages(): boolean {
    return this.#prefixBytes === 0;
  }

  /**
   * Calls `onMessage` for each message that `chunk` completes. The message is its own memory, which belongs to the callee.
   *
   * @throws NaruError INVALID_REQUEST for a compressed or too large message: the stream is of no use after it
   */
  push(chunk: Uint8Array, onMessage: (message: Uint8Array) => void): void {
    let at = 0;
    while (at < chunk.length || (this.#message !== null && this.#messageBytes === this.#message.length)) {
      if (this.#message === null) {
        const taken = Math.min(PREFIX_BYTES - this.#prefixBytes, chunk.length - at);
        this.#prefix.set(chunk.subarray(at, at + taken), this.#prefixBytes);
        this.#prefixBytes += taken;
        at += taken;
        if (this.#prefixBytes < PREFIX_BYTES) return;
        this.#message = allocate(this.#length());
      }
      const message = this.#message;
      const taken = Math.min(message.length - this.#messageBytes, chunk.length - at);
      message.set(chunk.subarray(at, at + taken), this.#messageBytes);
      this.#messageBytes += taken;
      at += taken;
      if (this.#messageBytes < message.length) return;
      this.#message = null;
      this.#messageBytes = 0;
      this.#prefixBytes = 0;
      onMessage(message);
    }
  }

  #length(): number {
    const [flags = 0, a = 0, b = 0, c = 0, d = 0] = this.#prefix;
    if (flags !== 0)
      throw new NaruError(
        'INVALID_REQUEST',
        `a message has flags ${flags}; compressed messages are not supported on this stream`,
      );
    const length = a * 2 ** 24 + (b << 16) + (c << 8) + d;
    if (length > this.#maxBytes) {
      throw new NaruError('INVALID_REQUEST', `a message has ${length} bytes, the limit is ${this.#maxBytes}`);
    }
    return length;
  }
}

/** The pieces of one message as pieces of a stream: the prefix comes first. */
export function frameOf(pieces: readonly Uint8Array[]): Uint8Array[] {
  let length = 0;
  for (const piece of pieces) length += piece.length;
  const prefix = new Uint8Array(PREFIX_BYTES);
  new DataView(prefix.buffer).setUint32(1, length);
  return [prefix, ...pieces];
}

/** `PublishStreamRequest.batch` in pieces; the last one is `records` itself. */
export function encodePublishBatch(
  correlationId: number,
  topicId: Uint8Array,
  partition: number,
  records: Uint8Array,
): Uint8Array[] {
  const batch = new BinaryWriter();
  if (correlationId !== 0) batch.tag(1, WireType.Varint).uint32(correlationId);
  batch.tag(2, WireType.LengthDelimited).bytes(topicId);
  if (partition !== 0) batch.tag(3, WireType.Varint).int32(partition);
  batch.tag(4, WireType.LengthDelimited).uint32(records.length);
  const head = batch.finish();
  const request = new BinaryWriter().tag(2, WireType.LengthDelimited).uint32(head.length + records.length);
  return [request.raw(head).finish(), records];
}

/** What `SubscribeResponse.records` says of one partition. */
export interface RecordsPart {
  /** 16 bytes. */
  readonly topicId: Uint8Array;
  readonly partition: number;
  readonly batches: readonly Uint8Array[];
  readonly highWatermark: number;
  /** Offsets that are left out for now. Default: none. */
  readonly withheld?: readonly number[] | undefined;
}

/** What `SubscribeResponse.records` says of one partition of a parallel topic. */
export interface AcquiredPart {
  /** 16 bytes. */
  readonly topicId: Uint8Array;
  readonly partition: number;
  readonly batches: readonly Uint8Array[];
  readonly ranges: readonly { readonly from: number; readonly to: number; readonly deliveryCount: number }[];
  /** Milliseconds. */
  readonly lockMs: number;
}

/** `SubscribeResponse.records` in pieces, among them the batches themselves. */
export function encodeRecords(
  pollId: number,
  parts: readonly RecordsPart[],
  acquired: readonly AcquiredPart[] = [],
): Uint8Array[] {
  const pieces: Uint8Array[] = [];
  let length = 0;
  const add = (piece: Uint8Array): void => {
    pieces.push(piece);
    length += piece.length;
  };
  if (pollId !== 0) add(new BinaryWriter().tag(1, WireType.Varint).uint32(pollId).finish());
  for (const part of parts) addPart(part, add);
  for (const part of acquired) addAcquired(part, add);
  return [new BinaryWriter().tag(4, WireType.LengthDelimited).uint32(length).finish(), ...pieces];
}

function addPart(part: RecordsPart, add: (piece: Uint8Array) => void): void {
  const { topicId, partition, batches, highWatermark, withheld = [] } = part;
  const ref = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(topicId);
  if (partition !== 0) ref.tag(2, WireType.Varint).int32(partition);
  let batchBytes = 0;
  for (const batch of batches) batchBytes += batch.length;
  const head = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .bytes(ref.finish())
    .tag(2, WireType.LengthDelimited)
    .uint32(batchBytes)
    .finish();
  const rest = new BinaryWriter().tag(3, WireType.Varint).int64(highWatermark);
  if (withheld.length > 0) {
    rest.tag(4, WireType.LengthDelimited).fork();
    for (const offset of withheld) rest.int64(offset);
    rest.join();
  }
  const tail = rest.finish();
  const partBytes = head.length + batchBytes + tail.length;
  add(new BinaryWriter().tag(2, WireType.LengthDelimited).uint32(partBytes).raw(head).finish());
  for (const batch of batches) add(batch);
  add(tail);
}

function addAcquired(
  { topicId, partition, batches, ranges, lockMs }: AcquiredPart,
  add: (piece: Uint8Array) => void,
): void {
  const ref = new BinaryWriter().tag(1, WireType.LengthDelimited).bytes(topicId);
  if (partition !== 0) ref.tag(2, WireType.Varint).int32(partition);
  let batchBytes = 0;
  for (const batch of batches) batchBytes += batch.length;
  const head = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .bytes(ref.finish())
    .tag(2, WireType.LengthDelimited)
    .uint32(batchBytes)
    .finish();
  const tail = new BinaryWriter();
  for (const { from, to, deliveryCount } of ranges) {
    const offsets = new BinaryWriter().tag(1, WireType.Varint).int64(from).tag(2, WireType.Varint).int64(to).finish();
    tail.tag(3, WireType.LengthDelimited).fork().tag(1, WireType.LengthDelimited).bytes(offsets);
    tail.tag(2, WireType.Varint).int32(deliveryCount).join();
  }
  const end = tail.tag(4, WireType.Varint).int64(lockMs).finish();
  add(
    new BinaryWriter()
      .tag(3, WireType.LengthDelimited)
      .uint32(head.length + batchBytes + end.length)
      .raw(head)
      .finish(),
  );
  for (const batch of batches) add(batch);
  add(end);
}
