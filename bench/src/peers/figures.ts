/** The numbers that scenarios compare. */
import type { Figure, PeerMeasurement } from './peer-scenario.ts';

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

export const megabytesPerSecond: Figure = {
  name: 'MB/s',
  better: 'more',
  digits: 1,
  of: ({ bytes, seconds }) => bytes / seconds / 1e6,
};

export const eventsPerSecond: Figure = {
  name: 'events/s',
  better: 'more',
  digits: 0,
  of: ({ events, seconds }) => events / seconds,
};

export const serverCpuPerGib: Figure = {
  name: 'server CPU-s/GiB',
  better: 'less',
  digits: 2,
  of: ({ server, bytes }) => server.cpuSeconds / (bytes / GIB),
};

export const clientCpuPerGib: Figure = {
  name: 'clients CPU-s/GiB',
  better: 'less',
  digits: 2,
  of: ({ clients, bytes }) => clients.reduce((sum, { cpuSeconds }) => sum + cpuSeconds, 0) / (bytes / GIB),
};

/** Share of one core. */
export const serverCpuPercent: Figure = {
  name: 'server CPU %',
  better: 'less',
  digits: 1,
  of: ({ server, seconds }) => (server.cpuSeconds / seconds) * 100,
};

export const serverPeakMib: Figure = {
  name: 'server peak MiB',
  better: 'less',
  digits: 0,
  of: ({ server }) => server.peakRssBytes / MIB,
};

export const p50Ms: Figure = { name: 'p50 ms', better: 'less', digits: 2, of: ({ latency }) => latency?.p50 };
export const p99Ms: Figure = { name: 'p99 ms', better: 'less', digits: 2, of: ({ latency }) => latency?.p99 };
export const p999Ms: Figure = { name: 'p99.9 ms', better: 'less', digits: 2, of: ({ latency }) => latency?.p999 };

/** A number of the notes. */
export function noted(name: string, key: string, digits: number): Figure {
  return { name, better: 'less', digits, of: ({ notes }: PeerMeasurement) => notes?.[key] };
}
