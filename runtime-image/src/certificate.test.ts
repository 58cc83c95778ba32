/** Over real sockets: HTTPS on both ports, and a certificate that is replaced under running connections. */
import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { Agent, request } from 'node:https';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { makeAuthority, makeServingCertificate } from '@slm-operator/operator/broker/certificates';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { Certificate, type KeyPair } from './certificate.ts';
import { type Listeners, listen } from './listeners.ts';
import { makeTestServer } from './routes/testing.ts';

vi.setConfig({ testTimeout: 30_000 });

const now = Date.now();
const DAY = 86_400_000;
const authority = await makeAuthority(now);
const certificateOf = (host: string, at = now) => makeServingCertificate(authority, [host, 'localhost'], at);

let folder: string;
let log: string[];
let listeners: Listeners | undefined;
let certificate: Certificate | undefined;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-tls-'));
  for (const name of ['tls.crt', 'tls.key']) await symlink(`..data/${name}`, path.join(folder, name));
  log = [];
});
afterEach(async () => {
  await listeners?.close();
  listeners = undefined;
  certificate?.close();
  await rm(folder, { recursive: true });
});

/** Writes the files as the kubelet does: a new folder, and a symlink swapped to it. */
async function write(pair: Partial<KeyPair>): Promise<void> {
  const data = `..${Math.random()}`;
  await mkdir(path.join(folder, data));
  if (pair.cert !== undefined) await writeFile(path.join(folder, data, 'tls.crt'), pair.cert);
  if (pair.key !== undefined) await writeFile(path.join(folder, data, 'tls.key'), pair.key);
  await symlink(data, path.join(folder, '..data_tmp'));
  await rename(path.join(folder, '..data_tmp'), path.join(folder, '..data'));
}

function open(): Certificate {
  const files = {
    certFile: path.join(folder, 'tls.crt'),
    keyFile: path.join(folder, 'tls.key'),
  };
  certificate = new Certificate(files, pino({ level: 'trace' }, { write: (line: string) => void log.push(line) }));
  return certificate;
}

async function serve() {
  const made = open();
  await made.open();
  const { app } = makeTestServer();
  listeners = await listen(app, '127.0.0.1', [0, 0], { certificate: made });
  return { certificate: made, ports: listeners.ports as [number, number] };
}

/** The host that the server's certificate is for, and the status of an answer. */
function ask(port: number, agent: Agent | false = false): Promise<[string, number | undefined]> {
  return new Promise((resolve, reject) => {
    const options = { port, host: '127.0.0.1', path: '/healthz', servername: 'localhost', ca: authority.cert, agent };
    const asking = request(options, (response) => {
      const name = (response.socket as TLSSocket).getPeerX509Certificate()?.subjectAltName ?? '';
      response.resume().once('end', () => resolve([name, response.statusCode]));
    });
    asking.once('error', reject).end();
  });
}

const names = (host: string) => `DNS:${host}, DNS:localhost`;

test('both ports speak HTTPS, and nothing older than TLS 1.2', async () => {
  await write(await certificateOf('one'));
  const { ports } = await serve();
  for (const port of ports) expect(await ask(port)).toEqual([names('one'), 200]);
  await expect(fetch(`http://127.0.0.1:${ports[0]}/healthz`)).rejects.toThrow('fetch failed');
  const old = connect({
    port: ports[0],
    host: '127.0.0.1',
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ca: authority.cert,
  });
  await expect(
    new Promise((resolve, reject) => void old.once('secureConnect', resolve).once('error', reject)),
  ).rejects.toThrow();
});

describe('a certificate that is replaced', () => {
  test('is met by new connections, while open ones go on', async () => {
    await write(await certificateOf('one', now - DAY));
    const { certificate, ports } = await serve();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    expect(await ask(ports[0], agent)).toEqual([names('one'), 200]);
    const until = certificate.expires;
    await write(await certificateOf('two'));
    for (const port of ports) await expect.poll(() => ask(port), { timeout: 20_000 }).toEqual([names('two'), 200]);
    expect(await ask(ports[0], agent)).toEqual([names('one'), 200]);
    expect(certificate.expires).toBe(until + DAY);
    agent.destroy();
  });

  test('by one that cannot be used stays, is told once and counted', async () => {
    const [one, two] = [await certificateOf('one'), await certificateOf('two')];
    await write(one);
    const { certificate, ports } = await serve();
    await write({ cert: two.cert, key: one.key });
    await expect.poll(() => certificate.failures, { timeout: 20_000 }).toBe(1);
    await certificate.reload();
    expect(certificate.failures).toBe(1);
    expect(log.filter((line) => line.includes('do not belong together'))).toHaveLength(1);
    expect(await ask(ports[0])).toEqual([names('one'), 200]);
    await write(two);
    await expect.poll(() => ask(ports[0]), { timeout: 20_000 }).toEqual([names('two'), 200]);
    expect(log.join('')).not.toContain('PRIVATE KEY');
  });
});

describe('a server does not start', async () => {
  const [one, two] = [await certificateOf('one'), await certificateOf('two')];
  test.each<[string, Partial<KeyPair>, RegExp]>([
    [
      'with a key of another certificate',
      { cert: one.cert, key: two.key },
      /^TLS: certificate and private key do not belong/,
    ],
    ['with what is no certificate', { cert: 'hello', key: one.key }, /^TLS: the certificate is no PEM certificate\.$/],
    [
      'with what is no key',
      { cert: one.cert, key: 'hello' },
      /^TLS: the private key is no PEM key, or is encrypted\.$/,
    ],
    ['without a key', { cert: one.cert }, /^TLS: .*tls\.key cannot be read \(ENOENT\)\.$/],
  ])('%s', async (_, pair, sentence) => {
    await write(pair);
    await expect(open().open()).rejects.toMatchObject({
      reason: 'InvalidCertificate',
      exitCode: 2,
      message: expect.stringMatching(sentence) as string,
    });
  });
});

test('one that has expired is served with a warning: clients decide', async () => {
  await write(await certificateOf('one', now - 1000 * DAY));
  await open().open();
  expect(log.join('')).toContain('the certificate has expired');
});
