import { once } from 'node:events';
import { rm, writeFile } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import type { DownloadGrant } from '@slm-operator/crds';
import { startFileServer } from '@slm-operator/test/fixtures/file-server';
import { describe, expect, it, vi } from 'vitest';
import { type KeyPair, makeAuthority, makeServingCertificate } from '../broker/certificates.ts';
import { makeBrokerClient } from './broker-client.ts';
import type { PullEntry } from './puller.ts';
import { bytesOf, makeModel, temporaryFolder } from './testing/models.ts';
import { startBench } from './testing/puller-bench.ts';

// Real servers, disks and processes: on a busy machine they take their time.
vi.setConfig({ testTimeout: 30_000 });

const model = makeModel({ 'model.gguf': bytesOf(500_000) });
const { digest } = model.wanted;
const url = '/files/model.gguf';
const isReady = (entry: PullEntry | undefined) => entry?.state === 'Ready';
const hasFailed = (entry: PullEntry | undefined) => entry?.state === 'Failed';

interface Asked {
  readonly authorization: string | undefined;
  readonly body: string;
}

/** An operator that answers what `answer` says. */
async function startBroker(answer: (asked: Asked) => { status: number; body: unknown }, authority?: KeyPair) {
  const folder = await temporaryFolder();
  const ca = authority ?? (await makeAuthority(Date.now()));
  const asked: Asked[] = [];
  const server = createServer(await makeServingCertificate(ca, ['127.0.0.1'], Date.now()), (request, response) => {
    void (async () => {
      const one = { authorization: request.headers.authorization, body: await bodyOf(request) };
      asked.push(one);
      const said = answer(one);
      response.writeHead(said.status, { 'content-type': 'application/json' }).end(JSON.stringify(said.body));
    })();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const caFile = path.join(folder.path, 'ca.crt');
  const tokenFile = path.join(folder.path, 'token');
  await writeFile(caFile, ca.cert);
  await writeFile(tokenFile, 'token-1\n');
  return {
    asked,
    caFile,
    tokenFile,
    client: makeBrokerClient({
      url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
      caFile,
      tokenFile,
    }),
    async [Symbol.asyncDispose]() {
      server.close();
      server.closeAllConnections();
      await folder[Symbol.asyncDispose]();
    },
  };
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

const grantOf = (address: string, headers: Record<string, string> = {}, caBundle?: string): DownloadGrant => ({
  files: [{ path: 'model.gguf', url: address, headers }],
  expiresAt: '2100-01-01T00:00:00Z',
  ...(caBundle === undefined ? {} : { caBundle }),
});

describe('asking the operator', () => {
  it('sends the digest and the token as it is now', async () => {
    await using broker = await startBroker(() => ({ status: 200, body: grantOf('https://hub.example/x') }));
    expect(await broker.client.grant(digest)).toEqual(grantOf('https://hub.example/x'));
    await writeFile(broker.tokenFile, 'token-2');
    await broker.client.grant(digest);
    expect(broker.asked).toEqual([
      { authorization: 'Bearer token-1', body: JSON.stringify({ digest }) },
      { authorization: 'Bearer token-2', body: JSON.stringify({ digest }) },
    ]);
  });

  it('hands on what the operator refuses, with its reason', async () => {
    const body = { reason: 'SecretNotFound', message: 'Secret demo/hub is not there: create it', terminal: true };
    await using broker = await startBroker(() => ({ status: 409, body }));
    await expect(broker.client.grant(digest)).rejects.toMatchObject({ failure: body });
  });

  it('does not believe a reason that it does not know', async () => {
    await using broker = await startBroker(() => ({ status: 503, body: { reason: 'Whatever' } }));
    await expect(broker.client.grant(digest)).rejects.toMatchObject({
      failure: {
        reason: 'PullFailed',
        message: 'the operator refuses a download grant with status 503',
        terminal: false,
      },
    });
  });

  it.each([
    ['no grant', { hello: 1 }],
    ['an address that is none', grantOf('not an address')],
    ['no end', { ...grantOf('https://a.example'), expiresAt: 'soon' }],
  ])('does not take %s for a grant', async (_, body) => {
    await using broker = await startBroker(() => ({ status: 200, body }));
    await expect(broker.client.grant(digest)).rejects.toThrow('with something else');
  });

  it('says that the authority is not there yet, and finds it when it is', async () => {
    const authority = await makeAuthority(Date.now());
    await using broker = await startBroker(() => ({ status: 200, body: grantOf('https://a.example') }), authority);
    await rm(broker.caFile);
    await expect(broker.client.grant(digest)).rejects.toThrow('it appears once the operator runs');
    await writeFile(broker.caFile, authority.cert);
    await expect(broker.client.grant(digest)).resolves.toBeDefined();
  });

  it('never gives its token to a server with another authority', async () => {
    await using broker = await startBroker(() => ({ status: 200, body: grantOf('https://a.example') }));
    await writeFile(broker.caFile, (await makeAuthority(Date.now())).cert);
    await expect(broker.client.grant(digest)).rejects.toMatchObject({
      failure: { reason: 'PullFailed', terminal: false },
    });
    expect(broker.asked).toEqual([]);
  });
});

describe('a source that needs a grant', () => {
  const sources = [{ url: 'https://hub.example/{path}', needsGrant: true }];

  it('is pulled with what the operator gives, asked once for all files', async () => {
    let address = '';
    await using broker = await startBroker(() => ({
      status: 200,
      body: grantOf(address, { authorization: 'Bearer secret' }),
    }));
    await using bench = await startBench(model, { broker: broker.client }, { token: 'secret' });
    address = `${bench.server.url}${url}`;
    await bench.want({ ...model.wanted, sources: [...sources, ...sources] });
    await bench.until(digest, isReady);
    expect(broker.asked).toHaveLength(1);
    expect(bench.server.requests.map((one) => one.authorization)).toEqual(['Bearer secret']);
  });

  it('is pulled from a server with a private authority', async () => {
    const authority = await makeAuthority(Date.now());
    const tls = await makeServingCertificate(authority, ['127.0.0.1'], Date.now());
    let address = '';
    await using broker = await startBroker(() => ({ status: 200, body: grantOf(address, {}, authority.cert) }));
    await using bench = await startBench(model, { broker: broker.client }, { tls });
    address = `${bench.server.url}${url}`;
    await bench.want({ ...model.wanted, sources });
    expect(await bench.until(digest, isReady)).toMatchObject({ from: new URL(address).host });
  });

  it('keeps its credential when it redirects elsewhere', async () => {
    let address = '';
    await using broker = await startBroker(() => ({
      status: 200,
      body: grantOf(address, { authorization: 'Bearer secret' }),
    }));
    await using bench = await startBench(model, { broker: broker.client });
    const hub = await startFileServer({ root: path.join(bench.root, '../served') });
    try {
      hub.setFault(url, { redirect: `${bench.server.url}${url}` });
      address = `${hub.url}${url}`;
      await bench.want({ ...model.wanted, sources });
      await bench.until(digest, isReady);
      expect(hub.requests.map((one) => one.authorization)).toEqual(['Bearer secret']);
      expect(bench.server.requests.map((one) => one.authorization)).toEqual([undefined]);
    } finally {
      await hub.close();
    }
  });

  it('tells why the operator gives none', async () => {
    const body = { reason: 'SecretNotFound', message: 'Secret demo/hub is not there: create it', terminal: true };
    await using broker = await startBroker(() => ({ status: 409, body }));
    await using bench = await startBench(model, { broker: broker.client });
    await bench.want({ ...model.wanted, sources });
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error).toMatchObject(body);
  });

  it('says what is not configured', async () => {
    await using bench = await startBench(model);
    await bench.want({ ...model.wanted, sources });
    const entry = await bench.until(digest, hasFailed);
    expect(entry?.error?.message).toContain('SLM_BROKER_URL');
  });
});
