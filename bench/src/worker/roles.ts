/** What a worker process can be. Loaded when asked for, so that a bare limit does not carry the broker's modules. */
import type { Role } from './worker-messages.ts';

type OpenRole = (options: never) => Promise<Role> | Role;

export const roles = {
  broker: async () => (await import('../load/broker-role.ts')).openBroker,
  publisher: async () => (await import('../load/publisher-role.ts')).openPublisher,
  'raw-publisher': async () => (await import('../load/raw-publisher-role.ts')).openRawPublisher,
  subscriber: async () => (await import('../load/subscriber-role.ts')).openSubscriber,
  'raw-subscriber': async () => (await import('../load/raw-subscriber-role.ts')).openRawSubscriber,
  'connect-server': async () => (await import('../bare/connect-server.ts')).openConnectServer,
  'connect-client': async () => (await import('../bare/connect-client.ts')).openConnectClient,
  'http2-server': async () => (await import('../bare/http2-server.ts')).openHttp2Server,
  'http2-client': async () => (await import('../bare/http2-client.ts')).openHttp2Client,
  disk: async () => (await import('../bare/disk-writes.ts')).openDiskWrites,
  serializer: async () => (await import('../serialization/serializer-role.ts')).openSerializer,
  'peer-sender': async () => (await import('../peer-load/sender-role.ts')).openSender,
  'peer-receiver': async () => (await import('../peer-load/receiver-role.ts')).openReceiver,
  'peer-probe': async () => (await import('../peer-load/probe-role.ts')).openProbe,
} as const satisfies Readonly<Record<string, () => Promise<OpenRole>>>;

export type RoleName = keyof typeof roles;
/** What a role is opened with. */
export type RoleOptions<N extends RoleName> = Parameters<Awaited<ReturnType<(typeof roles)[N]>>>[0];
/** A role as it is opened. */
export type OpenedRole<N extends RoleName> = Awaited<ReturnType<Awaited<ReturnType<(typeof roles)[N]>>>>;
export type Commands<N extends RoleName> = OpenedRole<N>['commands'];
