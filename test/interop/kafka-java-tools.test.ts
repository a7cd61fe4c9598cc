/** Apache Kafka's own command line tools, and with them its Java clients. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, it, onTestFinished, describe } from 'vitest';
import { javaTool, javaToolsMissing } from './java-tools.ts';
import { KafkaTarget, numbered, unusedName } from './kafka-target.ts';
import type { PeerProcess } from './peer-process.ts';
import { peerIsMissing } from './peer.ts';

type Tool = Parameters<typeof javaTool>[0];

let target: KafkaTarget;
let topic: string;

beforeAll(async () => {
  target = await KafkaTarget.start({ defaultPartitions: 1, allowKeyReorder: true });
});

afterAll(() => target[Symbol.asyncDispose]());

beforeEach(() => {
  topic = unusedName('java');
});

function tool(name: Tool, args: readonly string[], input?: string): PeerProcess {
  return javaTool(name, ['--bootstrap-server', target.bootstrap, ...args], input);
}

async function temporaryDirectory(): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'naru-java-'));
  onTestFinished(() => rm(path, { recursive: true }));
  return path;
}

/** What a tool prints when it succeeds. */
function say(name: Tool, ...args: string[]): Promise<string> {
  return tool(name, args).succeeded();
}

const consumeAll = ['--from-beginning', '--timeout-ms', '15000'];

