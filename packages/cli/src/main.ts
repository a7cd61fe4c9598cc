/**
 * Entry of the `naru` command.
 */
import { runCommandLine } from './program.ts';
import { processTerminal } from './terminal.ts';

/**
 * Runs one command line in this process and ends it with the command's exit code.
 *
 * @param keepCode keeps for the next start what V8 has compiled; does nothing when it has
 */
export async function main(keepCode: () => void): Promise<never> {
  const exitCode = await runCommandLine(process.argv.slice(2), processTerminal(keepCode));
  keepCode();
  // Pipes may still hold what was written last; what is left otherwise (idle connections, an open stdin) is not waited for.
  await Promise.all(
    [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))),
  );
  process.exit(exitCode);
}
