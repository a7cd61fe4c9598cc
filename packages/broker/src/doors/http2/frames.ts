/** HTTP/2's frames as bytes (RFC 9113, sections 4, 6 and 7): types, flags, error codes, and the small frames that a server sends. */

export const FRAME = {
  data: 0x0,
  headers: 0x1,
  priority: 0x2,
  rstStream: 0x3,
  settings: 0x4,
  pushPromise: 0x5,
  ping: 0x6,
  goaway: 0x7,
  windowUpdate: 0x8,
  continuation: 0x9,
} as const;

export const FLAG = { ack: 0x1, endStream: 0x1, endHeaders: 0x4, padded: 0x8, priority: 0x20 } as const;

export const SETTING = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  maxConcurrentStreams: 0x3,
  initialWindowSize: 0x4,
  maxFrameSize: 0x5,
  maxHeaderListSize: 0x6,
} as const;

/** An id and a value. */
export const SETTING_BYTES = 6;

export const ERROR_CODE = {
  noError: 0x0,
  protocolError: 0x1,
  internalError: 0x2,
  flowControlError: 0x3,
  streamClosed: 0x5,
  frameSizeError: 0x6,
  refusedStream: 0x7,
  cancel: 0x8,
  compressionError: 0x9,
  enhanceYourCalm: 0xb,
} as const;

export type ErrorCode = (typeof ERROR_CODE)[keyof typeof ERROR_CODE];

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
export const FRAME_HEAD_BYTES = 9;
/** Windows and frames of a side that has not said anything else. */
export const DEFAULT_WINDOW_BYTES = 65_535;
export const DEFAULT_FRAME_BYTES = 16_384;
export const MAX_WINDOW_BYTES = 2 ** 31 - 1;
export const MAX_FRAME_BYTES = 2 ** 24 - 1;

/** What ends a connection. */
export class Http2ConnectionError extends Error {
  readonly code: ErrorCode;

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

export function writeFrameHead(
  into: Uint8Array,
  at: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): void {
  into[at] = length >>> 16;
  into[at + 1] = length >>> 8;
  into[at + 2] = length;
  into[at + 3] = type;
  into[at + 4] = flags;
  into[at + 5] = streamId >>> 24;
  into[at + 6] = streamId >>> 16;
  into[at + 7] = streamId >>> 8;
  into[at + 8] = streamId;
}

/** A frame with a payload that is copied. */
export function frame(type: number, flags: number, streamId: number, payload: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + payload.length);
  writeFrameHead(bytes, 0, payload.length, type, flags, streamId);
  bytes.set(payload, FRAME_HEAD_BYTES);
  return bytes;
}

export function settingsFrame(settings: readonly (readonly [id: number, value: number])[]): Buffer {
  const payload = Buffer.alloc(settings.length * SETTING_BYTES);
  for (const [index, [id, value]] of settings.entries()) {
    payload.writeUInt16BE(id, index * SETTING_BYTES);
    payload.writeUInt32BE(value, index * SETTING_BYTES + 2);
  }
  return frame(FRAME.settings, 0, 0, payload);
}

export const SETTINGS_ACK = frame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0));

export function windowUpdateFrame(streamId: number, bytes: number): Buffer {
  return frameWithNumber(FRAME.windowUpdate, streamId, bytes);
}

export function rstStreamFrame(streamId: number, code: ErrorCode): Buffer {
  return frameWithNumber(FRAME.rstStream, streamId, code);
}

export function goawayFrame(lastStreamId: number, code: ErrorCode, reason: string): Buffer {
  const payload = Buffer.alloc(8 + Buffer.byteLength(reason));
  payload.writeUInt32BE(lastStreamId, 0);
  payload.writeUInt32BE(code, 4);
  payload.write(reason, 8);
  return frame(FRAME.goaway, 0, 0, payload);
}

function frameWithNumber(type: number, streamId: number, value: number): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEAD_BYTES + 4);
  writeFrameHead(bytes, 0, 4, type, 0, streamId);
  bytes.writeUInt32BE(value, FRAME_HEAD_BYTES);
  return bytes;
}

/** A header block as HEADERS and, when it is longer than a frame may be, CONTINUATION. */
export function headersFrames(streamId: number, block: Uint8Array, endStream: boolean, maxFrameBytes: number): Buffer {
  const frames: Buffer[] = [];
  let at = 0;
  do {
    const part = block.subarray(at, at + maxFrameBytes);
    at += part.length;
    const flags = at >= block.length ? FLAG.endHeaders : 0;
    if (frames.length > 0) frames.push(frame(FRAME.continuation, flags, streamId, part));
    else frames.push(frame(FRAME.headers, flags | (endStream ? FLAG.endStream : 0), streamId, part));
  } while (at < block.length);
  return frames.length === 1 ? (frames[0] as Buffer) : Buffer.concat(frames);
}
