/** The command line as completion sees it: commands, options and what can follow them, from the program itself. */
import type { Command, Option } from 'commander';

export interface CommandNode {
  /** The words that lead here, the program's own name first. */
  readonly path: readonly string[];
  readonly description: string;
  readonly commands: readonly CommandNode[];
  readonly options: readonly OptionNode[];
  /** What can stand in place of its arguments; empty: nothing is known. */
  readonly argumentChoices: readonly string[];
}

export interface OptionNode {
  /** Such as `-o` and `--output`. */
  readonly flags: readonly string[];
  readonly description: string;
  readonly takesValue: boolean;
  /** Values that can be completed; empty: none are known. */
  readonly choices: readonly string[];
  /** Its value is a path. */
  readonly takesPath: boolean;
}

const PATH_VALUES = /[<[](?:file|path|dir|directory)[>\]]/;

/** `command` and everything below it. Hidden commands and options are left out. */
export function commandTree(command: Command, before: readonly string[] = []): CommandNode {
  const help = command.createHelp();
  const path = [...before, command.name()];
  const below = help.visibleCommands(command);
  return {
    path,
    description: firstLine(command.description()),
    commands: below.map((inner) => {
      const node = commandTree(inner, path);
      // `help` takes the names of its neighbours.
      return inner.name() === 'help' ? { ...node, argumentChoices: below.map((one) => one.name()) } : node;
    }),
    options: help.visibleOptions(command).map(optionNode),
    argumentChoices: command.registeredArguments.flatMap(({ argChoices }) => argChoices ?? []),
  };
}

/** `node` and everything below it. */
export function* everyNode(node: CommandNode): Generator<CommandNode> {
  yield node;
  for (const inner of node.commands) yield* everyNode(inner);
}

/** Its own name, as it is typed. */
export function nameOf({ path }: CommandNode): string {
  return path.at(-1) ?? '';
}

function optionNode({ short, long, flags, description, required, optional, argChoices }: Option): OptionNode {
  return {
    flags: [short, long].filter((flag) => flag !== undefined),
    description: firstLine(description),
    takesValue: required || optional,
    choices: argChoices ?? [],
    takesPath: PATH_VALUES.test(flags),
  };
}

function firstLine(text: string): string {
  return text.split('\n', 1)[0] ?? '';
}
