/** Which services there are, and who answers them. */
import type { ConnectRouter, ServiceImpl } from '@connectrpc/connect';
import {
  AdminService,
  DeadLetterService,
  health as healthProtocol,
  PublisherService,
  SubscriberService,
  TraceService,
  TransactionService,
} from '@naru/protocol/proto';
import type { HealthDoor } from './health-door.ts';
import type { PublisherDoor } from './publisher-door.ts';
import { addReflection } from './reflection-door.ts';
import type { SubscriberDoor } from './subscriber-door.ts';
import type { UnaryCalls } from './unary-door.ts';

const SERVICES = [
  PublisherService,
  SubscriberService,
  AdminService,
  DeadLetterService,
  TraceService,
  TransactionService,
];

/** Services whose health can be asked for. */
export const SERVICE_NAMES: readonly string[] = SERVICES.map(({ typeName }) => typeName);

export interface GrpcDoors {
  readonly publisher: PublisherDoor;
  readonly subscriber: SubscriberDoor;
  readonly unary: UnaryCalls;
  readonly admin: ServiceImpl<typeof AdminService>;
  readonly deadLetters: ServiceImpl<typeof DeadLetterService>;
  readonly trace: ServiceImpl<typeof TraceService>;
  readonly transactions: ServiceImpl<typeof TransactionService>;
  readonly health: HealthDoor;
}

export function grpcRoutes({
  publisher,
  subscriber,
  unary,
  admin,
  deadLetters,
  trace,
  transactions,
  health,
}: GrpcDoors): (router: ConnectRouter) => void {
  return (router) => {
    router.service(PublisherService, publisher);
    router.service(SubscriberService, {
      subscribe: (requests, context) => subscriber.subscribe(requests, context),
      ...unary,
    });
    router.service(AdminService, admin);
    router.service(DeadLetterService, deadLetters);
    router.service(TraceService, trace);
    router.service(TransactionService, transactions);
    router.service(healthProtocol.Health, health);
    addReflection(router, [...SERVICES, healthProtocol.Health]);
  };
}