describe.skipIf(peerIsMissing("Apache Kafka's tools", javaToolsMissing))("Apache Kafka's tools", () => {
  it('kafka-topics creates, lists, describes, grows and deletes', async () => {
    await say('kafka-topics', '--create', '--topic', topic, '--partitions', '3', '--config', 'retention.ms=3600000');
    expect((await say('kafka-topics', '--list')).split('\n')).toContain(topic);
    const described = await say('kafka-topics', '--describe', '--topic', topic);
    expect(described).toMatch(/PartitionCount: 3\s+ReplicationFactor: 1\s+Configs: .*retention\.ms=3600000/);
    expect(described).toMatch(/Partition: 2\s+Leader: 1\s+Replicas: 1\s+Isr: 1/);
    await say('kafka-topics', '--alter', '--topic', topic, '--partitions', '5');
    expect(await say('kafka-topics', '--describe', '--topic', topic)).toContain('PartitionCount: 5');
    const again = tool('kafka-topics', ['--create', '--topic', topic]);
    expect(await again.ended()).not.toBe(0);
    expect(again.output + again.errors).toMatch(/already exists|exists already/);
    await say('kafka-topics', '--delete', '--topic', topic);
    expect((await say('kafka-topics', '--list')).split('\n')).not.toContain(topic);
  });

  it('kafka-console-producer and -consumer: each codec, keys, headers, timestamps', async () => {
    const codecs = ['none', 'gzip', 'snappy', 'lz4', 'zstd'];
    for (const codec of codecs) {
      const options = ['parse.key=true', 'parse.headers=true'].flatMap((property) => ['--property', property]);
      const lines = numbered(codec, 50).map((value, index) => `origin:here,n:${index}\tkey-${index}\t${value}`);
      const args = ['--topic', topic, '--compression-codec', codec, ...options];
      await tool('kafka-console-producer', args, `${lines.join('\n')}\n`).succeeded();
    }
    const show = ['print.key=true', 'print.headers=true', 'print.offset=true'].flatMap((it) => ['--property', it]);
    const end = ['--max-messages', '250'];
    const consumed = await say('kafka-console-consumer', '--topic', topic, ...show, ...consumeAll, ...end);
    const expected = codecs.flatMap((codec) => numbered(codec, 50).map((value, index) => ({ value, index })));
    expect(consumed.trimEnd().split('\n')).toEqual(
      expected.map(({ value, index }, offset) => `Offset:${offset}\torigin:here,n:${index}\tkey-${index}\t${value}`),
    );
  });

  it.each(['classic', 'consumer'])('a %s group reads, is described, reset and deleted', async (protocol) => {
    await tool('kafka-console-producer', ['--topic', topic], `${numbered('value', 10).join('\n')}\n`).succeeded();
    const group = ['--group', topic, '--consumer-property', `group.protocol=${protocol}`];
    const read = (count: number): Promise<string> =>
      say('kafka-console-consumer', '--topic', topic, ...group, ...consumeAll, '--max-messages', String(count));
    expect((await read(6)).trimEnd().split('\n')).toEqual(numbered('value', 6));
    const describe = (): Promise<string> => say('kafka-consumer-groups', '--group', topic, '--describe');
    // Topic, partition, current offset, log end offset, lag.
    expect(await describe()).toMatch(new RegExp(`${topic}\\s+0\\s+6\\s+10\\s+4\\s`));
    const reset = ['--group', topic, '--topic', topic, '--reset-offsets', '--to-offset', '8', '--execute'];
    expect(await say('kafka-consumer-groups', ...reset)).toMatch(/\s8\s/);
    expect((await read(2)).trimEnd().split('\n')).toEqual(['value-8', 'value-9']);
    expect((await say('kafka-consumer-groups', '--list')).split('\n')).toContain(topic);
    await say('kafka-consumer-groups', '--group', topic, '--delete');
    expect((await say('kafka-consumer-groups', '--list')).split('\n')).not.toContain(topic);
  });

  it('kafka-configs changes and shows settings of a topic; kafka-get-offsets and kafka-delete-records the log', async () => {
    await say('kafka-topics', '--create', '--topic', topic);
    const entity = ['--entity-type', 'topics', '--entity-name', topic];
    await say('kafka-configs', ...entity, '--alter', '--add-config', 'retention.ms=7200000,cleanup.policy=compact');
    const described = await say('kafka-configs', ...entity, '--describe');
    expect(described).toContain('retention.ms=7200000');
    expect(described).toContain('cleanup.policy=compact');
    await say('kafka-configs', ...entity, '--alter', '--delete-config', 'retention.ms,cleanup.policy');
    expect(await say('kafka-configs', ...entity, '--describe')).not.toContain('retention.ms=7200000');
    await tool('kafka-console-producer', ['--topic', topic], `${numbered('value', 10).join('\n')}\n`).succeeded();
    expect(await say('kafka-get-offsets', '--topic', topic)).toBe(`${topic}:0:10\n`);
    const file = join(await temporaryDirectory(), 'offsets.json');
    await writeFile(file, JSON.stringify({ version: 1, partitions: [{ topic, partition: 0, offset: 4 }] }));
    expect(await say('kafka-delete-records', '--offset-json-file', file)).toContain('low_watermark: 4');
    expect(await say('kafka-get-offsets', '--topic', topic, '--time', '-2')).toBe(`${topic}:0:4\n`);
  });

  it('kafka-broker-api-versions and kafka-cluster know the broker', async () => {
    const versions = await say('kafka-broker-api-versions');
    expect(versions).toContain(`${target.bootstrap} (id: 1 rack: null`);
    expect(versions).toMatch(/ConsumerGroupHeartbeat\(68\): 0 to 1 \[usable: 1\]/);
    expect(await javaTool('kafka-cluster', ['cluster-id', '--bootstrap-server', target.bootstrap]).succeeded()).toMatch(
      /^Cluster ID: \S+$/m,
    );
  });

  it('the idempotent producer of kafka-producer-perf-test and the checks of the verifiable clients', async () => {
    const properties = ['--producer-props', `bootstrap.servers=${target.bootstrap}`, 'linger.ms=1'];
    const load = ['--topic', topic, '--num-records', '20000', '--record-size', '200', '--throughput', '-1'];
    expect(await javaTool('kafka-producer-perf-test', [...load, ...properties]).succeeded()).toContain(
      '20000 records sent',
    );
    expect(await say('kafka-get-offsets', '--topic', topic)).toBe(`${topic}:0:20000\n`);
    const other = unusedName('java');
    const sent = await say('kafka-verifiable-producer', '--topic', other, '--max-messages', '500');
    expect(sent).toContain('"sent":500,"acked":500');
    const consumer = tool('kafka-verifiable-consumer', [
      '--topic',
      other,
      '--group-id',
      other,
      '--max-messages',
      '500',
    ]);
    expect(await consumer.succeeded()).toContain('"count":');
    expect(await say('kafka-consumer-groups', '--group', other, '--describe')).toMatch(/\s500\s+500\s+0\s/);
  });

  it('a record beyond the limit is refused with RecordTooLargeException', async () => {
    const big = ['--producer-property', 'max.request.size=4000000', '--max-block-ms', '10000'];
    const value = `${'x'.repeat(2_000_000)}\n`;
    const producer = tool('kafka-console-producer', ['--topic', topic, '--sync', ...big], value);
    await producer.ended();
    expect(producer.output + producer.errors).toContain('RecordTooLargeException');
  });
});
