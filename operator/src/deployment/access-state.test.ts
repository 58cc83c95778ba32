import { beforeEach, describe, expect, it } from 'vitest';
import { FakeClient } from '../execution/fake-client.ts';
import { type ManualClock, makeManualClock } from '../runtime/testing/clocks.ts';
import { lookForKeys, lookForTls, makeSeenSecrets, type SeenSecrets } from './access-state.ts';
import { deployment } from './testing/objects.ts';

let api: FakeClient;
let clock: ManualClock;
let seen: SeenSecrets;
beforeEach(() => {
  api = new FakeClient();
  clock = makeManualClock();
  seen = makeSeenSecrets(clock);
});

const random = (size: number) => new Uint8Array(size);
const keys = (owner = deployment({}, {})) => lookForKeys(api.client, owner, seen, random, undefined);
const asked = () => api.calls.length;
const secret = (name: string, uid?: string) => {
  const controller = { apiVersion: 'slm.dev/v1alpha1', kind: 'SLMDeployment', name: 'chat', controller: true };
  const ownerReferences = uid === undefined ? [] : [{ ...controller, uid }];
  api.add('Secret', { metadata: { name, namespace: 'demo', ownerReferences } });
};

describe('generated keys', () => {
  it('of a new deployment are made without a question', async () => {
    expect(await keys(deployment())).toMatchObject({ state: 'to-make' });
    expect(asked()).toBe(0);
  });

  it('of one that has a status are looked for, and made when they are not there', async () => {
    expect(await keys()).toMatchObject({ state: 'to-make' });
    expect(asked()).toBe(1);
  });

  it('that were there a moment ago are there; a minute later they are looked for again', async () => {
    secret('chat-api-keys', 'chat-uid');
    for (let i = 0; i < 3; i++) expect(await keys()).toEqual({ state: 'present' });
    expect(asked()).toBe(1);
    api.objects.clear();
    clock.advance(60_000);
    expect(await keys()).toMatchObject({ state: 'to-make' });
  });

  it('of another owner are planned, so that the executor refuses with the reason', async () => {
    secret('chat-api-keys', 'somebody');
    expect(await keys()).toMatchObject({ state: 'to-make' });
    expect(await keys()).toMatchObject({ state: 'to-make' });
  });

  it('that were just made need no look, and those of a later deployment of the name do', async () => {
    seen.note(deployment(), 'chat-api-keys');
    expect(await keys()).toEqual({ state: 'present' });
    const later = { ...deployment({}, {}), metadata: { ...deployment().metadata, uid: 'later' } };
    expect(await keys(later)).toMatchObject({ state: 'to-make' });
    seen.forget('demo/chat');
    expect(await keys()).toMatchObject({ state: 'to-make' });
  });
});

it('keys that the user brings are looked for each time until they are there', async () => {
  const owner = deployment({ auth: { secretRef: { name: 'mine' } } });
  for (let i = 0; i < 2; i++) expect(await keys(owner)).toEqual({ state: 'missing' });
  secret('mine');
  for (let i = 0; i < 2; i++) expect(await keys(owner)).toEqual({ state: 'present' });
  expect(asked()).toBe(3);
});

it('a certificate that is not whole is looked for each time', async () => {
  const owner = deployment({ tls: { secretRef: { name: 'cert' } } });
  const look = () => lookForTls(api.client, owner, seen);
  expect(await look()).toEqual({ state: 'missing' });
  api.add('Secret', { metadata: { name: 'cert', namespace: 'demo' }, data: { 'tls.crt': 'eA==' } } as never);
  expect(await look()).toEqual({ state: 'unusable', lacks: ['tls.key'] });
  const whole = { metadata: { name: 'cert', namespace: 'demo' }, data: { 'tls.crt': 'eA==', 'tls.key': 'eA==' } };
  api.add('Secret', whole);
  for (let i = 0; i < 3; i++) expect(await look()).toEqual({ state: 'present' });
  expect(asked()).toBe(3);
});
