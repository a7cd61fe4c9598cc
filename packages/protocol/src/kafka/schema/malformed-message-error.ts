/**
 * Bytes that are not the message they should be, on their way from where that was noticed to where the message is known.
 *
 * Owns the path: each level of the message that the error passes adds its field or index in front.
 */
export class MalformedMessageError extends Error {
  override readonly name = 'MalformedMessageError';
  /** From the start of the frame, behind its size. */
  readonly position: number;
  #path = '';

  constructor(message: string, position: number) {
    super(message);
    this.position = position;
  }

  /** Like `topics[0].partitions[2].records`; '' outside of any field. */
  get path(): string {
    return this.#path;
  }

  /** @param step `name` or `[index]` */
  within(step: string): void {
    const joint = this.#path === '' || this.#path.startsWith('[') ? '' : '.';
    this.#path = step + joint + this.#path;
  }
}
