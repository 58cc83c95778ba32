import { expect, test } from 'vitest';
import { makeCallers, makeRateLimit } from './callers.ts';

const AGENT = 'system:serviceaccount:slm-system:slm-operator-agent';

function setUp(status: object) {
  let asked = 0;
  let time = 0;
  const client = {
    reviewToken: () => {
      asked++;
      return Promise.resolve(status);
    },
  };
  const callerOf = makeCallers({ client, username: AGENT, monotonic: () => time });
  return { callerOf, asked: () => asked, advance: (ms: number) => (time += ms) };
}

const good = {
  authenticated: true,
  audiences: ['slm-operator'],
  user: { username: AGENT, extra: { 'authentication.kubernetes.io/node-name': ['n1'] } },
};

test.each<[string, object, unknown]>([
  ['the agent of a node is that node', good, { node: 'n1' }],
  [
    'a token that is not valid',
    { authenticated: false },
    { status: 401, message: 'the token is not valid for the audience slm-operator' },
  ],
  [
    'a token for another audience',
    { ...good, audiences: ['api'] },
    { status: 401, message: 'the token is not valid for the audience slm-operator' },
  ],
  [
    'somebody else',
    { ...good, user: { username: 'eve' } },
    { status: 403, message: 'only the node agent may ask for grants' },
  ],
  [
    'an agent whose token names no node',
    { ...good, user: { username: AGENT } },
    {
      status: 403,
      message: 'the token names no node: it must be bound to a pod of the node agent (Kubernetes 1.30 or newer)',
    },
  ],
])('%s', async (_, status, expected) => {
  expect(await setUp(status).callerOf('t')).toEqual(expected);
});

test('without a token nobody is asked', async () => {
  const { callerOf, asked } = setUp(good);
  expect(await callerOf(undefined)).toMatchObject({ status: 401 });
  expect(asked()).toBe(0);
});

test('an answer holds for half a minute, for this token alone', async () => {
  const { callerOf, asked, advance } = setUp(good);
  await callerOf('t');
  advance(29_000);
  await callerOf('t');
  expect(asked()).toBe(1);
  await callerOf('u');
  expect(asked()).toBe(2);
  advance(2000);
  await callerOf('t');
  expect(asked()).toBe(3);
});

test('a flood of strange tokens stops at the broker', async () => {
  const { callerOf, asked } = setUp({ authenticated: false });
  for (let index = 0; index < 500; index++) await callerOf(`t${index}`);
  expect(asked()).toBe(200);
});

test('a rate limit lets a burst through, then one each period, each key for itself', () => {
  let time = 0;
  const take = makeRateLimit({ burst: 2, refillMs: 1000 }, () => time);
  expect([take('a'), take('a'), take('a'), take('b')]).toEqual([undefined, undefined, 1000, undefined]);
  time = 1000;
  expect([take('a'), take('a')]).toEqual([undefined, 1000]);
});
