/** The command tree as a completion script for fish. */
import { everyNode, nameOf, type CommandNode, type OptionNode } from './command-tree.ts';

export function fishScript(tree: CommandNode): string {
  const program = nameOf(tree);
  const nodes = [...everyNode(tree)];
  const lines = nodes.flatMap((node) => [
    ...node.commands.map((inner) => line(program, node, ['-a', quoted(nameOf(inner))], inner.description)),
    ...node.argumentChoices.map((choice) => line(program, node, ['-a', quoted(choice)], '')),
    ...node.options.map((option) => line(program, node, optionArguments(option), option.description)),
  ]);
  const below = nodes.slice(1).map(({ path }) => quoted(path.join(' ')));
  return `# Completion of ${program} for fish: put it into ~/.config/fish/completions/${program}.fish, or source it, such as by
#   ${program} completion fish | source

# Whether the words so far lead to the command that is given.
function __${program}_at
    set -l path ${program}
    for word in (commandline -opc)[2..-1]
        if contains -- "$path $word" ${below.join(' ')}
            set path "$path $word"
        end
    end
    test "$path" = "$argv[1]"
end

complete -c ${program} -f
${lines.join('\n')}
`;
}

function line(program: string, { path }: CommandNode, given: readonly string[], description: string): string {
  const condition = quoted(`__${program}_at "${path.join(' ')}"`);
  return `complete -c ${program} -n ${condition} ${given.join(' ')} -d ${quoted(description)}`;
}

function optionArguments({ flags, takesValue, choices, takesPath }: OptionNode): string[] {
  const names = flags.flatMap((flag) => (flag.startsWith('--') ? ['-l', flag.slice(2)] : ['-s', flag.slice(1)]));
  if (!takesValue) return names;
  if (takesPath) return [...names, '-r', '-F'];
  return choices.length === 0 ? [...names, '-x'] : [...names, '-x', '-a', quoted(choices.join(' '))];
}

function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
