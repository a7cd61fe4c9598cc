/** The command tree as a completion script for zsh. */
import { everyNode, nameOf, type CommandNode, type OptionNode } from './command-tree.ts';

export function zshScript(tree: CommandNode): string {
  const program = nameOf(tree);
  const functions = [...everyNode(tree)].map((node) =>
    node.commands.length === 0 ? leafFunction(node) : branchFunction(node),
  );
  return `#compdef ${program}
# Completion of ${program} for zsh: put it into a directory of $fpath as _${program}, or source it after compinit, such as by
#   source <(${program} completion zsh)

${functions.join('\n\n')}

if [ "$funcstack[1]" = "_${program}" ]; then
  _${program} "$@"
else
  compdef _${program} ${program}
fi
`;
}

function branchFunction(node: CommandNode): string {
  const commands = node.commands.map((inner) => quoted(`${escaped(nameOf(inner))}:${inner.description}`));
  const calls = node.commands.map((inner) => `    ${nameOf(inner)}) ${functionName(inner)} ;;`);
  return `${functionName(node)}() {
  local curcontext="$curcontext" state line
  local -a commands
  commands=(
    ${commands.join('\n    ')}
  )
  _arguments -C ${specs(node)} \\
    '1: :->command' '*:: :->rest'
  case $state in
  command) _describe command commands ;;
  rest)
    case $line[1] in
${calls.join('\n')}
    esac
    ;;
  esac
}`;
}

function leafFunction(node: CommandNode): string {
  const { argumentChoices } = node;
  return `${functionName(node)}() {
  _arguments -s ${specs(node)} \\
    '*: :${argumentChoices.length === 0 ? '_default' : `(${argumentChoices.join(' ')})`}'
}`;
}

function specs({ options }: CommandNode): string {
  return options.flatMap((option) => option.flags.map((flag) => spec(flag, option))).join(' \\\n    ');
}

function spec(flag: string, { description, takesValue, choices, takesPath }: OptionNode): string {
  const text = description.replaceAll(/[[\]\\:]/g, '\\$&');
  const values = takesPath ? '_files' : choices.length > 0 ? `(${choices.join(' ')})` : ' ';
  return quoted(`*${flag}[${text}]${takesValue ? `:value:${values}` : ''}`);
}

function functionName({ path }: CommandNode): string {
  return `_${path.join('_').replaceAll('-', '_')}`;
}

function escaped(text: string): string {
  return text.replaceAll(':', '\\:');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
