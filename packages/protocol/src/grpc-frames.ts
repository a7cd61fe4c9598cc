/**
 * gRPC's framing of messages on a stream (PROTOCOL-HTTP2.md, "Length-Prefixed-Message"): a flag byte, a length of four
 * bytes, the message. Compressed messages are refused: record batches bring their own compression.
 *
 * Owns the bytes between a transport and a message, and the few messages that come with every batch: those of publishing and
 * subscribing, whose encoding by descriptors costs more than what they say. Batches are neither copied when they are written
 * ({@link frameOf} gives pieces) nor more than once when they are read.
 */
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { allocate } from './allocate.ts';
import { NaruError } from './errors.ts';

const PREFIX_BYTES = 5;
/** Messages up to this size are written in one piece: copying them costs less than another piece does. */
const ONE_PIECE_BYTES = 1024;

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
        while (at < chunk.length && this.#prefixBytes < PREFIX_BYTES) {
          this.#prefix[this.#prefixBytes] = chunk[at] as number;
          this.#prefixBytes += 1;
          at += 1;
        }
        if (this.#prefixBytes < PREFIX_BYTES) return;
        this.#message = allocate(this.#length());
      }
      const message = this.#message;
      const taken = Math.min(message.length - this.#messageBytes, chunk.length - at);
      // Most chunks are the middle of a message.
      message.set(taken === chunk.length ? chunk : chunk.subarray(at, at + taken), this.#messageBytes);
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
  const isSmall = length <= ONE_PIECE_BYTES;
  const first = new Uint8Array(isSmall ? PREFIX_BYTES + length : PREFIX_BYTES);
  for (let i = PREFIX_BYTES - 1, rest = length; rest > 0; i--, rest >>>= 8) first[i] = rest;
  if (!isSmall) return [first, ...pieces];
  let at = PREFIX_BYTES;
  for (const piece of pieces) {
    first.set(piece, at);
    at += piece.length;
  }
  return [first];
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

/** What `PublishStreamRequest.batch` says. */
export interface PublishBatchParts {
  readonly correlationId: number;
  readonly topicId: Uint8Array;
  readonly partition: number;
  readonly records: Uint8Array;
}

/** Field number and wire type. */
const TAG = { request: 0x12, correlationId: 0x08, topicId: 0x12, partition: 0x18, records: 0x22 } as const;

/**
 * A message of {@link encodePublishBatch}, as views of it. Null for whatever is not that: other messages, and also this one with
 * fields in another order or more than once, which protobuf allows.
 */
export function decodePublishBatch(message: Uint8Array): PublishBatchParts | null {
  if (message[0] !== TAG.request) return null;
  const reader = new BinaryReader(message);
  reader.pos = 1;
  try {
    const length = reader.uint32();
    if (length !== message.length - reader.pos) return null;
    let tag = reader.uint32();
    const correlationId = tag === TAG.correlationId ? reader.uint32() : 0;
    if (tag === TAG.correlationId) tag = reader.uint32();
    if (tag !== TAG.topicId) return null;
    const topicId = reader.bytes();
    tag = reader.uint32();
    const partition = tag === TAG.partition ? reader.int32() : 0;
    if (tag === TAG.partition) tag = reader.uint32();
    if (tag !== TAG.records) return null;
    const records = reader.bytes();
    return reader.pos === message.length ? { correlationId, topicId, partition, records } : null;
  } catch {
    // It ends too early: whoever decodes it in full says so.
    return null;
  }
}

/** Of a batch that is stored. */
export interface PlainAck {
  readonly correlationId: number;
  readonly baseOffset: number;
}

/** `PublishStreamResponse.acks` of batches that are stored. */
export function encodePublishAcks(acks: readonly PlainAck[]): Uint8Array {
  let length = 0;
  for (const ack of acks) length += 2 + ackSize(ack);
  const bytes = new Uint8Array(1 + unsignedSize(length) + length);
  bytes[0] = 0x12;
  let at = writeUnsigned(bytes, 1, length);
  for (const ack of acks) {
    const { correlationId, baseOffset } = ack;
    bytes[at] = 0x0a;
    bytes[at + 1] = ackSize(ack);
    at += 2;
    if (correlationId !== 0) {
      bytes[at] = 0x08;
      at = writeUnsigned(bytes, at + 1, correlationId);
    }
    if (baseOffset !== 0) {
      bytes[at] = 0x10;
      at = writeUnsigned(bytes, at + 1, baseOffset);
    }
  }
  return bytes;
}

/** At most 15 bytes, whose length is one byte. */
function ackSize({ correlationId, baseOffset }: PlainAck): number {
  const first = correlationId === 0 ? 0 : 1 + unsignedSize(correlationId);
  return first + (baseOffset === 0 ? 0 : 1 + unsignedSize(baseOffset));
}

function unsignedSize(value: number): number {
  let size = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 0x80)) size += 1;
  return size;
}

/** A safe integer that is not negative, as protobuf's varint. */
function writeUnsigned(bytes: Uint8Array, at: number, value: number): number {
  let position = at;
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes[position++] = (rest % 0x80) | 0x80;
  bytes[position++] = rest;
  return position;
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
