import { writeFileSync } from 'node:fs';
import { crashRun } from '@naru/testkit';
import { openFileLogStore } from './src/log/file/file-log-store.ts';
const TINY = { journalFileBytes: 24*1024, journalBytes: 4*24*1024, maxAppendBytes: 4*1024, mergedFrameBytes: 4*1024, checkpointBytes: 28*1024, unwrittenBytes: 8*1024, cacheBytes: 4096, segmentBytes: 1500, segmentAgeMs: 400, segmentWriteBytes: 1024, indexIntervalBytes: 300, loadedIndexes: 2, openFiles: 3, readBytes: 2000 };
const n=()=>{}; const logger={debug:n,info:n,error:n,warn:(f: unknown,m: string)=>{throw new Error(m)}};
const end=performance.now()+420_000; let seed=Number(process.argv[2]);
for (; performance.now()<end; seed++) { 
  let stores: any[]=[]; const t=setTimeout(()=>{ const s=stores.at(-1); console.log('HUNG', seed, s?.capacity(), s?.metrics(), s?.checkpointDue()); process.exit(1); }, 8000);
  try { await crashRun({seed, crashes:4, crashWithin:[100,500,2500], openStore:(s)=>{const x=openFileLogStore({...s,path:'/data',limits:TINY,logger}); stores.push(x); return x;}}); } catch (e) { console.log(String(e).slice(0,300)); } clearTimeout(t); }
console.log('seeds', seed);
