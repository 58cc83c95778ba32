import { beforeAll, describe, expect, test } from 'vitest';
import { makeAuthority } from '../broker/certificates.ts';
import { type CredentialInput, decodeSecret, makeCredentials } from './credentials.ts';
import { SourceError } from './http-errors.ts';

const secretRef = { name: 'hub' };
let pem: string;
beforeAll(async () => {
  pem = (await makeAuthority(Date.now())).cert;
});

function messageOf(input: Omit<CredentialInput, 'namespace'>): string {
  try {
    makeCredentials({ namespace: 'demo', ...input });
  } catch (error) {
    if (error instanceof SourceError) return `${error.failure.reason}: ${error.message}`;
    throw error;
  }
  return 'accepted';
}

describe('the Secret', () => {
  test.each<[string, Record<string, string>, string]>([
    ['HF_TOKEN', { HF_TOKEN: 'hf_abc\n' }, 'Bearer hf_abc'],
    ['token', { token: 't' }, 'Bearer t'],
    ['bearer', { bearer: 'b' }, 'Bearer b'],
    ['username and password', { username: 'me', password: 'p:w' }, `Basic ${Buffer.from('me:p:w').toString('base64')}`],
  ])('with %s gives a header', (_, secret, authorization) => {
    expect(makeCredentials({ namespace: 'demo', secretRef, secret }).headers).toEqual({ authorization });
  });

  test.each<[string, CredentialInput['secret'], RegExp]>([
    ['that is not there', undefined, /^SecretNotFound: .*Secret hub, which is not in namespace demo/],
    ['without a known key', { password: 'x' }, /^SecretNotFound: .*HF_TOKEN, token or bearer/],
    ['with a line break in the token', { token: 'a\nb: c' }, /^SecretNotFound: .*no token/],
    ['with a colon in the name', { username: 'a:b', password: 'x' }, /^SecretNotFound: .*colon/],
  ])('%s is refused with a sentence', (_, secret, expected) => {
    expect(messageOf({ secretRef, secret })).toMatch(expected);
  });

  test('without a reference gives no header', () => {
    expect(makeCredentials({ namespace: 'demo' })).toEqual({ headers: {} });
  });

  test('data is decoded', () => {
    expect(decodeSecret({ a: Buffer.from('x').toString('base64') })).toEqual({ a: 'x' });
  });
});

describe('the CA bundle', () => {
  const caBundleRef = { kind: 'ConfigMap', name: 'ca' };
  test('is handed on', () => {
    expect(makeCredentials({ namespace: 'demo', caBundleRef, caObject: { 'ca.crt': pem } }).caBundle).toBe(pem);
  });

  test.each<[string, CredentialInput['caObject'], RegExp]>([
    ['of an object that is not there', undefined, /^SecretNotFound: .*ConfigMap ca, which is not in namespace demo/],
    ['under another key', { other: 'x' }, /^SecretNotFound: .*no key ca\.crt/],
    ['that is no PEM', { 'ca.crt': 'hello' }, /^SecretNotFound: .*holds no PEM certificates/],
  ])('%s is refused with a sentence', (_, caObject, expected) => {
    expect(messageOf({ caBundleRef, caObject })).toMatch(expected);
  });
});
