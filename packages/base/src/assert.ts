/** A bug in Naru, not a fault of its surroundings: the owner of the broken state stops rather than going on. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** States an invariant. `message` says what was expected; it is for engineers, not for users. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never, what = 'value'): never {
  throw new AssertionError(`unexpected ${what}: ${JSON.stringify(value)}`);
}

/** A public 64-bit offset as the safe integer that the inside works with. */
export function toSafeInteger(value: bigint, what: string): number {
  const number = Number(value);
  assert(Number.isSafeInteger(number), `${what} ${value} is not a safe integer`);
  return number;
}

/** What was thrown, as an Error, whatever it was. */
export function toError(thrown: unknown): Error {
  return thrown instanceof Error ? thrown : new Error(String(thrown));
}
