/**
 * Entry of the `naru` command: runs one command line in this process and ends it with the command's exit code.
 */
import { runCommandLine } from './program.ts';
import { processTerminal } from './terminal.ts';

const exitCode = await runCommandLine(process.argv.slice(2), processTerminal);
// Pipes may still hold what was written last; what is left otherwise (idle connections, an open stdin) is not waited for.
await Promise.all(
  [process.stdout, process.stderr].map((stream) => new Promise((resolve) => stream.write('', resolve))),
);
process.exit(exitCode);
