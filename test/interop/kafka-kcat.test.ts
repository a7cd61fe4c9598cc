/** kcat, with the librdkafka of its Debian package: older than the one that librdkafka.ts builds, and at the classic protocol. */
import { afterAll, beforeAll, beforeEach, expect, it, describe } from 'vitest';
import { KafkaTarget, numbered, unusedName } from './kafka-target.ts';
import { PeerProcess } from './peer-process.ts';
import { commandWorks, peerIsMissing } from './peer.ts';

const missing = commandWorks('kcat', '-V') ? null : 'kcat is not installed (Debian: kcat)';

let target: KafkaTarget;
let topic: string;

beforeAll(async () => {
  target = await KafkaTarget.start({ defaultPartitions: 1 });
});

afterAll(() => target[Symbol.asyncDispose]());

beforeEach(() => {
  topic = unusedName('kcat');
});

function kcat(args: readonly string[], input: string | null = ''): PeerProcess {
  return new PeerProcess('kcat', ['-b', target.bootstrap, '-u', ...args], input);
}

async function produce(lines: readonly string[], ...args: string[]): Promise<void> {
  await kcat(['-P', '-t', topic, ...args], lines.join('\n')).succeeded();
}

/** Lines that `-C` prints from an offset to the end. */
async function consume(...args: string[]): Promise<string[]> {
  const output = await kcat(['-C', '-t', topic, '-e', ...args]).succeeded();
  return output.split('\n').filter((line) => line !== '');
}

describe.skipIf(peerIsMissing('kcat', missing))('kcat', () => {
  it.each(['none', 'gzip', 'snappy', 'lz4', 'zstd'])('-P and -C with %s: keys, values and headers', async (codec) => {
    const lines = numbered('value', 300).map((value, index) => `key-${index % 5}:${value}`);
    await produce(lines, '-K:', '-z', codec, '-H', 'origin=here', '-H', 'empty=', '-p', '0');
    const consumed = await consume('-f', '%o %h %k:%s\n');
    expect(consumed).toEqual(lines.map((line, offset) => `${offset} origin=here,empty= ${line}`));
  });

  it('-C reads from an offset inside a batch, from the end backwards, and from a timestamp', async () => {
    await produce(numbered('first', 10));
    await produce(numbered('second', 10));
    expect(await consume('-o', '7', '-c', '2')).toEqual(['first-7', 'first-8']);
    expect(await consume('-o', '-3')).toEqual(['second-7', 'second-8', 'second-9']);
    const stamped = (await consume('-f', '%T %s\n')).map((line) => line.split(' ') as [string, string]);
    const [from] = stamped.find(([, value]) => value === 'second-0') as [string, string];
    const expected = stamped.filter(([timestamp]) => timestamp >= from).map(([, value]) => value);
    expect(await consume('-o', `s@${from}`)).toEqual(expected);
    // What comes after every record is the end.
    expect(await consume('-o', `s@${Number(from) + 3_600_000}`)).toEqual([]);
    const answer = await kcat(['-Q', '-t', `${topic}:0:${from}`]).succeeded();
    expect(answer).toContain(`${topic} [0] offset ${20 - expected.length}`);
  });

  it('-L shows the broker and every topic with its leader', async () => {
    await produce(['value']);
    const listed = await kcat(['-L']).succeeded();
    expect(listed).toContain(`broker 1 at ${target.bootstrap}`);
    expect(listed).toContain(`topic "${topic}" with 1 partitions`);
    expect(listed).toContain('partition 0, leader 1, replicas: 1, isrs: 1');
  });

  it('-G shares a topic in a group, and goes on where the group was', async () => {
    await produce(numbered('first', 20));
    const group = ['-G', topic, '-X', 'auto.offset.reset=earliest', '-X', 'session.timeout.ms=6000', topic];
    const member = kcat([...group], null);
    await member.until(() => expect(member.lines).toEqual(numbered('first', 20)));
    // Leaves its group, having committed.
    await member.kill('SIGTERM');
    await produce(numbered('second', 5));
    const next = kcat([...group], null);
    await next.until(() => expect(next.lines).toEqual(numbered('second', 5)));
    // Killed: it neither commits nor leaves, and its session has to end first.
    await next.kill('SIGKILL');
    const last = kcat([...group], null);
    await last.until(() => expect(last.lines).toEqual(numbered('second', 5)));
    await last.kill();
  });

  it('an oversized message is refused by the broker as Kafka does', async () => {
    const producer = kcat(['-P', '-t', topic, '-X', 'message.max.bytes=3000000'], 'x'.repeat(2_000_000));
    expect(await producer.ended()).not.toBe(0);
    expect(producer.errors).toContain('Message size too large');
  });
});
