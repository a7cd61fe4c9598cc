/**
 * Confluent's message indexes: which message of a `.proto` file a payload is, as zigzag varints before it.
 *
 * ```
 * count index*      each index among the messages of its level; [0], the usual, is the single byte 0
 * ```
 *
 * Some clients write none at all. Their payload begins with a field's tag, whose number is 1 or more, so at least 8: as a
 * count that would be a message nested four levels deep or deeper. What does not lead to a message was none.
 */
import type { DescFile, DescMessage } from '@bufbuild/protobuf';

/** Levels of nesting. */
const MAX_DEPTH = 32;

export interface FoundMessage {
  readonly message: DescMessage;
  /** Where the payload begins. */
  readonly at: number;
}

/** The message that the payload says it is; the first of the file where it says nothing. Null for a file without messages. */
export function findMessage(file: DescFile, payload: Uint8Array): FoundMessage | null {
  const [first] = file.messages;
  if (first === undefined) return null;
  return readIndexes(file, payload) ?? { message: first, at: 0 };
}

function readIndexes(file: DescFile, payload: Uint8Array): FoundMessage | null {
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = payload[at++];
      if (byte === undefined) return -1;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value % 2 === 0 ? value / 2 : -1;
    }
    return -1;
  };
  const count = next();
  if (count === 0) return { message: file.messages[0] as DescMessage, at };
  if (count < 0 || count > MAX_DEPTH) return null;
  let level: readonly DescMessage[] = file.messages;
  let message: DescMessage | undefined;
  for (let depth = 0; depth < count; depth++) {
    message = level[next()];
    if (message === undefined) return null;
    level = realMessages(message);
  }
  return message === undefined ? null : { message, at };
}

/** Where `message` stands in its file, encoded. */
export function messageIndexes(message: DescMessage): Uint8Array {
  const path: number[] = [];
  for (let at: DescMessage | undefined = message; at !== undefined; at = at.parent) {
    const level: readonly DescMessage[] = at.parent === undefined ? at.file.messages : realMessages(at.parent);
    path.unshift(level.indexOf(at));
  }
  if (path.length === 1 && path[0] === 0) return Uint8Array.of(0);
  return Uint8Array.from([path.length, ...path].flatMap(zigzag));
}

function realMessages({ nestedMessages }: DescMessage): readonly DescMessage[] {
  return nestedMessages.filter(({ proto }) => proto.options?.mapEntry !== true);
}

function zigzag(value: number): number[] {
  const bytes: number[] = [];
  let left = value * 2;
  for (; left >= 0x80; left = Math.floor(left / 0x80)) bytes.push((left % 0x80) + 0x80);
  return [...bytes, left];
}
