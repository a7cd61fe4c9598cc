/**
 * Memory that the caller is going to overwrite: where the platform can, it is not zeroed first, which for buffers of this
 * size costs as much as filling them.
 *
 * Never from a pool: a batch keeps its memory for as long as it is in flight or cached, and would keep its neighbours' too.
 */
export const allocate: (length: number) => Uint8Array =
  typeof globalThis.Buffer === 'function'
    ? (length) => new Uint8Array(globalThis.Buffer.allocUnsafeSlow(length).buffer)
    : (length) => new Uint8Array(length);
