import { createServer, get } from 'node:https';
import type { AddressInfo } from 'node:net';
import { describe, expect, test } from 'vitest';
import { type KeyPair, makeAuthority, makeServingCertificate, whyRenew } from './certificates.ts';

const NOW = Date.parse('2026-01-01T00:00:00Z');
const DAY = 86_400_000;
const hosts = ['slm-operator', 'slm-operator.slm-system.svc'];

async function identity(now = NOW): Promise<{ authority: KeyPair; serving: KeyPair }> {
  const authority = await makeAuthority(now);
  return { authority, serving: await makeServingCertificate(authority, hosts, now) };
}

describe('the certificate', () => {
  test('is accepted by a TLS client that trusts the authority, and by no other', async () => {
    const { authority, serving } = await identity(Date.now());
    const server = createServer(serving, (_, response) => response.end('hello'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    const ask = (ca: string | undefined, servername: string) =>
      new Promise<string>((resolve) => {
        get({ host: '127.0.0.1', port, servername, ...(ca === undefined ? {} : { ca }) }, (response) =>
          response.setEncoding('utf8').on('data', resolve),
        ).on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? ''));
      });
    try {
      expect(await ask(authority.cert, 'slm-operator.slm-system.svc')).toBe('hello');
      expect(await ask(authority.cert, 'other.svc')).toBe('ERR_TLS_CERT_ALTNAME_INVALID');
      expect(await ask(undefined, 'slm-operator')).toBe('UNABLE_TO_VERIFY_LEAF_SIGNATURE');
    } finally {
      server.close();
    }
  });

  test.each<
    [
      string,
      (made: Awaited<ReturnType<typeof identity>>) => string | undefined | Promise<string | undefined>,
      RegExp | undefined,
    ]
  >([
    [
      'a fresh one stays',
      ({ serving, authority }) => whyRenew(serving, { now: NOW, issuer: authority.cert, hosts }),
      undefined,
    ],
    ['one of 59 days stays', ({ serving }) => whyRenew(serving, { now: NOW + 59 * DAY }), undefined],
    [
      'one of 61 days goes: a third of its time is left',
      ({ serving }) => whyRenew(serving, { now: NOW + 61 * DAY }),
      /^it ends at 2026-04-01/,
    ],
    ['none at all', () => whyRenew(undefined, { now: NOW }), /there is none/],
    ['one for other names', ({ serving }) => whyRenew(serving, { now: NOW, hosts: ['other'] }), /not for other/],
    [
      'one with another key',
      ({ serving, authority }) => whyRenew({ cert: serving.cert, key: authority.key }, { now: NOW }),
      /key/,
    ],
    [
      'one of another authority',
      async ({ serving }) => whyRenew(serving, { now: NOW, issuer: (await makeAuthority(NOW)).cert }),
      /another authority/,
    ],
    ['rubbish', () => whyRenew({ cert: 'x', key: 'y' }, { now: NOW }), /cannot be read/],
  ])('%s', async (_, why, expected) => {
    const reason = await why(await identity());
    if (expected === undefined) expect(reason).toBeUndefined();
    else expect(reason).toMatch(expected);
  });
});
