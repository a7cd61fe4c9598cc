/** A broker in a process of its own. */
import { setFlagsFromString } from 'node:v8';
import { Broker } from '@naru/broker';

/** The memory storage is measured as it runs for long: in the memory of events that are gone. */
const MEMORY = {
  log: { segmentBytes: '8MiB' },
  retention: { partitionBytes: '32MiB', checkIntervalMs: '100ms' },
} as const;

export interface BrokerOptions {
  readonly storage: 'file' | 'memory';
  /** Of the file storage. */
  readonly data: string;
  /** Default: any free one. */
  readonly port?: number | undefined;
  /** Whether what became of events is registered. Default: yes. */
  readonly ledger?: boolean | undefined;
}

// As `naru start` does (packages/cli/src/commands/start.ts); its other flag is one of every process of the bench.
setFlagsFromString('--heap-growing-percent=100');

export async function openBroker({ storage, data, port = 0, ledger = true }: BrokerOptions) {
  const logging = { ledger: { use: ledger } };
  const settings = { storage, data, port, logLevel: 'warn', logging } as const;
  const broker = await Broker.start(storage === 'memory' ? { ...settings, ...MEMORY } : settings);
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
