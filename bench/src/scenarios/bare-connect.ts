/** Bare streams with connect: the same bytes in the same messages, with nothing behind them. */
import type { Scenario, ScenarioRun } from '../scenario.ts';
import { PACED_PER_SECOND } from './end-to-end.ts';

export const connectUp: Scenario = {
  name: 'bare-connect-up',
  what: 'bare connect stream, client to server',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { client } = await openPair(bench);
    await client.call('send', { seconds: warmUpSeconds });
    return bench.measure(() => client.call('send', { seconds }));
  },
};

export const connectDown: Scenario = {
  name: 'bare-connect-down',
  what: 'bare connect stream, server to client',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { client } = await openPair(bench);
    await client.call('start');
    await client.call('during', { seconds: warmUpSeconds });
    return bench.measure(() => client.call('during', { seconds }));
  },
};

export const connectRelay: Scenario = {
  name: 'bare-connect-relay',
  what: 'bare connect streams, through a server that passes on',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { client, receiver } = await openRelay(bench);
    const { events: warmUp } = await client.call('send', { seconds: warmUpSeconds });
    await receiver.call('until', { events: warmUp });
    return bench.measure(async () => {
      const startMs = performance.now();
      const { events, bytes } = await client.call('send', { seconds });
      await receiver.call('until', { events: warmUp + events });
      return { events, bytes, seconds: (performance.now() - startMs) / 1_000 };
    });
  },
};

export const connectRelayLatency: Scenario = {
  name: 'bare-relay-latency',
  what: 'bare connect streams, through a server that passes on',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const { client, receiver } = await openRelay(bench);
    const paced = (duration: number) => ({ seconds: duration, perSecond: PACED_PER_SECOND });
    const { events: warmUp } = await client.call('sendPaced', paced(warmUpSeconds));
    await receiver.call('until', { events: warmUp });
    await receiver.call('takeLatency');
    return bench.measure(async () => {
      const sent = await client.call('sendPaced', paced(seconds));
      await receiver.call('until', { events: warmUp + sent.events });
      return { ...sent, latency: await receiver.call('takeLatency') };
    });
  },
};

async function openPair(bench: ScenarioRun) {
  const server = await bench.start('connect-server', { relay: false }, 'server');
  return { server, client: await bench.start('connect-client', server.ready, 'client') };
}

async function openRelay(bench: ScenarioRun) {
  const server = await bench.start('connect-server', { relay: true }, 'server');
  const client = await bench.start('connect-client', server.ready, 'client');
  const receiver = await bench.start('connect-client', server.ready, 'receiver');
  await receiver.call('start');
  return { server, client, receiver };
}
