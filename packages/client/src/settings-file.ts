/**
 * Finds and reads settings: defaults, then naru.yaml, then its section for the environment that is chosen, then variables, then
 * what the program passes. Errors say where: file, line and column, or the variable.
 *
 * A `broker` section in naru.yaml is the broker's and is not looked at here.
 */
import { dirname, resolve } from 'node:path';
import { parseSettings as parse, readSettingsFile, settingsFrom } from '@naru/protocol/settings-node';
import type { Environment, SettingsSpec, SettingsTree, SettingsVariables } from '@naru/protocol/settings-node';
import { settingsSchema } from './settings.ts';
import type { Settings, SettingsInput } from './settings.ts';

export const DEFAULT_SETTINGS_FILE = 'naru.yaml';

/** Environment variables, and the setting that each overrides. */
const VARIABLES: SettingsVariables = {
  NARU_BROKERS: {
    path: ['brokers'],
    parse: (text) =>
      text
        .split(',')
        .map((part) => part.trim())
        .filter((part) => part !== ''),
  },
  NARU_CLIENT_ID: { path: ['clientId'], parse: String },
  NARU_CATALOG: { path: ['catalog'], parse: String },
  NARU_ENV: { path: ['environment'], parse: String },
  NARU_CONNECT_TIMEOUT: { path: ['connectTimeoutMs'], parse: String },
  NARU_REQUEST_TIMEOUT: { path: ['requestTimeoutMs'], parse: String },
  NARU_PUBLISHER_LINGER: { path: ['publisher', 'lingerMs'], parse: String },
  NARU_PUBLISHER_BATCH_BYTES: { path: ['publisher', 'batchBytes'], parse: String },
  NARU_PUBLISHER_BUFFER_BYTES: { path: ['publisher', 'bufferBytes'], parse: String },
  NARU_PUBLISHER_COMPRESSION: { path: ['publisher', 'compression'], parse: String },
  NARU_PUBLISHER_DELIVERY_TIMEOUT: { path: ['publisher', 'deliveryTimeoutMs'], parse: String },
  NARU_PUBLISHER_TRANSACTION_ID: { path: ['publisher', 'transaction', 'id'], parse: String },
  NARU_SUBSCRIBER_CONCURRENCY: { path: ['subscriber', 'concurrency'], parse: Number },
  NARU_SUBSCRIBER_POLL_WAIT: { path: ['subscriber', 'pollWaitMs'], parse: String },
};

const SPEC: SettingsSpec<typeof settingsSchema> = {
  schema: settingsSchema,
  variables: VARIABLES,
  ignoredSections: ['broker'],
};

/**
 * @param source settings; the path of a YAML file, which must exist; or nothing for naru.yaml in the working directory
 *   (or the file that NARU_CONFIG names), if there is one
 * @throws NaruError INVALID_CONFIGURATION
 */
export async function loadSettings(
  source?: SettingsInput | string,
  environment: Environment = process.env,
): Promise<Settings> {
  if (source !== undefined && typeof source !== 'string') {
    return settingsFrom(SPEC, source as SettingsTree, environment);
  }
  const named = source ?? environment['NARU_CONFIG'];
  const file = named ?? DEFAULT_SETTINGS_FILE;
  const text = await readSettingsFile(file, named !== undefined);
  if (text === undefined) return settingsFrom(SPEC, {}, environment);
  const settings = parseSettings(text, file, environment);
  if (settings.catalog === null || environment['NARU_CATALOG']) return settings;
  return { ...settings, catalog: resolve(dirname(file), settings.catalog) };
}

/** Settings of a YAML text, overlaid with the environment. `file` is for messages. */
export function parseSettings(text: string, file: string, environment: Environment = {}): Settings {
  return parse(SPEC, text, file, environment);
}
