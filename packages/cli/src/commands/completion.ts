/** `naru completion`: what makes a shell complete commands, options and their values. */
import { Argument, type Command } from 'commander';
import { bashScript } from '../completion/bash.ts';
import { commandTree, type CommandNode } from '../completion/command-tree.ts';
import { fishScript } from '../completion/fish.ts';
import { zshScript } from '../completion/zsh.ts';
import { DataOutput } from '../output/data-output.ts';
import type { Terminal } from '../terminal.ts';

const SCRIPTS = { bash: bashScript, zsh: zshScript, fish: fishScript } as const satisfies Readonly<
  Record<string, (tree: CommandNode) => string>
>;

type Shell = keyof typeof SCRIPTS;

export function addCompletionCommand(program: Command, terminal: Terminal): void {
  program
    .command('completion')
    .description('Print a script that makes a shell complete commands and options: source <(naru completion bash).')
    .addArgument(new Argument('<shell>', 'bash, zsh or fish').choices(Object.keys(SCRIPTS)))
    .action(async (shell: Shell) => {
      await new DataOutput(terminal).write(SCRIPTS[shell](commandTree(program)));
    });
}
