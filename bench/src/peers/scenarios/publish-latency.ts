/** How long an awaited publish takes at a thousand a second, beside a bare write that is on the disk when it returns. */
import { p50Ms, p999Ms, p99Ms, serverCpuPercent } from '../figures.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import { subjectName } from '../peer-scenario.ts';
import type { PeerScenario, Subject } from '../peer-scenario.ts';
import { withOwnServers } from './subjects.ts';

const PER_SECOND = 1_000;
const WARM_UP_SECONDS = 1.5;
/** Between bare writes: with their own time about a thousand a second. */
const BARE_PAUSE_MS = 1;

const bare: Subject = { server: 'bare', durability: 'fsync', client: 'none', variant: 'O_DSYNC write of 4 KiB' };

const peers = withOwnServers([
  'platformatic',
  'librdkafka',
  'nats',
  'redis-streams',
  'rabbit-quorum',
  'rabbit-stream',
  'bullmq',
]);
const durablePeers = peers.filter(({ durability }) => durability === 'fsync');

export const publishLatency: PeerScenario = {
  name: 'publish-latency',
  title: 'Awaited publish of 1 KiB of JSON at 1,000 a second',
  what: 'From the call to the acknowledgement, publishes begun at a steady rate; Naru makes a checkpoint every four seconds meanwhile.',
  subjects: [...withOwnServers(['naru']), ...peers, bare],
  figures: [p99Ms, p50Ms, p999Ms, serverCpuPercent],
  targets: [
    {
      subject: 'naru fsync',
      peer: subjectName(bare),
      what: 'p99 at most twice that of the bare write plus 1 ms',
      figure: p99Ms.name,
      atLeast: 0.5,
      allowance: 1,
    },
    ...durablePeers.map((peer) => ({
      subject: 'naru fsync',
      peer: subjectName(peer),
      what: 'p99 at most that of every durable peer',
      figure: p99Ms.name,
      atLeast: 1,
    })),
  ],
  frequentCheckpoints: true,
  warmUps: 1,
  run: async (run) => {
    const { seconds } = run.settings;
    if (run.subject.server === 'bare') {
      const disk = await run.start('disk', { directory: await run.directory() }, 'disk');
      await disk.call('smallWrites', { seconds: WARM_UP_SECONDS, pauseMs: BARE_PAUSE_MS });
      return run.measure(() => disk.call('smallWrites', { seconds: seconds * run.share, pauseMs: BARE_PAUSE_MS }));
    }
    const client = run.subject.client as ClientName;
    const topic = { name: run.nextTopic(), partitions: 6, groups: ['group'], kind: 'log' } as const;
    const sender = await run.start('peer-sender', { client, address: run.server.address, topic }, 'sender');
    await sender.call('paced', { seconds: WARM_UP_SECONDS, perSecond: PER_SECOND });
    return run.measure(() => sender.call('paced', { seconds: seconds * run.share, perSecond: PER_SECOND }));
  },
};
