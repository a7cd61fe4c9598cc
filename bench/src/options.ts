/** The command line of the bench. */
import { parseArgs } from 'node:util';
import type { SdkSettings } from './scenario.ts';
import { comparisons } from './scenarios/comparisons.ts';

export const USAGE = `Usage: npm run bench [-- OPTIONS]

  --only NAME         a comparison or a scenario; may be given more than once
  --smoke             half a second each, once: shows that everything runs
  --seconds N         of one measurement (default 4)
  --repetitions N     of each scenario, in turn (default 3)
  --events N          that consumers read (default 400000)
  --stored-gib N      that a broker has at most when its start is measured (default 10)
  --data DIRECTORY    where brokers keep their data (default bench/results/local)
  --sdk JSON          settings of the SDK, such as '{"publisher":{"batchBytes":"256KiB"}}'
  --profile           writes CPU profiles and prints where the time went
  --record            writes bench/results/latest.json and latest.md, or those of what --only names

Comparisons and scenarios: ${comparisons
  .map(
    ({ name, subjects, limits }) => `${name} (${[...subjects, ...limits].map((scenario) => scenario.name).join(', ')})`,
  )
  .join('; ')}
`;

export interface BenchOptions {
  /** Names of comparisons or scenarios; all when empty. */
  readonly only: readonly string[];
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly repetitions: number;
  readonly consumedEvents: number;
  readonly storedBytes: number;
  readonly dataDirectory: string | undefined;
  readonly sdkSettings: SdkSettings;
  readonly profile: boolean;
  readonly record: boolean;
  readonly smoke: boolean;
}

/** @throws Error that says what is wrong with `argv`; null when help is wanted */
export function parseOptions(argv: readonly string[]): BenchOptions | null {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string', multiple: true, default: [] },
      smoke: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      repetitions: { type: 'string' },
      events: { type: 'string' },
      'stored-gib': { type: 'string' },
      data: { type: 'string' },
      sdk: { type: 'string', default: '{}' },
      profile: { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return null;
  const { smoke, only } = values;
  for (const name of only) checkName(name);
  const seconds = positive('seconds', values.seconds, smoke ? 0.5 : 4);
  return {
    only,
    smoke,
    seconds,
    warmUpSeconds: smoke ? 0.2 : Math.min(seconds, 1.5),
    repetitions: Math.ceil(positive('repetitions', values.repetitions, smoke ? 1 : 3)),
    consumedEvents: Math.ceil(positive('events', values.events, smoke ? 20_000 : 400_000)),
    storedBytes: positive('stored-gib', values['stored-gib'], smoke ? 0.02 : 10) * 1024 ** 3,
    dataDirectory: values.data,
    sdkSettings: sdkSettings(values.sdk),
    profile: values.profile,
    record: values.record,
  };
}

function sdkSettings(text: string): SdkSettings {
  try {
    return JSON.parse(text) as SdkSettings;
  } catch (error) {
    throw new Error(`--sdk: ${(error as Error).message}`, { cause: error });
  }
}

function positive(name: string, text: string | undefined, otherwise: number): number {
  const value = text === undefined ? otherwise : Number(text);
  if (value > 0 && Number.isFinite(value)) return value;
  throw new Error(`--${name}: expected a number above 0, got ${String(text)}`);
}

function checkName(name: string): void {
  const isKnown = comparisons.some(
    (comparison) =>
      comparison.name === name ||
      [...comparison.subjects, ...comparison.limits].some((scenario) => scenario.name === name),
  );
  if (!isKnown) throw new Error(`--only: there is no comparison or scenario ${name}; see --help`);
}
