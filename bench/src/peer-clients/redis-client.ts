/** Redis Streams with ioredis: pipelined XADD; XREADGROUP, and one XACK for what came together. */
import { Redis } from 'ioredis';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight } from './in-flight.ts';
import type { PeerClient } from './peer-client.ts';

const PUBLISHES_IN_FLIGHT = 1_000;
const READ_COUNT = 500;
const BLOCK_MS = 1_000;

type Entries = [id: string, fields: string[]][];

export function openRedis({ host, port }: ServerAddress): PeerClient {
  const open: Redis[] = [];
  let isClosed = false;
  const connect = (): Redis => {
    const redis = new Redis({ host, port, enableAutoPipelining: true });
    redis.on('error', () => undefined);
    open.push(redis);
    return redis;
  };
  const main = connect();
  return {
    createTopic: async ({ name, groups }) => {
      for (const group of groups) await main.xgroup('CREATE', name, group, '0', 'MKSTREAM');
    },
    publisher: ({ name }) => {
      const inFlight = new InFlight(PUBLISHES_IN_FLIGHT);
      const add = (key: string, value: object) => main.xadd(name, '*', 'k', key, 'v', JSON.stringify(value));
      return Promise.resolve({
        publish: async ({ key, value }) => {
          await add(key, value);
        },
        offer: async (events) => {
          for (const { key, value } of events) {
            await inFlight.room();
            inFlight.add(add(key, value));
          }
        },
        flush: () => inFlight.empty(),
      });
    },
    subscribe: ({ name }, group, handler) => {
      const redis = connect();
      const member = `member-${open.length}`;
      const read = async (): Promise<void> => {
        while (!isClosed) {
          const found = await redis.xreadgroup(
            'GROUP',
            group,
            member,
            'COUNT',
            READ_COUNT,
            'BLOCK',
            BLOCK_MS,
            'STREAMS',
            name,
            '>',
          );
          const entries = (found as [string, Entries][] | null)?.[0]?.[1] ?? [];
          for (const [, fields] of entries) handler(JSON.parse(fields[3] as string) as object);
          if (entries.length > 0) await redis.xack(name, group, ...entries.map(([id]) => id));
        }
      };
      read().catch((error: unknown) => {
        if (!isClosed) console.error(`redis ${group}:`, error);
      });
      return Promise.resolve();
    },
    close: () => {
      isClosed = true;
      for (const redis of open) redis.disconnect();
      return Promise.resolve();
    },
  };
}
