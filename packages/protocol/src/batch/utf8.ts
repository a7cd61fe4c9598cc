/** UTF-8 of header keys: short and ASCII nearly always, so that calls into the platform's coders cost more than they do. */

const encoder = new TextEncoder();
/** Malformed bytes become U+FFFD, as in Kafka's own clients; a byte order mark is part of the key. */
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** Up to here a loop beats the platform's decoder. */
const SHORT_BYTES = 24;

/** Bytes that {@link writeUtf8} takes. A lone surrogate counts as the three bytes of U+FFFD. */
export function utf8Length(text: string): number {
  let size = text.length;
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i);
    if (unit < 0x80) continue;
    if (unit < 0x800) {
      size += 1;
      continue;
    }
    size += 2;
    if (unit >= 0xd800 && unit < 0xdc00) {
      const next = text.charCodeAt(i + 1);
      if (next >= 0xdc00 && next < 0xe000) i += 1; // A pair is two units and four bytes.
    }
  }
  return size;
}

/** Writes `text`, whose {@link utf8Length} is `length`, and returns the position after it. */
export function writeUtf8(bytes: Uint8Array, at: number, text: string, length: number): number {
  if (length === text.length && length <= SHORT_BYTES) {
    for (let i = 0; i < length; i++) bytes[at + i] = text.charCodeAt(i);
  } else {
    encoder.encodeInto(text, bytes.subarray(at, at + length));
  }
  return at + length;
}

export function readUtf8(bytes: Uint8Array, at: number, length: number): string {
  if (length <= SHORT_BYTES) {
    let text = '';
    let i = 0;
    for (; i < length; i++) {
      const byte = bytes[at + i] as number;
      if (byte >= 0x80) break;
      text += String.fromCharCode(byte);
    }
    if (i === length) return text;
  }
  return decoder.decode(bytes.subarray(at, at + length));
}
