/** Whether a broker of this version would take the settings of a catalog's topics, before anything is changed. */
import type { Catalog } from '@naru/client';
import { isNaruError, NaruError } from '@naru/protocol';

/** @throws NaruError INVALID_CONFIGURATION with a line for each topic whose settings are wrong */
export async function checkTopicSettings(catalog: Catalog): Promise<void> {
  const { checkTopicConfig } = await import('@naru/broker');
  const problems: string[] = [];
  for (const { name, config, events } of catalog.topics.values()) {
    try {
      checkTopicConfig(config);
    } catch (error) {
      if (!isNaruError(error)) throw error;
      problems.push(`${events[0]?.place}: topic ${name}: ${error.message}`);
    }
  }
  if (problems.length > 0) throw new NaruError('INVALID_CONFIGURATION', problems.join('\n'));
}
