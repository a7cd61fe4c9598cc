#!/usr/bin/env node
/** The `naru` command of a clone: `npx naru …`. Installs what is missing, then runs packages/cli on Node 24. */
import { run } from '../scripts/run.mjs';

await run(['naru', ...process.argv.slice(2)]);
