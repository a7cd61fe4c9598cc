/** Ports of the loopback interface that nobody listens on. */
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

export const LOOPBACK = '127.0.0.1';
const POLL_MS = 5;

/** Different ones, free when asked. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports = await Promise.all(
    servers.map(
      (server) =>
        new Promise<number>((resolve, reject) => {
          server.on('error', reject);
          server.listen(0, LOOPBACK, () => resolve((server.address() as AddressInfo).port));
        }),
    ),
  );
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Resolves when somebody accepts connections on `port`. @throws Error after `timeoutMs`, or when `isGone` says so */
export async function untilListening(port: number, timeoutMs: number, isGone: () => boolean): Promise<void> {
  const endMs = performance.now() + timeoutMs;
  while (!(await accepts(port))) {
    if (isGone()) throw new Error('it ended instead of listening');
    if (performance.now() > endMs) throw new Error(`nobody listens on port ${port} after ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: LOOPBACK, port });
    const settle = (isOpen: boolean): void => {
      socket.destroy();
      resolve(isOpen);
    };
    socket.on('connect', () => settle(true)).on('error', () => settle(false));
  });
}
