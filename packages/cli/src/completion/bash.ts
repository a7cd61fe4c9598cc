/** The command tree as a completion script for bash (3.2 and later, without bash-completion). */
import { everyNode, nameOf, type CommandNode } from './command-tree.ts';

export function bashScript(tree: CommandNode): string {
  const program = nameOf(tree);
  const nodes = [...everyNode(tree)];
  const below = nodes.slice(1).map(({ path }) => `'${path.join(' ')}'`);
  const words = nodes.map((node) => {
    const flags = node.options.flatMap((option) => option.flags);
    const offered = [...node.commands.map(nameOf), ...node.argumentChoices, ...flags];
    return `    '${node.path.join(' ')}') words='${offered.join(' ')}' ;;`;
  });
  return `# Completion of ${program} for bash: source it, such as by
#   source <(${program} completion bash)
_${program}() {
  local cur=\${COMP_WORDS[COMP_CWORD]} path='${program}' option= words= i word
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    # --option=value comes in three words.
    if [ -n "$option" ]; then [ "$word" = '=' ] || option=; continue; fi
    case "$path $word" in
      ${below.join('|')}) path="$path $word"; continue ;;
    esac
    case "$path $word" in
      ${valueFlags(nodes).join('|')}) option=$word ;;
    esac
  done
  if [ -n "$option" ]; then
    [ "$cur" != '=' ] || cur=
    case "$path $option" in
${valueCases(nodes).join('\n')}
    esac
    return
  fi
  case "$path" in
${words.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -F _${program} ${program}
`;
}

/** Every option that a value follows, behind its command. */
function valueFlags(nodes: readonly CommandNode[]): string[] {
  return nodes.flatMap(({ path, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .flatMap(({ flags }) => flags.map((flag) => `'${path.join(' ')} ${flag}'`)),
  );
}

function valueCases(nodes: readonly CommandNode[]): string[] {
  return nodes.flatMap(({ path, options }) =>
    options.flatMap(({ flags, choices, takesPath }) => {
      if (choices.length === 0 && !takesPath) return [];
      const patterns = flags.map((flag) => `'${path.join(' ')} ${flag}'`).join('|');
      const paths = `local IFS=$'\\n'; compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$cur"))`;
      const values = `COMPREPLY=($(compgen -W '${choices.join(' ')}' -- "$cur"))`;
      return [`      ${patterns}) ${takesPath ? paths : values} ;;`];
    }),
  );
}
