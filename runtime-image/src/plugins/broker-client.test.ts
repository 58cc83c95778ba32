/** A broker that goes and comes back; what it answers to whom is tested with the real one. */
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import type { RequestListener } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { makeAuthority, makeServingCertificate } from '@slm-operator/operator/broker/certificates';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { BrokerClient } from './broker-client.ts';

const now = Date.now();
const authority = await makeAuthority(now);
const { cert, key } = await makeServingCertificate(authority, ['slm-operator'], now);

let folder: string;
let servers: Server[];
beforeEach(async () => {
  servers = [];
  folder = await mkdtemp(path.join(tmpdir(), 'slm-broker-'));
  await writeFile(path.join(folder, 'ca.crt'), authority.cert);
  await writeFile(path.join(folder, 'host'), 'slm-operator');
  await writeFile(path.join(folder, 'token'), 'own');
});
afterEach(async () => {
  for (const server of servers) {
    server.close();
    server.closeAllConnections();
  }
  await rm(folder, { recursive: true });
});

async function serve(answer: RequestListener, port = 0): Promise<number> {
  const server = createServer({ cert, key }, answer);
  servers.push(server);
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const bound = (server.address() as AddressInfo).port;
  await writeFile(path.join(folder, 'address'), `127.0.0.1:${bound}`);
  return bound;
}

/** Ends a replica with all its connections, as a kill does. */
async function kill(server: Server | undefined): Promise<void> {
  server?.close();
  server?.closeAllConnections();
  if (server?.listening) await once(server, 'close');
}

const yes = '{"allowed":true,"serviceAccount":"demo/web"}';

test('a question survives that the replica it was put to ends, on a kept connection as well', async () => {
  const port = await serve((_, response) => response.end(yes));
  const client = new BrokerClient(folder);
  expect(await client.review('one')).toEqual(JSON.parse(yes));
  await kill(servers[0]);
  const asked = client.review('two');
  await delay(100);
  await serve((_, response) => response.end(yes), port);
  expect(await asked).toEqual(JSON.parse(yes));
  client.close();
});

test('a connection that breaks under a question is one more try', async () => {
  let breaks = 2;
  await serve((request, response) => {
    if (breaks-- > 0) request.socket.destroy();
    else response.end(yes);
  });
  expect(await new BrokerClient(folder).review('one')).toEqual(JSON.parse(yes));
});

test('a broker that has no API server to ask is asked again', async () => {
  let away = true;
  await serve((_, response) => {
    response.writeHead(away ? 503 : 200).end(away ? '{"message":"not now"}' : yes);
    away = false;
  });
  expect(await new BrokerClient(folder).review('one')).toEqual(JSON.parse(yes));
});

test('after its patience the last reason is told', async () => {
  await serve((_, response) => response.writeHead(503).end('{"message":"not now"}'));
  await expect(new BrokerClient(folder, 200).review('one')).rejects.toThrow('the broker answered 503: not now');
});

test('what another try cannot change is told at once', async () => {
  let asked = 0;
  await serve((_, response) => {
    asked++;
    response.writeHead(403).end('{"message":"no pod of a deployment"}');
  });
  await expect(new BrokerClient(folder).review('one')).rejects.toThrow('403: no pod of a deployment');
  await writeFile(path.join(folder, 'host'), 'somebody-else');
  await expect(new BrokerClient(folder).review('one')).rejects.toThrow(/altnames/i);
  expect(asked).toBe(1);
});
