/** A command that has said what went wrong already, and only has to end. */
export class CommandFailure extends Error {
  override readonly name = 'CommandFailure';
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`the command failed with exit code ${exitCode}`);
    this.exitCode = exitCode;
  }
}
