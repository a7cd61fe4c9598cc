/** RabbitMQ with its stream plugin, without systemd; its name service (epmd) is one of its own. */
import { chmod, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { existsSync } from 'node:fs';
import { LOOPBACK, freePorts } from './free-ports.ts';
import { HOW_TO_FETCH, debianRoot, output } from './peer-cache.ts';
import { asSeenThere, inDebian, whereInstalled } from './redis.ts';
import type { PlanOptions, ServerKind, ServerPlan } from './server-kind.ts';

/** The script itself: what is on the PATH would change the user. */
const SCRIPT = '/usr/lib/rabbitmq/bin/rabbitmq-server';

export const rabbitmq: ServerKind = {
  name: 'rabbitmq',
  // Quorum queues sync before they confirm, streams do not: it is the client that chooses.
  durabilities: ['fsync'],
  directories: inDebian,
  missing: () =>
    existsSync(`${debianRoot() ?? ''}${SCRIPT}`)
      ? null
      : `rabbitmq-server is not there: ${HOW_TO_FETCH}, or install Debian's`,
  version: () => {
    const query = ['-W', '-f', '${Package} ${Version}\n', 'rabbitmq-server', 'erlang-base'];
    const { command, args } = whereInstalled('dpkg-query', query);
    return output(command, args)?.replace('\n', ', ') ?? '';
  },
  plan,
};

async function plan({ directory }: PlanOptions): Promise<ServerPlan> {
  const [port = 0, streamPort = 0, distributionPort = 0, namesPort = 0] = await freePorts(4);
  const there = asSeenThere(directory);
  const configuration = [
    `listeners.tcp.1 = ${LOOPBACK}:${port}`,
    `stream.listeners.tcp.1 = ${LOOPBACK}:${streamPort}`,
    `stream.advertised_host = ${LOOPBACK}`,
    `stream.advertised_port = ${streamPort}`,
    'log.file = false',
    'log.console = true',
    'log.console.level = warning',
    '',
  ].join('\n');
  const env = {
    PATH: '/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: there,
    HOSTNAME: 'localhost',
    LANG: 'C.UTF-8',
    ERL_EPMD_PORT: String(namesPort),
    ERL_EPMD_ADDRESS: LOOPBACK,
    // Has the script become the server, instead of staying beside it.
    RUNNING_UNDER_SYSTEMD: '1',
    RABBITMQ_NODENAME: `naru-bench-${port}@localhost`,
    RABBITMQ_CONFIG_FILE: `${there}/rabbitmq.conf`,
    RABBITMQ_ENABLED_PLUGINS_FILE: `${there}/enabled_plugins`,
    RABBITMQ_MNESIA_BASE: `${there}/data`,
    RABBITMQ_LOG_BASE: `${there}/log`,
    RABBITMQ_LOGS: '-',
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}',
  };
  return {
    address: { host: LOOPBACK, port, streamPort },
    launch: { ...whereInstalled(SCRIPT, []), env },
    companions: [{ ...whereInstalled('epmd', []), env }],
    configuration: `${configuration}enabled_plugins: rabbitmq_stream`,
    prepare: async () => {
      await chmod(directory, 0o755);
      await writeFile(join(directory, 'rabbitmq.conf'), configuration);
      await writeFile(join(directory, 'enabled_plugins'), '[rabbitmq_stream].\n');
    },
  };
}
