/** Kafka's own producer-perf-test and consumer-perf-test, as its scripts run them. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import type { LoadResult } from '../measurement.ts';
import { kafkaClassPath } from '../peer-servers/kafka.ts';
import type { ServerAddress } from '../peer-servers/server-kind.ts';

const JVM = ['-Xmx512M', '-server', '-XX:+UseG1GC', '-XX:MaxGCPauseMillis=20', '-Djava.awt.headless=true'];
const TOOLS = 'org.apache.kafka.tools';
const MIB = 1024 * 1024;
const NUMBER = '([\\d.,]+)';
const SENT = new RegExp(
  `(\\d+) records sent, ${NUMBER} records/sec .*?${NUMBER} ms avg latency, ${NUMBER} ms max latency, (\\d+) ms 50th, (\\d+) ms 95th, (\\d+) ms 99th, (\\d+) ms 99\\.9th`,
  'g',
);

export interface PerfOptions {
  readonly address: ServerAddress;
  readonly topic: string;
  readonly events: number;
}

export async function producePerf(options: PerfOptions & { readonly recordBytes: number }): Promise<LoadResult> {
  const { address, topic, events, recordBytes } = options;
  const size = ['--num-records', String(events), '--record-size', String(recordBytes), '--throughput', '-1'];
  const properties = ['--producer-props', `bootstrap.servers=${address.host}:${address.port}`, 'acks=all'];
  const said = await tool('ProducerPerformance', ['--topic', topic, ...size, ...properties]);
  // The last one is the summary; those before are of some seconds each.
  const summary = [...said.matchAll(SENT)].at(-1);
  if (summary === undefined || Number(summary[1]) !== events) throw new Error(`producer-perf-test said:\n${said}`);
  const [, , perSecond, , max, p50, , p99, p999] = summary.map(Number);
  const latency = { count: events, p50: p50 ?? 0, p99: p99 ?? 0, p999: p999 ?? 0, max: max ?? 0 };
  return { events, bytes: events * recordBytes, seconds: events / (perSecond ?? 0), latency };
}

/** The time is that of fetching; how long the group took to come together is in the notes. */
export async function consumePerf({ address, topic, events }: PerfOptions, group: string): Promise<LoadResult> {
  const bootstrap = ['--bootstrap-server', `${address.host}:${address.port}`, '--group', group];
  const said = await tool('ConsumerPerformance', ['--topic', topic, '--messages', String(events), ...bootstrap]);
  const line = said.split('\n').findLast((one) => /^\d{4}-/.test(one));
  // start.time, end.time, data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, …
  const [, , mib = 0, , count = 0, , rebalanceMs = 0, fetchMs = 0] = (line ?? '').split(',').map(Number);
  if (count < events) throw new Error(`consumer-perf-test said:\n${said}`);
  return { events: count, bytes: mib * MIB, seconds: fetchMs / 1_000, notes: { rebalanceMs } };
}

async function tool(name: string, args: readonly string[]): Promise<string> {
  const { stdout, stderr } = await promisify(execFile)(
    'java',
    [...JVM, '-cp', kafkaClassPath(), `${TOOLS}.${name}`, ...args],
    {
      maxBuffer: 16 * MIB,
    },
  );
  return `${stdout}${stderr}`;
}
