/** Bare streams of node:http2: the same bytes without any messages. */
import type { Scenario, ScenarioRun } from '../scenario.ts';

function http2(name: string, what: string, command: 'send' | 'receive'): Scenario {
  return {
    name,
    what,
    async run(bench) {
      const { seconds, warmUpSeconds } = bench.settings;
      const client = await openPair(bench);
      await client.call(command, { seconds: warmUpSeconds });
      return bench.measure(() => client.call(command, { seconds }));
    },
  };
}

async function openPair(bench: ScenarioRun) {
  const server = await bench.start('http2-server', undefined, 'server');
  return bench.start('http2-client', server.ready, 'client');
}

export const http2Up = http2('bare-http2-up', 'bare node:http2 stream, client to server', 'send');
export const http2Down = http2('bare-http2-down', 'bare node:http2 stream, server to client', 'receive');
