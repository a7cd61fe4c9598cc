/**
 * Takes what goes to a shard and back through structuredClone, as a worker thread does: what is not plain data, or is
 * changed after it was sent, shows itself.
 */
import { isNaruError, NaruError } from '@naru/protocol';

/** The shape of a ShardClient. */
interface Submits {
  submit(command: never): Promise<unknown>;
}

export class ClonedShardClient<Client extends Submits> {
  readonly #client: Client;
  /** Commands that went through. */
  commands = 0;

  constructor(client: Client) {
    this.#client = client;
  }

  /** To be given to whoever wants the client. */
  get client(): Client {
    return this as unknown as Client;
  }

  submit(command: never): Promise<unknown> {
    this.commands += 1;
    return this.#client.submit(structuredClone(command)).then(
      (reply) => structuredClone(reply),
      (error: unknown) => {
        // Of an error, code and message cross.
        throw isNaruError(error) ? new NaruError(error.code, error.message) : error;
      },
    );
  }
}
