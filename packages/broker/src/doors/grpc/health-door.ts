/** gRPC's health service (grpc.health.v1): the broker as a whole under the empty name, and each service under its own. */
import { create } from '@bufbuild/protobuf';
import { Code, ConnectError, type HandlerContext, type ServiceImpl } from '@connectrpc/connect';
import { health } from '@naru/protocol/proto';
import { Outbox } from './outbox.ts';

type Status = health.HealthCheckResponse_ServingStatus;
const Status = health.HealthCheckResponse_ServingStatus;

/** Watches at once, of all clients. */
export const MAX_HEALTH_WATCHES = 1_000;

export class HealthDoor implements ServiceImpl<typeof health.Health> {
  readonly #services: ReadonlySet<string>;
  /** Those of services that are not here among them. */
  readonly #watches = new Map<Outbox<Status>, { readonly isKnown: boolean }>();
  #serves = true;

  /** @param services full names */
  constructor(services: readonly string[]) {
    this.#services = new Set(['', ...services]);
  }

  /** From now on the answer is NOT_SERVING: the broker failed, or goes. */
  stopServing(): void {
    if (!this.#serves) return;
    this.#serves = false;
    for (const [watch, { isKnown }] of this.#watches) if (isKnown) watch.push(Status.NOT_SERVING);
  }

  /** Ends every watch, after what it still has to say. */
  close(): void {
    this.stopServing();
    for (const watch of this.#watches.keys()) watch.end();
  }

  check({ service }: health.HealthCheckRequest): health.HealthCheckResponse {
    if (!this.#services.has(service)) {
      throw new ConnectError(`there is no service ${JSON.stringify(service)}`, Code.NotFound);
    }
    return response(this.#status());
  }

  async *watch(
    { service }: health.HealthCheckRequest,
    context: HandlerContext,
  ): AsyncIterable<health.HealthCheckResponse> {
    if (this.#watches.size >= MAX_HEALTH_WATCHES) {
      throw new ConnectError(`${MAX_HEALTH_WATCHES} watches are open, which is the limit`, Code.ResourceExhausted);
    }
    const said = new Outbox<Status>();
    const end = (): void => said.end();
    const isKnown = this.#services.has(service);
    this.#watches.set(said, { isKnown });
    said.push(isKnown ? this.#status() : Status.SERVICE_UNKNOWN);
    context.signal.addEventListener('abort', end, { once: true });
    try {
      for await (const status of said) yield response(status);
    } finally {
      this.#watches.delete(said);
      context.signal.removeEventListener('abort', end);
    }
  }

  #status(): Status {
    return this.#serves ? Status.SERVING : Status.NOT_SERVING;
  }
}

function response(status: Status): health.HealthCheckResponse {
  return create(health.HealthCheckResponseSchema, { status });
}
