/** BullMQ on Redis: a job for each event, removed when it is done. One group only: a job is done once. */
import { Queue, Worker } from 'bullmq';
import type { ServerAddress } from '../peer-servers/server-kind.ts';
import { InFlight } from './in-flight.ts';
import type { PeerClient } from './peer-client.ts';

const BULKS_IN_FLIGHT = 4;
const CONCURRENCY = 100;
const JOB_OPTIONS = { removeOnComplete: true, removeOnFail: true };
const JOB_NAME = 'event';

export function openBullmq({ host, port }: ServerAddress): PeerClient {
  const connection = { host, port, maxRetriesPerRequest: null };
  const open: { close(): Promise<void> }[] = [];
  return {
    createTopic: () => Promise.resolve(),
    publisher: ({ name }) => {
      const queue = new Queue(name, { connection, defaultJobOptions: JOB_OPTIONS });
      open.unshift(queue);
      const inFlight = new InFlight(BULKS_IN_FLIGHT);
      return Promise.resolve({
        publish: async ({ value }) => {
          await queue.add(JOB_NAME, value);
        },
        offer: async (events) => {
          await inFlight.room();
          inFlight.add(queue.addBulk(events.map(({ value }) => ({ name: JOB_NAME, data: value }))));
        },
        flush: () => inFlight.empty(),
      });
    },
    subscribe: async ({ name }, _group, handler) => {
      const work = (job: { data: object }): Promise<void> => {
        handler(job.data);
        return Promise.resolve();
      };
      const worker = new Worker<object>(name, work, { connection, concurrency: CONCURRENCY });
      open.unshift({ close: () => worker.close(true) });
      worker.on('error', (error) => console.error('bullmq:', error));
      await worker.waitUntilReady();
    },
    close: async () => {
      for (const one of open) await one.close();
    },
  };
}
