/** Where randomness comes from. Injected, so that a seed reproduces a run. */
export interface Random {
  /** A number in [0, 1). */
  float(): number;
  /** An integer in [0, bound). */
  integer(bound: number): number;
  /** `length` random bytes. */
  bytes(length: number): Uint8Array;
}

export const systemRandom: Random = {
  float: () => Math.random(),
  integer: (bound) => Math.floor(Math.random() * bound),
  bytes: (length) => crypto.getRandomValues(new Uint8Array(length)),
};

/** A version 4 UUID as 16 bytes (RFC 9562 §5.4). */
export function randomUuidBytes(random: Random): Uint8Array {
  const bytes = random.bytes(16);
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40;
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80;
  return bytes;
}
