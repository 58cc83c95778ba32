/** What is remembered of reviews, and how many there may be; real tokens and a real API server are the broker's tests. */
import type { TokenReviewAnswer } from '@slm-operator/crds/contract';
import { pino } from 'pino';
import { beforeEach, describe, expect, test } from 'vitest';
import { call, makeTestServer } from '../routes/testing.ts';
import { ServiceAccounts } from './service-accounts.ts';

const audience = 'chat.demo.svc';
const MINUTE = 60_000;
let clock: number;
beforeEach(() => {
  clock = Date.UTC(2026, 10, 23);
});

/** A token that says so of itself; whether it is true is for the review. */
function token(claims: object = {}): string {
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'RS256' })}.${part({ aud: [audience], exp: clock / 1000 + 3600, ...claims })}.c2ln`;
}

function door(review: (token: string) => Promise<TokenReviewAnswer> = async () => yes) {
  const asked: string[] = [];
  const accounts = new ServiceAccounts({
    review: (given) => {
      asked.push(given);
      return review(given);
    },
    audience,
    log: pino({ level: 'silent' }),
    now: () => clock,
  });
  const enter = (given: string) =>
    Promise.resolve()
      .then(() => accounts.authenticate(given))
      .then(
        (caller) => caller.name,
        (error: { status: number }) => error.status,
      );
  return { accounts, asked, enter };
}

const yes: TokenReviewAnswer = { allowed: true, serviceAccount: 'demo/web' };
const no: TokenReviewAnswer = { allowed: false, status: 403, message: 'not on the list' };
const silence = () => Promise.reject(new Error('nobody answers'));

test('a good token is reviewed once a minute, however many requests come with it', async () => {
  const { asked, enter } = door();
  const mine = token();
  expect(await Promise.all(Array.from({ length: 100 }, () => enter(mine)))).toEqual(
    Array.from({ length: 100 }, () => 'demo/web'),
  );
  clock += MINUTE - 1;
  await enter(mine);
  expect(asked).toHaveLength(1);
  clock += 1;
  await enter(mine);
  expect(asked).toHaveLength(2);
});

test('a refused one is tried again after ten seconds', async () => {
  const answers: TokenReviewAnswer[] = [no, yes];
  const { asked, enter } = door(async () => answers.shift() ?? no);
  const mine = token();
  expect([await enter(mine), await enter(mine), asked.length]).toEqual([403, 403, 1]);
  clock += 10_000;
  expect([await enter(mine), asked.length]).toEqual(['demo/web', 2]);
});

test('no token outlives itself, whatever is remembered', async () => {
  const { enter } = door();
  const brief = token({ exp: clock / 1000 + 30 });
  expect(await enter(brief)).toBe('demo/web');
  clock += 30_000;
  expect(await enter(brief)).toBe(401);
});

test('while nobody answers, a good token goes on for ten minutes, a refused one does not', async () => {
  let away = false;
  const bad = token({ sub: 'bad' });
  const good = token({ sub: 'good' });
  const { enter } = door(async (given) => (away ? silence() : given === bad ? no : yes));
  await enter(good);
  await enter(bad);
  away = true;
  clock += 10 * MINUTE - 1;
  expect([await enter(good), await enter(bad)]).toEqual(['demo/web', 503]);
  clock += 1;
  expect(await enter(good)).toBe(503);
});

test('a good token waits a second for a review that takes its time, and the next requests with it do not', async () => {
  let away = false;
  const { asked, enter } = door(async () => (away ? new Promise<never>(() => undefined) : yes));
  const mine = token();
  await enter(mine);
  away = true;
  clock += MINUTE;
  expect(await enter(mine)).toBe('demo/web');
  expect([await enter(mine), await enter(mine)]).toEqual(['demo/web', 'demo/web']);
  expect(asked).toHaveLength(2);
});

describe('strangers', () => {
  test('with what cannot be a token for this server cost no question', async () => {
    const { asked, enter } = door();
    const others = ['key', 'a.b.c', 'a.b.c.d', token({ aud: 'other' }), token({ aud: undefined }), token({ exp: 1 })];
    expect(await Promise.all(others.map(enter))).toEqual(others.map(() => 401));
    expect(asked).toEqual([]);
  });

  test('with many made-up tokens are asked about 64 at a time', async () => {
    const held = Promise.withResolvers<TokenReviewAnswer>();
    const { asked, enter } = door(() => held.promise);
    const entering = Array.from({ length: 70 }, (_, nth) => enter(token({ sub: `${nth}` })));
    expect(await Promise.all(entering.slice(64))).toEqual([429, 429, 429, 429, 429, 429]);
    held.resolve(no);
    expect(await Promise.all(entering.slice(0, 64))).toEqual(Array.from({ length: 64 }, () => 403));
    expect(asked).toHaveLength(64);
  });
});

test('each API says it in its own words, and 401 says how', async () => {
  const { accounts } = door(async () => no);
  const { app } = makeTestServer({ auth: accounts });
  const headers = { authorization: `Bearer ${token()}` };
  expect(await call(app, 'POST', '/v1/messages', {}, headers)).toMatchObject({
    status: 403,
    body: { type: 'error', error: { type: 'permission_error', message: 'not on the list' } },
  });
  expect((await call(app, 'POST', '/api/chat', {})).body).toEqual({
    error: `a ServiceAccount token is missing: mount a projected token with audience ${audience} and send it as "Authorization: Bearer TOKEN"`,
  });
  expect((await app.inject('/v1/models')).headers['www-authenticate']).toBe('Bearer');
  await app.close();
});
