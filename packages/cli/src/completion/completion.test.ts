/** The scripts in the shells that they are for; a shell that is not installed is skipped, and says so. */
import { execFileSync, spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { createProgram, runCommandLine } from '../program.ts';
import { testTerminal } from '../test-terminal.ts';
import { commandTree, everyNode, nameOf } from './command-tree.ts';

const tree = commandTree(createProgram(testTerminal()));
const nodes = [...everyNode(tree)];

async function script(shell: string): Promise<string> {
  const terminal = testTerminal();
  expect(await runCommandLine(['completion', shell], terminal)).toBe(0);
  expect(terminal.err()).toBe('');
  return terminal.out();
}

function isMissing(shell: string): boolean {
  return spawnSync(shell, ['-c', 'exit']).error !== undefined;
}

describe('the command tree', () => {
  it('has every command with its options and choices', () => {
    expect(nodes.map(({ path }) => path.join(' '))).toEqual(
      expect.arrayContaining([
        'naru',
        'naru start',
        'naru topic create',
        'naru group reset-offsets',
        'naru completion',
      ]),
    );
    const create = nodes.find(({ path }) => path.join(' ') === 'naru topic create');
    expect(create?.options).toContainEqual({
      flags: ['--type'],
      description: 'ordered: order by key; parallel: single events to any member',
      takesValue: true,
      choices: ['ordered', 'parallel'],
      takesPath: false,
    });
  });
});

describe.skipIf(isMissing('bash'))('naru completion bash (needs bash)', () => {
  /** What is offered at the end of the words; the last one is being typed. */
  async function offered(...words: string[]): Promise<string[]> {
    const ask = 'COMP_WORDS=("$@"); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _naru; printf "%s\\n" "${COMPREPLY[@]}"';
    const source = `${await script('bash')}\n${ask}`;
    const out = execFileSync('bash', ['-c', source, 'bash', 'naru', ...words], { cwd: import.meta.dirname });
    return out.toString().split('\n').filter(Boolean);
  }

  it('registers itself', async () => {
    const registered = execFileSync('bash', ['-c', `${await script('bash')}\ncomplete -p naru`]);
    expect(registered.toString()).toBe('complete -F _naru naru\n');
  });

  it('offers commands, options and choices', async () => {
    expect(await offered('')).toEqual(expect.arrayContaining(tree.commands.map(nameOf)));
    expect(await offered('st')).toEqual(['start']);
    expect(await offered('topic', 'add')).toEqual(['add-partitions']);
    expect(await offered('topic', 'create', 'orders', '--ty')).toEqual(['--type']);
    expect(await offered('topic', 'create', '--type', '')).toEqual(['ordered', 'parallel']);
    expect(await offered('topic', 'create', '--type', 'p')).toEqual(['parallel']);
    expect(await offered('topic', 'create', '--type', '=', 'p')).toEqual(['parallel']);
    expect(await offered('topic', 'create', '--type', '=')).toEqual(['ordered', 'parallel']);
    expect(await offered('topic', 'list', '-o', 'js')).toEqual(['json']);
    expect(await offered('completion', 'z')).toEqual(['zsh']);
    expect(await offered('help', 'cons')).toEqual(['consume']);
  });

  it('knows values from commands', async () => {
    expect(await offered('consume', '--group', 'topic', '--commit', 'm')).toEqual(['manual']);
    expect(await offered('consume', '--group', 'sta')).toEqual([]);
    expect(await offered('publish', 'topic', 'cr')).toEqual([]);
  });

  it('offers files where a path is wanted', async () => {
    expect(await offered('start', '--config', 'completion.t')).toEqual(['completion.test.ts']);
    expect(await offered('publish', 'orders', '--file', 'bash')).toEqual(['bash.ts']);
  });

  it.each(nodes.map((node) => [node.path.join(' '), node] as const))('offers all of %s', async (_path, node) => {
    const expected = [...node.commands.map(nameOf), ...node.options.flatMap(({ flags }) => flags)];
    expect(await offered(...node.path.slice(1), '')).toEqual(expect.arrayContaining(expected));
  });
});

/** What the other shells make of their scripts; they are asked in their own ways. */
describe.skipIf(isMissing('zsh'))('naru completion zsh (needs zsh)', () => {
  it('is a script that zsh understands, which defines a function for each command', async () => {
    const check = `autoload -Uz compinit && compinit -D -u\n${await script('zsh')}\ntypeset +f`;
    const functions = execFileSync('zsh', ['-f', '-c', check]).toString().split('\n');
    const names = nodes.map(({ path }) => `_${path.join('_').replaceAll('-', '_')}`);
    expect(functions).toEqual(expect.arrayContaining(names));
  });
});

describe.skipIf(isMissing('fish'))('naru completion fish (needs fish)', () => {
  async function offered(words: string): Promise<string[]> {
    const ask = `${await script('fish')}\ncomplete -C ${JSON.stringify(words)}`;
    const out = execFileSync('fish', ['--no-config', '-c', ask]).toString();
    return out.split('\n').map((line) => line.split('\t')[0] ?? '');
  }

  it('offers commands, options and choices', async () => {
    expect(await offered('naru st')).toContain('start');
    expect(await offered('naru topic cr')).toContain('create');
    expect(await offered('naru topic create --ty')).toContain('--type');
    expect(await offered('naru topic create --type p')).toContain('parallel');
    expect(await offered('naru completion z')).toContain('zsh');
  });
});
