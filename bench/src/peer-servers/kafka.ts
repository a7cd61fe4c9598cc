/** Apache Kafka: one node in KRaft mode, broker and controller, with the settings of its own server.properties and JVM options. */
import { randomBytes } from 'node:crypto';
import { execFile } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { LOOPBACK, freePorts } from './free-ports.ts';
import { HOW_TO_FETCH, cached, output } from './peer-cache.ts';
import type { PlanOptions, ServerKind, ServerPlan } from './server-kind.ts';

/** Those of kafka-server-start.sh and kafka-run-class.sh. */
const JVM = '-Xmx1G -Xms1G -server -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35'.split(
  ' ',
);
const JVM_MORE = ['-XX:+ExplicitGCInvokesConcurrent', '-Djava.awt.headless=true'];

export const kafka: ServerKind = {
  name: 'kafka',
  durabilities: ['fsync', 'no-fsync'],
  missing: () => {
    if (output('java', ['-version']) === null) return 'java is not installed (Debian: openjdk-17-jre-headless)';
    return cached('java-tools') === null ? `Kafka's jars are not there: ${HOW_TO_FETCH}` : null;
  },
  version: () => `${cached('java-tools')?.version}, ${output('java', ['-version'])?.split('\n')[0]}`,
  plan,
};

/** Kafka's jars, server and tools alike. */
export function kafkaClassPath(): string {
  return join(cached('java-tools')?.path ?? '', '*');
}

async function plan({ durability, directory }: PlanOptions): Promise<ServerPlan> {
  const [port = 0, controllerPort = 0] = await freePorts(2);
  const properties = {
    'process.roles': 'broker,controller',
    'node.id': '1',
    'controller.quorum.voters': `1@${LOOPBACK}:${controllerPort}`,
    'controller.listener.names': 'CONTROLLER',
    listeners: `PLAINTEXT://${LOOPBACK}:${port},CONTROLLER://${LOOPBACK}:${controllerPort}`,
    'listener.security.protocol.map': 'CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT',
    'log.dirs': join(directory, 'logs'),
    'num.network.threads': '3',
    'num.io.threads': '8',
    'socket.send.buffer.bytes': '102400',
    'socket.receive.buffer.bytes': '102400',
    'offsets.topic.replication.factor': '1',
    'transaction.state.log.replication.factor': '1',
    'transaction.state.log.min.isr': '1',
    'share.coordinator.state.topic.replication.factor': '1',
    'share.coordinator.state.topic.min.isr': '1',
    'group.initial.rebalance.delay.ms': '0',
    ...(durability === 'fsync' ? { 'log.flush.interval.messages': '1' } : {}),
  };
  const configuration = Object.entries(properties)
    .map(([name, value]) => `${name}=${value}`)
    .join('\n');
  const file = join(directory, 'server.properties');
  const classPath = kafkaClassPath();
  return {
    address: { host: LOOPBACK, port },
    launch: { command: 'java', args: [...JVM, ...JVM_MORE, '-cp', classPath, 'kafka.Kafka', file], env: {} },
    configuration,
    prepare: async () => {
      await writeFile(file, configuration);
      // One that begins with a minus would be taken for an option.
      const clusterId = `N${randomBytes(16).toString('base64url').slice(1)}`;
      const format = ['-cp', classPath, 'kafka.tools.StorageTool', 'format', '-t', clusterId, '-c', file];
      await promisify(execFile)('java', format);
    },
  };
}
