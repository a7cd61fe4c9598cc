/**
 * PostgreSQL for tests: a real server from the machine's own packages, in a temporary directory behind a Unix socket, or
 * PGlite behind its socket server.
 *
 * PGlite has one session for all connections and mixes their messages up outside of transactions: one connection at a time.
 */
import type { ChildProcess } from 'node:child_process';
import { execFileSync, spawn } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import type { NetConnectOpts } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface PostgresTestServer {
  /** Where a connection goes, for net.connect. */
  readonly address: NetConnectOpts;
  /** The same for clients of PostgreSQL; user and database are `postgres`. */
  readonly url: string;
  stop(): Promise<void>;
}

const START_TIMEOUT_MS = 30_000;
const SOCKET_NUMBER = 5432;

/** The directory of the server's programs, the newest version that there is; or why there is none. */
export function findPostgres(): { readonly directory: string } | { readonly missing: string } {
  const root = '/usr/lib/postgresql';
  const versions = existsSync(root) ? readdirSync(root) : [];
  const newest = versions
    .sort((a, b) => Number(b) - Number(a))
    .find((name) => existsSync(`${root}/${name}/bin/initdb`));
  if (newest === undefined) return { missing: `no PostgreSQL server in ${root}: install the package postgresql` };
  if (account() === null)
    return { missing: 'the server does not run as root, and there is no other account to run it' };
  return { directory: `${root}/${newest}/bin` };
}

/** Whom the server runs as: null when nobody is left. */
function account(): { uid: number; gid: number } | null {
  if (process.getuid?.() !== 0) return { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };
  const lines = readFileSync('/etc/passwd', 'utf8').split('\n');
  for (const name of ['postgres', 'nobody']) {
    const fields = lines.find((line) => line.startsWith(`${name}:`))?.split(':');
    if (fields !== undefined) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  }
  return null;
}

export async function startPostgres(directory: string): Promise<PostgresTestServer> {
  const owner = account() as { uid: number; gid: number };
  const path = mkdtempSync(join(tmpdir(), 'naru-postgres-'));
  if (process.getuid?.() === 0) chownSync(path, owner.uid, owner.gid);
  const data = join(path, 'data');
  const environment = { PATH: process.env['PATH'], LC_ALL: 'C', TZ: 'UTC' };
  const init = ['-D', data, '-U', 'postgres', '--auth=trust', '--no-sync', '--no-instructions', '-E', 'UTF8'];
  execFileSync(`${directory}/initdb`, init, { ...owner, cwd: path, env: environment, stdio: 'pipe' });
  const settings = { listen_addresses: '', unix_socket_directories: path, port: String(SOCKET_NUMBER), fsync: 'on' };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const child = spawn(`${directory}/postgres`, ['-D', data, ...flags], {
    ...owner,
    cwd: path,
    env: environment,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  const kill = (): void => void child.kill('SIGQUIT');
  process.once('exit', kill);
  const stop = async (): Promise<void> => {
    kill();
    await exited;
    process.removeListener('exit', kill);
    rmSync(path, { recursive: true, force: true });
  };
  try {
    await ready(child);
  } catch (error) {
    await stop();
    throw error;
  }
  const url = `postgres://postgres@localhost/postgres?host=${encodeURIComponent(path)}&port=${SOCKET_NUMBER}`;
  return { address: { path: join(path, `.s.PGSQL.${SOCKET_NUMBER}`) }, url, stop };
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = '';
    const late = setTimeout(() => reject(new Error(`PostgreSQL does not start: ${said}`)), START_TIMEOUT_MS);
    const settle = (error?: Error): void => {
      clearTimeout(late);
      if (error === undefined) resolve();
      else reject(error);
    };
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      if (said.length < 10_000) said += text;
      if (said.includes('ready to accept connections')) settle();
    });
    child.once('error', settle);
    child.once('exit', () => settle(new Error(`PostgreSQL has ended: ${said}`)));
  });
}

/** What a test hands in, so that only those who start PGlite load it. */
export interface PgliteParts<Database> {
  readonly createDatabase: () => Promise<Database>;
  /** On any free port. */
  readonly createServer: (database: Database) => {
    start(): Promise<void>;
    stop(): Promise<void>;
    /** `host:port` */
    getServerConn(): string;
  };
}

export async function startPglite<Database extends { close(): Promise<void> }>(
  parts: PgliteParts<Database>,
): Promise<PostgresTestServer> {
  const database = await parts.createDatabase();
  const server = parts.createServer(database);
  await server.start();
  const port = Number(server.getServerConn().split(':').at(-1));
  return {
    address: { host: '127.0.0.1', port },
    url: `postgres://postgres@127.0.0.1:${port}/postgres?sslmode=disable`,
    stop: async () => {
      await server.stop();
      await database.close();
    },
  };
}
