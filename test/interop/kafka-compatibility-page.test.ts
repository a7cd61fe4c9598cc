/** The table of APIs in docs/compatibility.md is what a broker answers. */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { Broker } from '@naru/broker';
import { decodeResponse, encodeRequest, kafkaApiByKey, kafkaApis } from '@naru/protocol/kafka';
import { expect, it } from 'vitest';

const page = readFileSync(new URL('../../docs/compatibility.md', import.meta.url), 'utf8');

interface Row {
  readonly key: number;
  readonly name: string | undefined;
  readonly min: number;
  readonly max: number;
}

const rows = [...page.matchAll(/^\| (\d+) \| (\w+) \| \d+–\d+ \| (\d+)–(\d+) \|$/gm)].map(
  ([, key, name, min, max]): Row => ({ key: Number(key), name, min: Number(min), max: Number(max) }),
);

async function answered(broker: Broker): Promise<Row[]> {
  const version = 3;
  const request = { clientSoftwareName: 'page', clientSoftwareVersion: '1' };
  const socket = connect(broker.address.port, broker.address.host);
  socket.write(
    Buffer.concat(encodeRequest(kafkaApis.apiVersions, version, { correlationId: 1, clientId: '' }, request)),
  );
  let frame = Buffer.alloc(0);
  while (frame.length < 4 || frame.length < 4 + frame.readInt32BE(0)) {
    const [chunk] = (await once(socket, 'data')) as [Buffer];
    frame = Buffer.concat([frame, chunk]);
  }
  socket.destroy();
  const { body } = decodeResponse(kafkaApis.apiVersions, version, frame.subarray(4));
  return body.apiKeys.map(({ apiKey: key, minVersion: min, maxVersion: max }) => {
    return { key, name: kafkaApiByKey(key)?.name, min, max };
  });
}

it('lists the APIs and versions that ApiVersions answers, in its order', async () => {
  await using broker = await Broker.start({ storage: 'memory', port: 0 });
  expect(rows).toEqual(await answered(broker));
});
