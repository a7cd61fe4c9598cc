/**
 * The command line: which commands there are, and what exit code a run ends with: 0 done, 1 failed, 2 not understood.
 *
 * The commands import what is expensive (SDK, broker, tables) when they run, so that help and usage errors are quick.
 */
import { Command, CommanderError } from 'commander';
import packageJson from '../package.json' with { type: 'json' };
import { CommandFailure } from './command-failure.ts';
import { addCatalogCommand } from './commands/catalog.ts';
import { addCompletionCommand } from './commands/completion.ts';
import { addConsumeCommand } from './commands/consume.ts';
import { addDlqCommand } from './commands/dlq.ts';
import { addDoctorCommand } from './commands/doctor.ts';
import { addGroupCommand } from './commands/group.ts';
import { addPublishCommand } from './commands/publish.ts';
import { addSchemaCommand } from './commands/schema.ts';
import { addStartCommand } from './commands/start.ts';
import { addTopicCommand } from './commands/topic.ts';
import { addTraceCommand } from './commands/trace.ts';
import { addTransactionCommand } from './commands/transaction.ts';
import { reportError } from './output/error-report.ts';
import type { Terminal } from './terminal.ts';

const EXIT_DONE = 0;
const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/**
 * Runs one command. Never rejects: what goes wrong is said on stderr.
 *
 * @param args without node and script
 * @returns the exit code
 */
export async function runCommandLine(args: readonly string[], terminal: Terminal): Promise<number> {
  // Who reads us may go away (`| head`). Writers learn of it from their own callbacks.
  terminal.stdout.on('error', () => {});
  terminal.stderr.on('error', () => {});
  let isJsonAsked = false;
  const program = createProgram(terminal).hook('preAction', (_program, command) => {
    isJsonAsked = command.opts()['output'] === 'json' && command.getOptionValueSource('output') === 'cli';
  });
  try {
    await program.parseAsync(args, { from: 'user' });
    return EXIT_DONE;
  } catch (error) {
    // Commander has said what was wrong.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT_DONE : EXIT_USAGE;
    if (error instanceof CommandFailure) return error.exitCode;
    reportError(terminal, error, isJsonAsked);
    return EXIT_FAILED;
  }
}

export function createProgram(terminal: Terminal): Command {
  const program = new Command('naru')
    .description('Event broker: events by key, kept in order, stored before they are acknowledged.')
    .version(packageJson.version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'show help')
    .helpCommand('help [command]', 'show help for a command')
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
    .showSuggestionAfterError()
    .configureHelp({ sortSubcommands: false, showGlobalOptions: false });
  addStartCommand(program, terminal);
  addTopicCommand(program, terminal);
  addPublishCommand(program, terminal);
  addConsumeCommand(program, terminal);
  addGroupCommand(program, terminal);
  addCatalogCommand(program, terminal);
  addSchemaCommand(program, terminal);
  addTraceCommand(program, terminal);
  addDlqCommand(program, terminal);
  addTransactionCommand(program, terminal);
  addDoctorCommand(program, terminal);
  addCompletionCommand(program, terminal);
  program.addHelpText('after', EPILOGUE);
  return program;
}

const EPILOGUE = `
Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 not understood.
Settings come from naru.yaml in the working directory, then the environment (NARU_BROKERS, …), then options.

  naru start                                             a broker on 127.0.0.1:9092, data in ./naru-data
  naru topic create orders --partitions 6
  naru publish orders --key o-1 --value '{"total": 5}'
  naru consume orders --group billing                    one JSON object a line`;
