/** Apache Kafka's command line tools: `java -cp … org.apache.kafka.tools.…`, which is what its scripts run. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { PeerProcess } from './peer-process.ts';
import { PEER_CACHE, commandWorks } from './peer.ts';

const pom = readFileSync(join(import.meta.dirname, 'java-tools/pom.xml'), 'utf8');
const jars = join(PEER_CACHE, `java-tools-${/<version>(\d+\.[\d.]+)</.exec(pom)?.[1]}`);

const PACKAGE = 'org.apache.kafka.tools';
/** The tools by the names of their scripts. */
const tools = {
  'kafka-topics': `${PACKAGE}.TopicCommand`,
  'kafka-configs': 'kafka.admin.ConfigCommand',
  'kafka-console-producer': `${PACKAGE}.ConsoleProducer`,
  'kafka-console-consumer': `${PACKAGE}.consumer.ConsoleConsumer`,
  'kafka-consumer-groups': `${PACKAGE}.consumer.group.ConsumerGroupCommand`,
  'kafka-get-offsets': `${PACKAGE}.GetOffsetShell`,
  'kafka-delete-records': `${PACKAGE}.DeleteRecordsCommand`,
  'kafka-broker-api-versions': `${PACKAGE}.BrokerApiVersionsCommand`,
  'kafka-cluster': `${PACKAGE}.ClusterTool`,
  'kafka-producer-perf-test': `${PACKAGE}.ProducerPerformance`,
  'kafka-verifiable-producer': `${PACKAGE}.VerifiableProducer`,
  'kafka-verifiable-consumer': `${PACKAGE}.VerifiableConsumer`,
  'kafka-transactions': `${PACKAGE}.TransactionsCommand`,
  // Without a script: Kafka's own system tests run it.
  'transactional-message-copier': `${PACKAGE}.TransactionalMessageCopier`,
} as const;

/** Starting takes most of a tool's time: no second compiler, and the heap small. */
const jvm = ['-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xshare:auto', '-Xmx256m'];

/** Why there are none; null when there are. */
export const javaToolsMissing = !commandWorks('java', '-version')
  ? 'java is not installed (Debian: openjdk-17-jre-headless)'
  : !existsSync(jars)
    ? `${jars} is not there: run test/interop/java-tools/resolve.sh`
    : null;

/** @param input its standard input; null leaves it open */
export function javaTool(tool: keyof typeof tools, args: readonly string[], input: string | null = ''): PeerProcess {
  return new PeerProcess('java', [...jvm, '-cp', join(jars, '*'), tools[tool], ...args], input);
}
