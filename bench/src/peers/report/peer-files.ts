/** Where results are kept: a JSON file and a plot for each scenario, and one page of all that are there. */
import { mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { chartOf, pageOf } from './peer-report.ts';
import type { RecordedScenario } from './peer-report.ts';

const PAGE = 'README.md';

/** @param order names of scenarios, as the page has them */
export async function writeScenario(
  directory: string,
  recorded: RecordedScenario,
  order: readonly string[],
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const path = join(directory, `${recorded.name}.json`);
  await writeFile(path, `${JSON.stringify(recorded, null, 1)}\n`);
  await writeFile(join(directory, `${recorded.name}.svg`), chartOf(recorded));
  const all: RecordedScenario[] = [];
  for (const name of (await readdir(directory)).filter((file) => file.endsWith('.json'))) {
    all.push(JSON.parse(await readFile(join(directory, name), 'utf8')) as RecordedScenario);
  }
  all.sort((a, b) => order.indexOf(a.name) - order.indexOf(b.name));
  await writeFile(join(directory, PAGE), pageOf(all));
  return path;
}
