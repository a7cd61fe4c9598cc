/** A broker in a process of its own. */
import { Broker } from '@naru/broker';

/** The memory storage keeps everything: several seconds of publishing have to fit. */
const MEMORY_BYTES = '6GiB';

export interface BrokerOptions {
  readonly storage: 'file' | 'memory';
  /** Of the file storage. */
  readonly data: string;
  /** Default: any free one. */
  readonly port?: number | undefined;
  /** Whether what became of events is registered. Default: yes. */
  readonly ledger?: boolean | undefined;
}

export async function openBroker({ storage, data, port = 0, ledger = true }: BrokerOptions) {
  const logging = { ledger: { use: ledger } };
  const log = { memoryBytes: MEMORY_BYTES };
  const broker = await Broker.start({ storage, data, port, logLevel: 'warn', log, logging });
  const failed = broker.failed.then((error) => {
    throw error;
  });
  failed.catch((error: unknown) => console.error('the broker failed:', error));
  return {
    ready: { bootstrap: broker.bootstrap, port: broker.address.port },
    commands: {
      /** Everything on /metrics that has a value and no labels. */
      metrics: () => readMetrics(`http://${broker.bootstrap}/metrics`),
    },
    close: () => broker.close(),
  };
}

async function readMetrics(url: string): Promise<Record<string, number>> {
  const text = await (await fetch(url)).text();
  const found: Record<string, number> = {};
  for (const line of text.split('\n')) {
    const match = /^(\w+) (\S+)$/.exec(line);
    if (match !== null) found[match[1] as string] = Number(match[2]);
  }
  return found;
}
