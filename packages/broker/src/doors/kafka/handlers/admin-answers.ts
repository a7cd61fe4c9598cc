/** How admin handlers say no: the pair of code and message that each of their answers has. */
import { isNaruError, type Refusal } from '@naru/protocol';
import { KAFKA_ERRORS, kafkaErrorCode, type KafkaErrorName } from '@naru/protocol/kafka';

export interface AdminAnswer {
  readonly errorCode: number;
  /** Null when nothing is wrong. */
  readonly errorMessage: string | null;
}

/** Characters of a message: it may quote what the client sent, and has to fit into a string of the wire with it. */
const MAX_MESSAGE_LENGTH = 1_000;

export const DONE: AdminAnswer = { errorCode: 0, errorMessage: null };

export function refused(name: KafkaErrorName, errorMessage: string): AdminAnswer {
  return { errorCode: KAFKA_ERRORS[name].code, errorMessage: shortened(errorMessage) };
}

export function refusedAs({ code, message }: Refusal): AdminAnswer {
  return { errorCode: kafkaErrorCode(code, 'admin'), errorMessage: shortened(message) };
}

function shortened(message: string): string {
  return message.length <= MAX_MESSAGE_LENGTH ? message : `${message.slice(0, MAX_MESSAGE_LENGTH).toWellFormed()}…`;
}

/** What the work answers; an operational error, such as a storage that is away, becomes an answer too. */
export async function answered<T extends object>(work: () => Promise<T | AdminAnswer>): Promise<T | AdminAnswer> {
  try {
    return await work();
  } catch (error) {
    if (isNaruError(error)) return refusedAs(error);
    throw error;
  }
}

/** What stands more than once among these. */
export function repeated<T>(values: readonly T[]): ReadonlySet<T> {
  const seen = new Set<T>();
  const twice = new Set<T>();
  for (const value of values) {
    if (seen.has(value)) twice.add(value);
    seen.add(value);
  }
  return twice;
}
