/** A client process of a torture test: does what its task says until its standard input ends, or until it is killed. */
import { ClientRun } from './client-task.ts';
import type { ClientTask } from './client-task.ts';
import { tell } from './client-log.ts';

const task = JSON.parse(process.argv[2] ?? '') as ClientTask;
const run = new ClientRun(task);

/** Only what the role needs is loaded: clients are started often. */
async function play(): Promise<void> {
  switch (task.role) {
    case 'sdk-writer':
      return (await import('./sdk-clients.ts')).runSdkWriter(run);
    case 'sdk-pipeline':
      return (await import('./sdk-clients.ts')).runSdkPipeline(run);
    case 'sdk-poll-pipeline':
      return (await import('./sdk-clients.ts')).runSdkPollPipeline(run);
    case 'kafkajs-writer':
      return (await import('./kafka-clients.ts')).runKafkajsWriter(run);
    case 'kafkajs-pipeline':
      return (await import('./kafka-clients.ts')).runKafkajsPipeline(run);
    case 'librdkafka-writer':
      return (await import('./kafka-clients.ts')).runLibrdkafkaWriter(run);
  }
}

try {
  await play();
  process.exit(0);
} catch (error) {
  tell(['failure', error instanceof Error ? (error.stack ?? error.message) : String(error)]);
  process.exit(1);
}
