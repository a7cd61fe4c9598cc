/** Bare writes to the disk that brokers keep their data on. */
import type { Scenario } from '../scenario.ts';
import { PAUSE_MS } from './publish-latency.ts';

export const doubleWrite: Scenario = {
  name: 'bare-double-write',
  what: 'bare writes of 1 MiB, O_DSYNC to a journal and plain to segments',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const disk = await bench.start('disk', { directory: await bench.directory() }, 'writer');
    await disk.call('doubleWrite', { seconds: warmUpSeconds });
    return bench.measure(() => disk.call('doubleWrite', { seconds }));
  },
};

export const dsyncWrite: Scenario = {
  name: 'bare-dsync-write',
  what: 'bare O_DSYNC write of 4 KiB, one at a time',
  async run(bench) {
    const { seconds, warmUpSeconds } = bench.settings;
    const disk = await bench.start('disk', { directory: await bench.directory() }, 'writer');
    await disk.call('smallWrites', { seconds: warmUpSeconds, pauseMs: PAUSE_MS });
    return bench.measure(() => disk.call('smallWrites', { seconds, pauseMs: PAUSE_MS }));
  },
};
