/** From SIGKILL under load to the first acknowledgement. */
import { noted } from '../figures.ts';
import { EVENT_BYTES } from '../../peer-load/sample-events.ts';
import type { ClientName } from '../../peer-clients/clients.ts';
import type { TopicSpec } from '../../peer-clients/peer-client.ts';
import type { PeerScenario } from '../peer-scenario.ts';
import { withOwnServers } from './subjects.ts';

const LOAD_MS = 1_500;

export const recovery: PeerScenario = {
  name: 'recovery',
  title: 'Recovery after SIGKILL under load',
  what: 'From starting the process again to the first acknowledgement; the server has what the rounds before have stored, the first time as much as `--stored-gib` says. The operating system lives on: nothing of what it had is lost.',
  subjects: withOwnServers(['naru', 'platformatic', 'nats', 'redis-streams', 'rabbit-quorum', 'rabbit-stream']),
  figures: [noted('to first ack ms', 'firstAckMs', 0), noted('to listening ms', 'listeningMs', 0)],
  targets: [],
  warmUps: 0,
  prepare: async (run) => {
    const topic: TopicSpec = { name: run.nextTopic(), partitions: 6, groups: ['group'], kind: 'log' };
    const client = run.subject.client as ClientName;
    const sender = await run.start('peer-sender', { client, address: run.server.address, topic }, 'sender');
    await sender.call('pump', { events: Math.ceil(run.settings.storedBytes / EVENT_BYTES) });
  },
  run: async (run) => {
    const { server } = run;
    const client = run.subject.client as ClientName;
    const topic: TopicSpec = { name: run.nextTopic(), partitions: 6, groups: ['group'], kind: 'log' };
    const sender = await run.start('peer-sender', { client, address: server.address, topic }, 'sender');
    const load = sender.call('pumpUntilFailure', { seconds: (LOAD_MS * 2) / 1_000 }).catch(() => 0);
    await new Promise((resolve) => setTimeout(resolve, LOAD_MS));
    const probe = await run.start('peer-probe', { client, topic }, 'probe');
    await server.kill();
    await load;
    await sender.kill();
    const startMs = performance.now();
    const listening = server.restart();
    await probe.call('firstAck', server.address);
    const firstAckMs = performance.now() - startMs;
    const listeningMs = await listening;
    await run.endRound();
    const notes = { firstAckMs, listeningMs };
    return run.measure(() => Promise.resolve({ events: 1, bytes: EVENT_BYTES, seconds: firstAckMs / 1_000, notes }));
  },
};
