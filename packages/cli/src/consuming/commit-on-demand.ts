/**
 * Commits what was printed whenever a line comes on stdin, so that whoever reads our output decides when it is done.
 *
 * Owns stdin until it is disposed of. A commit that fails is said on stderr: the events come again.
 */
import type { EventBatch } from '@naru/client';
import { reportError } from '../output/error-report.ts';
import { say, type Terminal } from '../terminal.ts';

const LINE_FEED = 0x0a;

export interface CommitDemand extends Disposable {
  /** The batch counts as printed: the next line on stdin commits it. */
  printed(batch: EventBatch): void;
  /** Resolves when nothing is being committed. */
  idle(): Promise<void>;
}

export function commitOnDemand(terminal: Terminal): CommitDemand {
  /** The last of each partition: committing it commits those before it. */
  const uncommitted = new Map<string, EventBatch>();
  let work = Promise.resolve();
  const commitAll = async (): Promise<void> => {
    const batches = [...uncommitted];
    uncommitted.clear();
    let committed = 0;
    for (const [partition, batch] of batches) {
      try {
        await batch.commit();
        committed += 1;
        const end = (batch.events.at(-1)?.offset ?? -1n) + 1n;
        say(terminal, `committed ${partition} to ${end}`);
      } catch (error) {
        reportError(terminal, error, false);
      }
    }
    if (committed === 0) say(terminal, 'nothing was committed');
  };
  const onData = (chunk: Buffer): void => {
    if (chunk.includes(LINE_FEED)) work = work.then(commitAll);
  };
  terminal.stdin.on('data', onData);
  return {
    printed: (batch) => uncommitted.set(`${batch.topic}/${batch.partition}`, batch),
    idle: () => work,
    [Symbol.dispose]: () => {
      terminal.stdin.off('data', onData);
      terminal.stdin.pause();
    },
  };
}
