import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, test } from 'vitest';
import { killTree, processTree, treeUsage } from './process-tree.ts';

test.runIf(process.platform === 'linux')(
  'a tree is found through its parents, measured, and ended as a whole',
  async () => {
    const child = spawn('sh', ['-c', 'sh -c "echo ready; sleep 600; true"; true'], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    try {
      await once(child.stdout, 'data');
      const root = child.pid ?? 0;
      await expect.poll(() => processTree(root).length).toBe(3);
      const tree = processTree(root);
      expect(tree[0]).toBe(root);
      expect(treeUsage([root]).rssBytes).toBeGreaterThan(treeUsage([tree[2] ?? 0]).rssBytes);
      const closed = once(child, 'close');
      killTree(root);
      // The output is closed when the last of them has ended.
      await closed;
      expect(processTree(root)).toEqual([]);
    } finally {
      child.kill('SIGKILL');
    }
  },
);
