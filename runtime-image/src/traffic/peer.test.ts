/** Over real sockets with TLS: who is trusted with a request that is passed on. */
import { once } from 'node:events';
import { request } from 'node:https';
import { type AddressInfo, createServer } from 'node:net';
import { makeAuthority, makeServingCertificate } from '@slm-operator/operator/broker/certificates';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { chat, cleanUp, later, serve } from './testing.ts';

vi.setConfig({ testTimeout: 30_000 });
afterEach(cleanUp);

describe('with TLS', async () => {
  const authority = await makeAuthority(Date.now());
  const made = () => makeServingCertificate(authority, ['localhost'], Date.now());
  const holder = (pair: { cert: string; key: string }) => {
    const listeners: ((pair: { cert: string; key: string }) => void)[] = [];
    const certificate = {
      pair,
      onChange: (listener: (pair: { cert: string; key: string }) => void) => void listeners.push(listener),
    };
    const replace = (next: { cert: string; key: string }) => {
      certificate.pair = next;
      for (const listener of listeners) listener(next);
    };
    return { certificate, replace };
  };
  const askTls = async (port: number) => {
    return new Promise<string | undefined>((resolve, reject) => {
      const options = { port, host: '127.0.0.1', path: '/v1/chat/completions', method: 'POST', ca: authority.cert };
      request({ ...options, servername: 'localhost', agent: false }, (response) => {
        response.resume().once('end', () => resolve(String(response.headers['x-slm-revision'])));
      })
        .once('error', reject)
        .end(JSON.stringify(chat('hi')));
    });
  };

  test('the other side must have the very certificate that this server has, or had before', async () => {
    const [first, second, third] = await Promise.all([made(), made(), made()]);
    const own = holder(first);
    const candidate = await serve('new', { certificate: holder(first).certificate });
    const stable = await serve('old', { certificate: own.certificate, target: { port: candidate.port } });
    expect(await askTls(stable.port)).toBe('new');
    // One of the two reads the new Secret before the other.
    own.replace(second);
    expect(await askTls(stable.port)).toBe('new');
    own.replace(third);
    expect(await askTls(stable.port)).toBe('old');
    expect(await stable.metric('slm_forwarded')).toContain('{outcome="unreachable"} 1');
  });

  test('a server without a certificate, or with another of the same authority, is sent nothing', async () => {
    const own = holder(await made());
    let bytes = '';
    const plain = createServer((socket) => socket.on('data', (data) => (bytes += data.toString('latin1'))));
    plain.listen(0, '127.0.0.1');
    await once(plain, 'listening');
    later(() => plain.close());
    const stable = await serve('old', {
      certificate: own.certificate,
      target: { port: (plain.address() as AddressInfo).port },
    });
    expect(await askTls(stable.port)).toBe('old');
    expect(bytes).not.toContain('chat');
    const other = await serve('new', { certificate: holder(await made()).certificate });
    stable.aim({ port: other.port });
    expect(await askTls(stable.port)).toBe('old');
    expect(await other.metric('slm_requests_total{route="/v1/chat')).toBe('');
  });
});
