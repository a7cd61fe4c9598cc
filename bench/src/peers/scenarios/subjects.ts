/** Which servers and clients stand beside each other. */
import { clientServers, durabilityOf } from '../../peer-clients/clients.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import type { Subject } from '../peer-scenario.ts';
import { serverKinds } from '../../peer-servers/server-kinds.ts';
import type { Durability } from '../../peer-servers/server-kind.ts';

const CLASSES: readonly Durability[] = ['fsync', 'no-fsync'];

/** Naru and Kafka, in both durability classes, with the same client. */
export function bothWith(client: Subject['client']): Subject[] {
  return CLASSES.flatMap((durability) => [
    { server: 'naru', durability, client } as const,
    { server: 'kafka', durability, client } as const,
  ]);
}

/** Each client with its own server, in the classes that there are. */
export function withOwnServers(clients: readonly ClientName[]): Subject[] {
  return clients.flatMap((client) => {
    const server = clientServers[client];
    const classes = serverKinds[server].durabilities.map((durability) => durabilityOf(client, durability));
    return classes.map((durability): Subject => ({ server, durability, client }));
  });
}

/** For what the class changes nothing in. */
export function once(subjects: readonly Subject[]): Subject[] {
  const seen = new Set<string>();
  return subjects.filter(({ server, client }) => {
    const key = `${server} ${client}`;
    const isNew = !seen.has(key);
    seen.add(key);
    return isNew;
  });
}
