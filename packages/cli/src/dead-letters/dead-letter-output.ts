/** Dead letters as they are printed: plain values for JSON, and lines for people. */
import { DeadLetterState, type DeadLetter, type Record as WireRecord } from '@naru/protocol/proto';
import { isoTime, type PrintedEvent } from '../output/event-line.ts';
import { printable } from '../output/printable.ts';
import type { Column } from '../output/table.ts';

const MAX_ERROR_CHARACTERS = 60;

const encoder = new TextEncoder();

/** As JSON has it. Times are ISO 8601. */
export function deadLetterJson(letter: DeadLetter) {
  return {
    id: letter.id,
    group: letter.groupId,
    state: stateText(letter),
    topic: letter.topic,
    partition: letter.partition,
    offset: letter.offset,
    key: letter.keyText === '' ? null : letter.keyText,
    reason: letter.reason,
    error: letter.error,
    attempts: letter.attempts,
    redrives: letter.redrives,
    parkedBehind: letter.parkedBehind,
    firstFailure: timeOf(letter.firstFailureMs),
    lastFailure: timeOf(letter.lastFailureMs),
    deadLettered: timeOf(letter.deadLetteredMs),
  };
}

export const DEAD_LETTER_COLUMNS: readonly Column<DeadLetter>[] = [
  { title: 'ID', value: ({ id }) => id },
  { title: 'EVENT', value: placeText },
  { title: 'KEY', value: ({ keyText }) => keyText },
  { title: 'STATE', value: stateText },
  { title: 'SINCE', value: ({ deadLetteredMs }) => timeOf(deadLetteredMs) },
  { title: 'ATTEMPTS', value: ({ attempts }) => attempts },
  { title: 'REASON', value: ({ reason }) => reason },
  { title: 'BEHIND IT', value: ({ parkedBehind }) => parkedBehind },
  { title: 'ERROR', value: ({ error }) => firstWords(error) },
];

/** One line: what was done, or would be. */
export function deadLetterLine(letter: DeadLetter): string {
  const key = letter.keyText === '' ? [] : [`[${printable(letter.keyText)}]`];
  return `${[letter.id, placeText(letter), ...key, printable(letter.reason)].join('  ')}\n`;
}

/** Everything about one, a line each. */
export function deadLetterFacts(letter: DeadLetter): string {
  const facts: readonly (readonly [string, string | null])[] = [
    ['dead letter', letter.id],
    ['group', letter.groupId],
    ['event', placeText(letter)],
    ['key', letter.keyText],
    ['state', stateText(letter)],
    ['reason', letter.reason],
    ['error', letter.error],
    ['attempts', String(letter.attempts)],
    ['redriven', letter.redrives === 0 ? '' : `${letter.redrives} times`],
    ['first failure', timeOf(letter.firstFailureMs)],
    ['last failure', timeOf(letter.lastFailureMs)],
    ['dead since', timeOf(letter.deadLetteredMs)],
    ['behind it', letter.parkedBehind === 0 ? '' : `${letter.parkedBehind} events of its key`],
  ];
  return facts
    .filter(([, text]) => text !== null && text !== '')
    .map(([name, text]) => `${name.padEnd(14)} ${printable(text ?? '')}\n`)
    .join('');
}

/** The whole event of an answer. */
export function printedEvent(record: WireRecord): PrintedEvent {
  const { topic, partition, offset, requestId, keyText, valueText } = record;
  return {
    topic,
    partition,
    offset,
    requestId,
    keyBytes: record.key ?? (keyText === undefined ? null : encoder.encode(keyText)),
    valueBytes: record.value ?? (valueText === undefined ? null : encoder.encode(valueText)),
    headers: record.headers.map(({ key, value, valueText: text }) => ({
      key,
      value: value ?? (text === undefined ? null : encoder.encode(text)),
    })),
    timestampMs: record.timestampMs === undefined ? -1 : Number(record.timestampMs),
  };
}

export function stateText({ state }: DeadLetter): string {
  return state === DeadLetterState.REDRIVEN ? 'redriven' : 'dead';
}

function placeText({ topic, partition, offset }: DeadLetter): string {
  return `${topic}/${partition}/${offset}`;
}

function timeOf(ms: bigint): string | null {
  return ms <= 0n ? null : isoTime(Number(ms));
}

function firstWords(text: string): string {
  const line = text.split('\n', 1)[0] ?? '';
  return line.length <= MAX_ERROR_CHARACTERS ? line : `${line.slice(0, MAX_ERROR_CHARACTERS - 1)}…`;
}
