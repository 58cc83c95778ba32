import { afterAll, describe, expect, test } from 'vitest';
import { makeTestServer } from '../routes/testing.ts';
import { isOrigin } from './cors.ts';

const { app } = makeTestServer({ origins: ['https://chat.example.com', 'https://*.corp.example'] });
afterAll(() => app.close());

const ask = async (origin: string | undefined, more: Record<string, string> = {}) => {
  const answer = await app.inject({
    method: 'POST',
    url: '/api/generate',
    headers: { ...(origin === undefined ? {} : { origin }), ...more },
    payload: { model: 'chat', prompt: 'a', stream: true },
  });
  return [answer.statusCode, answer.headers['access-control-allow-origin']];
};

describe('pages', () => {
  const allowed = [
    'http://localhost:3000',
    'https://127.0.0.1',
    'http://[::1]:5173',
    'app://obsidian.md',
    'vscode-webview://abc',
    'https://chat.example.com',
    'https://a.b.corp.example',
  ];
  test.each(allowed)('of %s are let in, also to streams', async (origin) => {
    expect(await ask(origin)).toEqual([200, origin]);
  });

  const refused = [
    'https://evil.example',
    'http://localhost.evil.example',
    'http://localhost:1@evil.example',
    'https://chat.example.com.evil.example',
    'https://chatXexample.com',
    'https://corp.example',
    'null',
  ];
  test.each(refused)('of %s are not', async (origin) => {
    expect(await ask(origin)).toEqual([403, undefined]);
  });

  test('of this server itself are, and programs are no pages', async () => {
    expect(await ask('http://slm.local:11434', { host: 'slm.local:11434' })).toEqual([200, undefined]);
    expect(await ask(undefined)).toEqual([200, undefined]);
  });
});

test('a browser that asks first is told what it may send', async () => {
  const answer = await app.inject({
    method: 'OPTIONS',
    url: '/v1/chat/completions',
    headers: {
      origin: 'http://localhost:3000',
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization, content-type, x-stainless-os',
    },
  });
  expect([answer.statusCode, answer.headers]).toMatchObject([
    204,
    {
      'access-control-allow-origin': 'http://localhost:3000',
      'access-control-allow-methods': 'GET, POST, DELETE, HEAD',
      'access-control-allow-headers': 'authorization, content-type, x-stainless-os',
      vary: 'Origin',
    },
  ]);
});

test('errors can be read by the page too', async () => {
  const answer = await app.inject({ url: '/api/nothing', headers: { origin: 'http://localhost:3000' } });
  expect([answer.statusCode, answer.headers['access-control-allow-origin']]).toEqual([404, 'http://localhost:3000']);
});

test('what is an origin', () => {
  expect(['*', 'https://*.a.example', 'http://a:1', 'app://*'].map(isOrigin)).toEqual([true, true, true, true]);
  expect(['a.example', 'https://a/b', 'https://', ''].map(isOrigin)).toEqual([false, false, false, false]);
});
